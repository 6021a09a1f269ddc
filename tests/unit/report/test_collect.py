"""`harness run --collect`: what is there so far, of what was asked for, and nothing runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.campaign import plan
from harness.cli import main as cli
from harness.record import run_folder
from harness.record.readings import Scored
from harness.record.result import Measurement, Result, Status
from harness.record.spec import Options, TrialSpec

SPEC = {
    "schema": 1, "workload": "lm_grammar", "workload_version": 1, "workload_hash": "w", "metric": "loss", "mode": "min",
    "target": 0.5, "step_hint": 600, "batch_size": 32, "budget_steps": 1000, "reference_step_s": 0.01,
    "submission": "adamw", "submission_hash": "s", "hyperparameters": {}, "rules": "quick", "stop": "target",
    "clock": "calibrated", "score_compile": False, "compile_cap_s": 60.0, "free_batch_size": True, "study": 0,
    "trial": 0, "seed": 0, "tuning": False, "device": "cpu", "deterministic": True, "studies": 3, "trials": 1,
}  # fmt: skip


def add(seconds: float | None, **fields: object) -> None:
    """Write a run folder: one that reached its target, or one that has only begun."""
    spec = TrialSpec(**SPEC | fields)  # type: ignore[arg-type]
    path = run_folder.prepare(Path("runs"), spec, Options("w", "s"))
    with run_folder.hold(path) as folder:
        folder.append("attempt", attempt=1, resume_step=0)
        if seconds is not None:
            at = Scored(seconds, seconds, seconds, None)
            folder.append("measurement", **vars(Measurement(100, 3200, {"loss": 0.4}, at, True)))
            folder.write_result(Result(Status.TARGET_REACHED, "", spec.id, best=0.4))


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "make_plan", lambda *_, **__: pytest.fail("nothing is planned, and nothing exported"))


def test_what_is_there_is_scored(capsys: pytest.CaptureFixture[str]) -> None:
    add(2.0)
    add(4.0, study=1)
    add(None, study=2)
    add(9.0, submission="muon")
    add(1.0, submission="lamb")
    add(3.0, seed=7)
    add(3.0, max_steps=5)
    assert cli.main(["run", "adamw", "muon", "workload=lm_grammar", "--collect"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("3 of 6 trials finished, of what has begun\n")
    rows = [line.split() for line in out.splitlines() if line]
    assert ["lm_grammar", "adamw", "quick", "2", "of", "3", "0", "0"] in rows
    assert ["lm_grammar", "muon", "quick", "1", "of", "3", "0", "0"] in rows
    assert "lamb" not in out
    (scored,) = [row for row in rows if row[:1] == ["adamw"] and "target_reached" in row]
    assert "3.000" in " ".join(scored) or "3" in scored


def test_there_is_nothing_to_collect(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "adamw", "--collect"]) == 2
    assert "nothing of this is in runs yet; without --collect it runs" in capsys.readouterr().err
    assert cli.main(["run", "adamw", "--collect", "--dry-run"]) == 2
    assert "give one of them" in capsys.readouterr().err
