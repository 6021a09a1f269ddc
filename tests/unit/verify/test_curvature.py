"""`harness curvature`: which runs it takes, what it shows of them, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from written_runs import write_run

from harness.cli import main as cli
from harness.program import discovery
from harness.record import run_folder
from harness.record.files import write_atomic
from harness.record.plain_data import to_plain
from harness.record.run_folder import Trial
from harness.trial.curvature_messages import Answer, Request
from harness.verify import curvature

TOY = discovery.find("workloads", "quadratic")
INFO = discovery.workload_info(TOY)


def kept(root: Path, **fields: Any) -> Path:
    """Write a run of the toy that keeps what it evaluated."""
    version = {"workload": "quadratic", "workload_version": INFO.target.version}
    spec = write_run(root, 3.0, **version | fields)
    path = root / spec.folder
    result = run_folder.read_trial(path).result
    assert result is not None
    write_atomic(path / "result.json", to_plain(replace(result, evaluated="abc")))
    (path / "evaluated.npz").write_bytes(b"")
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What the process is asked for, in whose place learning rates decide."""
    requests: list[Request] = []

    def answers(request: Request) -> Iterator[Answer]:
        requests.append(request)
        for case in request.cases:
            for folder in case.folders:
                trial: Trial = run_folder.read_trial(Path(folder))
                value = 1.0 / float(trial.spec.hyperparameters["lr"]) + trial.spec.study
                yield Answer(folder, "abc", 32, value, 0.02 * value * (trial.spec.submission == "muon"))

    monkeypatch.setattr(curvature, "answers", answers)
    return requests


def test_a_row_for_each_submission_and_point(tmp_path: Path, asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for study in range(3):
        kept(tmp_path, study=study)
    kept(tmp_path, submission="muon", program="m")
    kept(tmp_path, submission="muon", program="m", hyperparameters={"lr": 0.2}, missed=True)
    write_run(tmp_path, 3.0, submission="none", program="n")
    assert cli.main(["curvature", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "quadratic / adamw 0/0: lambda_max 10\n" in out and "the training loss on 4 batches of 32" in out
    rows = [line.split() for line in out.splitlines() if line.startswith(("adamw", "muon"))]
    assert rows == [
        ["adamw", "3", "3", "500", "11", "(10", "to", "12)", "<", "0.01%"],
        ["muon", "lr=0.1", "1", "1", "500", "10", "2%"],
        ["muon", "lr=0.2", "1", "0", "500", "5", "2%"],
    ]
    assert "of 2 runs" in out and "take more --products" in out
    assert "left out: the trial is target_reached, and nothing was evaluated at its end" in out
    (request,) = asked
    assert (request.batches, request.products, request.device) == (4, 20, "cpu")


def test_other_numbers_or_variables_are_computed_anew(tmp_path: Path, asked: list[Request]) -> None:
    path = kept(tmp_path)
    for words, runs in (([], 1), ([], 1), (["--batches", "8"], 2), (["--batches", "8", "--products", "9"], 3)):
        assert cli.main(["curvature", str(tmp_path), *words]) == 0
        assert len(asked) == runs
    held = run_folder.read_trial(path).result
    assert held is not None
    write_atomic(path / "result.json", to_plain(replace(held, evaluated="another")))
    assert cli.main(["curvature", str(tmp_path), "--batches", "8", "--products", "9"]) == 1, "nothing is known"
    assert len(asked) == 4


def test_what_is_refused(tmp_path: Path, asked: list[Request], capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> str:
        assert cli.main(["curvature", *words]) == 2
        return capsys.readouterr().err

    none, other, gone, damaged = (tmp_path / name for name in ("none", "other", "gone", "damaged"))
    write_run(none, 3.0)
    assert "nothing was evaluated at its end; expected a run that keeps evaluated.npz" in said(str(none))
    kept(other, workload_version=INFO.target.version + 1)
    assert "the workload is not here at the version of the record" in said(str(other))
    (kept(gone) / "evaluated.npz").unlink()
    assert "is not kept beside it" in said(str(gone))
    (kept(damaged) / "curvature.json").write_text("{")
    assert "curvature.json cannot be read" in said(str(damaged))
    assert "--products 0: expected a whole number above 0" in said(str(none), "--products", "0")
    assert "--only lm_books: no such record is there" in said(str(none), "--only", "lm_books")
    assert "no such file or folder" in said(str(tmp_path / "nowhere"))
    assert asked == []
