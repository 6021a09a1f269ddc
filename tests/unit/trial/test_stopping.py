"""Why a trial ends: each reason by itself, and which of two comes first."""

from __future__ import annotations

import dataclasses

import pytest

from harness.record.readings import Scored
from harness.record.result import Measurement, Status
from harness.record.spec import SCHEMA, TrialSpec
from harness.trial.host_state import HostState
from harness.trial.stopping import Spent, stop_reason

SPEC = TrialSpec(
    schema=SCHEMA, workload="task", workload_version=1, workload_hash="w", metric="loss", mode="min", target=0.5,
    step_hint=400, batch_size=8, budget_steps=600, reference_step_s=0.1, submission="mine", submission_hash="s",
    hyperparameters={}, rules="quick", stop="target", clock="calibrated", score_compile=False, compile_cap_s=60.0,
    free_batch_size=True, study=0, trial=0, seed=0, tuning=False, device="cpu", deterministic=True,
)  # fmt: skip
HORIZON = dataclasses.replace(SPEC, stop="horizon")
CHEAP = Spent(budget_s=1.0, of_s=60.0, train_wall_s=1.0, safety_s=600.0)


def host(step: int = 100, *, met: bool = False, size: int = 8) -> HostState:
    measured = Measurement(step, step * size, {"loss": 0.4 if met else 0.6}, Scored(1.0, 1.0, 1.0, None), met)
    return HostState(batch_size=size, step=step, examples=step * size, measurements=[measured])


def ended(spec: TrialSpec, at: HostState, spent: Spent = CHEAP, *, interrupted: bool = False) -> Status | None:
    ending = stop_reason(spec, at, spent, interrupted=interrupted)
    return ending and ending.status


def test_it_goes_on_while_nothing_ends_it():
    assert ended(SPEC, host()) is None
    assert ended(SPEC, HostState(batch_size=8)) is None, "nothing is measured yet"
    assert ended(SPEC, host(step=10_000)) is None, "a target is looked for past the horizon"
    assert ended(HORIZON, host(met=True)) is None, "the horizon is gone through, target or not"


@pytest.mark.parametrize(
    ("spec", "at", "spent", "interrupted", "status", "reason"),
    [
        (SPEC, host(met=True), CHEAP, False, Status.TARGET_REACHED, "loss met 0.5 at step 100"),
        (dataclasses.replace(SPEC, max_steps=100), host(), CHEAP, False, Status.HORIZON_REACHED, "max_steps=100 done"),
        (HORIZON, host(step=400), CHEAP, False, Status.HORIZON_REACHED, "all 400 steps of the horizon done"),
        (SPEC, host(), dataclasses.replace(CHEAP, budget_s=60.0), False, Status.BUDGET_EXHAUSTED, "60 s of 60 s"),
        (SPEC, host(), Spent(0.0123456, 0.012, 0.0, 1.0), False, Status.BUDGET_EXHAUSTED, "0.01235 s of 0.012 s spent"),
        (
            SPEC,
            host(),
            dataclasses.replace(CHEAP, hopeless_s=12.5),
            False,
            Status.HOPELESS,
            "12.5 on the calibrated",
        ),
        (SPEC, host(), dataclasses.replace(CHEAP, train_wall_s=600.0), False, Status.BUDGET_EXHAUSTED, "safety stop"),
        (SPEC, host(), CHEAP, True, Status.INTERRUPTED, "saved at step 100; run again to go on"),
    ],
)
def test_each_reason(spec, at, spent, interrupted, status, reason):
    ending = stop_reason(spec, at, spent, interrupted=interrupted)
    assert ending is not None
    assert ending.status == status
    assert reason in ending.reason


def test_the_target_comes_before_every_other_reason():
    spent = Spent(budget_s=99.0, of_s=60.0, train_wall_s=999.0, safety_s=600.0, hopeless_s=1.0)
    spec = dataclasses.replace(SPEC, max_steps=100)
    assert ended(spec, host(met=True), spent, interrupted=True) == Status.TARGET_REACHED
    assert ended(spec, host(), spent, interrupted=True) == Status.HORIZON_REACHED
    assert ended(SPEC, host(), spent, interrupted=True) == Status.BUDGET_EXHAUSTED


def test_a_smoke_test_ends_at_its_steps_and_not_at_a_budget_of_milliseconds():
    smoke = dataclasses.replace(SPEC, max_steps=200)
    assert ended(smoke, host(), dataclasses.replace(CHEAP, budget_s=99.0)) is None
    assert ended(smoke, host(), dataclasses.replace(CHEAP, train_wall_s=999.0)) == Status.BUDGET_EXHAUSTED


def test_the_horizon_is_in_examples_and_has_no_budget():
    assert ended(HORIZON, host(step=399, size=8)) is None
    assert ended(HORIZON, host(step=200, size=16)) == Status.HORIZON_REACHED
    assert ended(HORIZON, host(), dataclasses.replace(CHEAP, budget_s=99.0, hopeless_s=1.0)) is None
    assert ended(HORIZON, host(), dataclasses.replace(CHEAP, train_wall_s=999.0)) == Status.BUDGET_EXHAUSTED
