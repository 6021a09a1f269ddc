"""Whole trials in real subprocesses: algorithms that use each field of `Algorithm`, and faults that must not pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.program import store
from harness.record import run_folder
from harness.record.result import Status

TESTS = Path(__file__).resolve().parent.parent
ALGORITHMS = sorted(p.name for p in (TESTS / "algorithms").iterdir() if (p / "submission.py").exists())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_algorithm_reaches_the_target(make_trial, run_worker, name):
    path = TESTS / "algorithms" / name
    assert len((path / "submission.py").read_text().splitlines()) <= 40
    trial = run_worker(make_trial("quadratic", path))
    assert (trial.status, trial.hit.metrics["loss"] <= trial.spec.target) == (Status.TARGET_REACHED, True), trial.reason
    result = trial.result
    assert result.time_to_target == trial.hit.scored
    assert sum(r.wall_s for r in result.ledger.values()) == pytest.approx(result.wall_s)
    assert result.test["loss"] < 5 * trial.spec.target

    cost = {size: (c["gradient_calls"], c["forward_examples"]) for size, c in result.cost.items()}
    b = trial.spec.batch_size
    expected = {
        "sam": {b: (2, 2 * b)},
        "hard_examples": {b: (1, 5 * b)},
        "batch_ramp": {size: (1, size) for size in (b // 4, b // 2, b)},
    }
    assert cost == {str(size): c for size, c in expected.get(name, {b: (1, b)}).items()}
    uses_eval_variables = name in ("ema", "recalibration")
    assert (result.ledger["eval_variables"].wall_s > 0) == uses_eval_variables
    assert (result.calibration.eval_variables_ratio > 0) == uses_eval_variables
    if name == "batch_ramp":
        sizes = [e["answer"]["batch_size"] for e in trial.events if e["event"] == "control"]
        assert sizes[0] == b // 4
        assert sorted(set(sizes)) == sorted([b // 4, b // 2, b])[: len(set(sizes))]
        assert result.examples < result.steps * b
    else:
        assert result.examples == result.steps * b


BROKEN = {
    "calls_back": "a callback to the host (jax.debug.print, jax.pure_callback) cannot be part of a program",
    "changes_dtype": "from float32 to bfloat16",
    "changes_tree": "changed the tree of opt_state",
    "missing_build": "expected a function build(task, hp)",
    "raises_in_build": "submission.py:5 (build): KeyError",
    "syntax_error": "submission.py:4: SyntaxError",
    "wrong_return": "must return an optax.GradientTransformation or a harness.api.Algorithm",
}
"""Folders of `faults` that no program comes of."""


def test_broken_submissions_are_told_before_anything_starts_and_the_others_run(tmp_path):
    folders = [str(TESTS / "faults" / name) for name in BROKEN] + [str(TESTS / "algorithms/polyak")]
    command = [sys.executable, "-m", "harness.cli", "run", *folders, "workload=quadratic", "rules.budget_factor=1000"]
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600, cwd=tmp_path, env=environment
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for name, says in BROKEN.items():
        told, repeated = [line for line in errors if f"faults/{name}/submission.py" in line]
        assert says in told
        assert repeated == told.replace("error: ", "error: not run: ", 1)
    assert len(errors) == 2 * len(BROKEN)
    assert "1 of 1 trials to run" in done.stdout
    assert "target_reached" in done.stdout
    assert [path.name for path in (tmp_path / "runs/quadratic").iterdir()] == ["polyak"]


@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        ("returns_nan", Status.DIVERGED, "step 32"),
        ("wants_a_petabyte", Status.OUT_OF_MEMORY, "1125899906842624 bytes"),
    ],
)
def test_fault_is_recorded_with_its_cause(make_trial, run_worker, fault, status, says):
    trial = run_worker(make_trial("quadratic", TESTS / "faults" / fault))
    assert trial.status == status, trial.reason
    assert says in trial.reason
    assert "\n" not in trial.reason
    assert trial.result.time_to_target is None


def test_what_goes_wrong_in_control_is_recorded_with_its_cause(make_trial, run_worker):
    says = {
        "raises": "submission.py:17 (control): ValueError in control at step 8: seven is too many",
        "exits": "submission.py: the process of `control` ended, exit code 7",
        "no answer": "in control at step 8: returned str; return a harness.api.Control or None",
        "other size": "submission.py: control asked for batch size 7; batch_sizes has only [32]",
    }
    path = TESTS / "faults/bad_control"
    for text, trial in zip(
        says.values(),
        run_worker(*(make_trial("quadratic", path, stop="horizon", hp={"fault": fault}) for fault in says)),
        strict=True,
    ):
        assert trial.status == Status.CRASHED, trial.reason
        assert text in trial.reason
        assert "\n" not in trial.reason
        assert "faults/bad_control" in trial.reason
        assert trial.result.time_to_target is None


def test_a_trial_whose_program_is_gone_says_so(make_trial, run_worker):
    path = make_trial("quadratic", TESTS / "algorithms/polyak", seed=1)
    shutil.rmtree(store.root() / run_folder.read_spec(path)[0].program)
    trial = run_worker(path)
    assert trial.status == Status.CRASHED
    assert "plan the trial anew, which exports it" in trial.reason


def test_horizon_mode_runs_on_past_the_target_and_agrees_on_the_time(make_trial, run_worker):
    hp = {"learning_rate": 0.2, "weight_decay": 0.0}
    stopped = run_worker(make_trial("quadratic", "adamw", hp=hp))
    whole = run_worker(make_trial("quadratic", "adamw", hp=hp, stop="horizon"))
    assert (stopped.status, whole.status) == (Status.TARGET_REACHED, Status.HORIZON_REACHED)
    assert whole.result.steps == whole.spec.step_hint
    assert whole.result.steps_to_target == stopped.result.steps == stopped.result.steps_to_target
    same = [m.metrics for m in whole.measurements][: len(stopped.measurements)]
    assert same == [m.metrics for m in stopped.measurements], "same seed, same bits, wherever the trial ends"
    assert [m.step for m in whole.measurements] == list(range(8, 201, 8))


def test_budget_ends_a_trial_that_does_not_reach_the_target(make_trial, run_worker):
    trial = run_worker(make_trial("quadratic", "adamw", hp={"learning_rate": 1e-5}, budget_steps=200))
    assert trial.status == Status.BUDGET_EXHAUSTED
    assert trial.result.time_to_target is None
    last = [e for e in trial.events if e["event"] == "chunk"][-1]
    budget = next(e for e in trial.events if e["event"] == "budget")
    assert last["spent"]["calibrated"] >= budget["seconds"] == pytest.approx(200 * trial.spec.reference_step_s)


def test_control_may_stop_the_trial(make_trial, run_worker, tmp_path):
    folder = tmp_path / "stops"
    folder.mkdir()
    source = (TESTS / "algorithms/batch_ramp/submission.py").read_text()
    stops = source.replace("horizon / 4:", "horizon / 4:\n            return Control(stop=True)")
    (folder / "submission.py").write_text(stops)
    text = (TESTS / "algorithms/batch_ramp/submission.yaml").read_text()
    (folder / "submission.yaml").write_text(text.replace("name: batch_ramp", "name: stops"))
    trial = run_worker(make_trial("quadratic", folder))
    assert (trial.status, trial.result.steps) == (Status.STOPPED, 0)


def test_rules_may_fix_the_batch_size(make_trial, run_worker):
    trial = run_worker(make_trial("quadratic", TESTS / "algorithms/batch_ramp", free_batch_size=False))
    assert trial.status == Status.CRASHED
    assert "fix the batch size at 32" in trial.reason
