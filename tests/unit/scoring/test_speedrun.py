"""Runs of a declared length: who declares it, what the loop does with it, and the verdict by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.campaign import hyperparameters
from harness.campaign.config import compose
from harness.campaign.pairing import Pairing
from harness.errors import ConfigError
from harness.program import discovery, submission
from harness.record.result import Result, Status
from harness.record.run_folder import Trial
from harness.record.spec import TrialSpec
from harness.report import score_files, scores
from harness.scoring import score, speedrun

SPEC = TrialSpec(
    schema=1, workload="w1", workload_version=1, workload_hash="aaaa", metric="loss", mode="min", target=0.5,
    step_hint=600, batch_size=32, budget_steps=1000, reference_step_s=0.01, submission="adamw", submission_hash="s1",
    hyperparameters={"learning_rate": 0.01}, rules="speedrun", stop="horizon", clock="calibrated", score_compile=False,
    compile_cap_s=60.0, free_batch_size=True, study=0, trial=0, seed=0, tuning=False, device="cpu", deterministic=True,
    counts="mean", steps=400, studies=4, trials=1,
)  # fmt: skip


def run(
    tmp_path: Path, study: int, last: float | None, *, status: Status = Status.HORIZON_REACHED, **fields: Any
) -> Trial:
    """A run that was below the target on its way, and ends at `last` after 4 s."""
    spec = replace(SPEC, study=study, **fields)
    half, whole = spec.horizon // 2, spec.horizon
    events = [measurement(half, 0.1, 2.0), *([] if last is None else [measurement(whole, last, 4.0 + study)])]
    return Trial(tmp_path / spec.folder, spec, status, "", events, Result(status, "", spec.id))


def measurement(step: int, loss: float, seconds: float) -> dict[str, Any]:
    clocks = {"wall": seconds, "cpu": seconds, "calibrated": seconds, "energy": None}
    return {
        "v": 1, "event": "measurement", "step": step, "examples": 32 * step, "metrics": {"loss": loss},
        "scored": clocks, "met": loss <= 0.5,
    }  # fmt: skip


def test_the_test_by_hand() -> None:
    # Four values, mean 0.49, sd 0.01: t = 0.01 / (0.01 / 2) = 2 with 3 degrees of freedom, one-sided p = 0.0697.
    values = [0.49 + 0.01 * x for x in (-1.224744871, 0.0, 0.0, 1.224744871)]
    assert speedrun.p_value(values, 0.5, "min") == pytest.approx(0.06966, abs=1e-5)
    assert speedrun.p_value([-v for v in values], -0.5, "max") == pytest.approx(0.06966, abs=1e-5)
    assert speedrun.p_value([-v for v in values], -0.5, "min") == pytest.approx(1 - 0.06966, abs=1e-5)
    assert speedrun.p_value([0.4, 0.4], 0.5, "min") == 0.0
    assert speedrun.p_value([0.5, 0.5], 0.5, "min") == 1.0, "at the target is not beyond chance"
    assert speedrun.p_value([0.1], 0.5, "min") is None


@pytest.mark.parametrize(
    ("values", "met", "why"),
    [
        ([0.40, 0.41, 0.42, 0.41], True, ""),
        ([0.49, 0.51, 0.48, 0.49], False, ""),  # the mean is below the target, within chance
        ([0.458553, 0.4708, 0.4708, 0.483047], False, ""),  # t = 5.84 with 3 degrees of freedom: p = 0.005
        ([0.60, 0.61, 0.62, 0.61], False, ""),
        ([0.40, 0.41, 0.42, None], False, "1 of 4 runs did not reach the last step with a finite loss"),
        ([0.40, 0.41, 0.42], None, "1 of 4 runs are missing"),
    ],
)
def test_verdicts(tmp_path: Path, values: list[float | None], met: bool | None, why: str) -> None:
    found = score.score([run(tmp_path, i, value) for i, value in enumerate(values)])
    (verdict,) = found.verdicts
    assert (verdict.met, verdict.why, verdict.steps, verdict.runs, verdict.expected) == (met, why, 400, len(values), 4)
    assert found.ranking is None
    assert (verdict.p is None) == bool(why)
    if not why:
        assert verdict.time == 5.5, "median of 4, 5, 6 and 7 s: that of the last step, not of the first hit"
        assert verdict.mean == pytest.approx(sum(values) / 4)


def test_what_is_missing_may_be_allowed_and_failures_never(tmp_path: Path) -> None:
    runs = [run(tmp_path, i, 0.4 + i / 1000) for i in range(3)]
    assert score.score(runs, allow_missing=True).verdicts[0].met is True
    crashed = run(tmp_path, 3, 0.4, status=Status.CRASHED)
    assert score.score([*runs, crashed], allow_missing=True).verdicts[0].met is False
    (alone,) = score.score(runs[:1], allow_missing=True).verdicts
    assert (alone.met, alone.why) == (None, "one run: no test")


def test_the_table_and_the_json_show_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shorter = {"submission": "muon", "steps": 300}
    runs = [run(tmp_path, i, 0.4 + i / 100) for i in range(4)] + [run(tmp_path, i, 0.45, **shorter) for i in range(4)]
    found = score.score(runs)
    scores.show(found)
    out = capsys.readouterr().out
    assert "w1: mean loss at most 0.5, version 1, at p < 0.001" in out
    assert "note: the length was declared beforehand; how many were tried before it, and whether" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith(("adamw", "muon"))}
    assert rows["muon"][1:5] == ["4", "of", "4", "300"]
    assert rows["adamw"][-2:] == ["met", "5.500"]
    data = json.loads(json.dumps(score_files.as_json(found), allow_nan=False))
    assert [(v["submission"], v["steps"], v["met"]) for v in data["verdicts"]] == [
        ("muon", 300, True),
        ("adamw", 400, True),
    ]


def cell(device: str, *words: str, **fields: Any) -> Pairing:
    request = compose(["rules=speedrun", "device=cpu", *words])
    place, folder = discovery.find("workloads", "lm_grammar"), discovery.find("submissions", "adamw")
    about = replace(submission.read_info(folder), **fields)
    found = hyperparameters.points_of(folder, about, request.rules, request)
    return Pairing(request, request.rules, device, place, discovery.workload_info(place), folder, about, found)


def test_the_user_or_the_submission_declares_the_length() -> None:
    hint = discovery.workload_info(discovery.find("workloads", "lm_grammar")).step_hint
    assert cell("cpu").spec({}, 0, 0).steps == hint
    assert cell("cpu", speedrun_length=0.5).spec({}, 0, 0).steps == hint // 2
    spec = cell("cpu", "steps=401", speedrun_length=0.5).spec({}, 0, 0)
    assert (spec.steps, spec.horizon, spec.step_hint, spec.stop, spec.counts) == (401, 401, hint, "horizon", "mean")
    assert cell("gpu", speedrun_length=0.3334).spec({}, 0, 0).steps % 3 == 0, "whole dispatches"
    with pytest.raises(ConfigError, match=r"steps=401: expected at least 27, .* multiple of 3"):
        cell("gpu", "steps=401").spec({}, 0, 0)
    with pytest.raises(ConfigError, match="expected at least 25"):
        cell("cpu", "steps=24").spec({}, 0, 0)


def test_a_run_has_the_declared_length(make_trial, run_worker) -> None:
    """In a real trial: measured at its last step, and not stopped where it meets the target before."""
    path = make_trial(
        "quadratic", "adamw", hp={"learning_rate": 0.05}, rules="speedrun", counts="mean", stop="horizon", steps=150,
        budget_steps=10**7,
    )  # fmt: skip
    trial = run_worker(path)
    assert (trial.status, trial.result.steps) == (Status.HORIZON_REACHED, 150)
    steps = [m.step for m in trial.measurements]
    assert (steps[0], steps[-1]) == (150 // 25, 150), "the grid is that of the declared length"
    (verdict,) = speedrun.verdicts([trial], "calibrated", 1)
    assert (verdict.mean, verdict.why) == (trial.measurements[-1].metrics["loss"], "one run: no test")
