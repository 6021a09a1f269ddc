"""Sweeps: the same numbers as trials give, from points that share a program, in processes that can be taken further."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest

from harness.errors import HarnessError, SubmissionError
from harness.machine import children, flags
from harness.program import discovery, processes
from harness.record import plain_data
from harness.record.result import Status
from harness.search import sweeps
from harness.trial.sweep import Sweep
from harness.trial.sweep_messages import Answer, Request

QUADRATIC = discovery.find("workloads", "quadratic")
HP = {"learning_rate": 0.05, "warmup_fraction": 0.05, "horizon": 1.0, "b1": 0.9, "b2": 0.98, "eps": 1e-8}
ENDS = {"learning_rate": (1e-3, 0.1), "weight_decay": (5e-3, 0.5), "horizon": (0.6, 2.0)}


def program_of(name: str, point: dict, ends: dict) -> str:
    folder = discovery.find("submissions", name)
    budget = discovery.workload_info(QUADRATIC).budget_steps
    (program,) = processes.submission_programs(QUADRATIC, folder, [point], budget, ends=ends)
    return program.manifest.id


def request(
    until: int = 200, *, lr: float = 0.05, decay: float = 0.05, submission: str = "adamw", ends=None, **fields
) -> Request:
    point = fields.pop("hyperparameters", HP | {"learning_rate": lr, "weight_decay": decay})
    program = program_of(submission, point, ENDS if ends is None else ends)
    wanted = Request(submission, program, point, seed=0, study=0, tuning=True, until=until)
    return dataclasses.replace(wanted, **fields)


def test_a_run_measures_what_a_trial_measures(make_trial, run_worker) -> None:
    hp = dict(request().hyperparameters)
    trial = run_worker(make_trial("quadratic", "adamw", hp=hp, tuning=True, stop="horizon"))
    assert trial.status == Status.HORIZON_REACHED
    answer = Sweep(QUADRATIC).run(request())
    assert answer.status == "running"
    assert answer.steps == tuple(m.step for m in trial.measurements)
    assert answer.values == pytest.approx([m.metrics["loss"] for m in trial.measurements], rel=1e-4)


def test_a_run_goes_on_where_it_was_and_points_do_not_mix() -> None:
    sweep = Sweep(QUADRATIC)
    whole = sweep.run(request(96))
    other = Sweep(QUADRATIC)
    other.run(request(48))
    other.run(request(48, lr=0.01))
    other.run(request(48, study=1))
    again = other.run(request(96))
    assert (again.steps, again.values) == (whole.steps, whole.values)
    assert other.run(request(48, lr=0.01)).values != whole.values[:6]
    assert other.run(request(48, study=1)).values != whole.values[:6]
    assert other.run(request(48, tuning=False)).values != whole.values[:6]


def test_points_share_a_program() -> None:
    sweep = Sweep(QUADRATIC)
    longer = request(24).hyperparameters | {"horizon": 2.0}
    for one in (request(24), request(24, lr=0.02), request(24, lr=0.03), request(24, hyperparameters=longer)):
        sweep.run(one)
    assert len(sweep._programs) == 1, "the length of a schedule is an argument too"
    sweep.run(request(24, hyperparameters=request().hyperparameters | {"b1": 0.5}))
    assert len(sweep._programs) == 2, "what the search does not move is a constant"


def test_an_argument_and_a_constant_give_the_same_bits() -> None:
    sweep = Sweep(QUADRATIC)
    for name in ENDS:
        longer = request(200).hyperparameters | {"horizon": 1.7, "weight_decay": 0.1}
        argument = request(200, hyperparameters=longer, ends={name: ENDS[name]})
        constant = request(200, hyperparameters=longer, ends={})
        assert argument.program != constant.program
        assert sweep.run(argument).values == sweep.run(constant).values


def test_a_run_ends_at_its_target() -> None:
    whole = Sweep(QUADRATIC).run(request(200))
    target = whole.values[3]
    sweep = Sweep(QUADRATIC)
    ended = sweep.run(request(200, target=target))
    assert ended.values[-1] <= target < min(ended.values[:-1])
    assert ended.steps == whole.steps[: len(ended.steps)]
    assert sweep.run(request(200, target=target)) == ended, "asked again, it trains no further"


def test_a_diverged_run_ends() -> None:
    answer = Sweep(QUADRATIC).run(request(lr=1e30))
    assert (answer.status, answer.values[-1]) == ("diverged", None)
    assert answer.steps[-1] < 200


def test_evaluation_parameters_are_what_is_measured() -> None:
    """An average of the parameters lags behind them."""
    sweep = Sweep(QUADRATIC)

    def averaged(decay: float) -> Answer:
        point = {"learning_rate": 0.05, "decay": decay}
        return sweep.run(request(48, submission="tests/algorithms/ema", hyperparameters=point, ends={}))

    assert averaged(0.99).values[0] > averaged(0.0).values[0]


def test_control_needs_whole_trials() -> None:
    ramp = request(24, submission="tests/algorithms/batch_ramp", hyperparameters={"learning_rate": 0.05}, ends={})
    with pytest.raises(SubmissionError, match="control and batch sizes need whole trials"):
        Sweep(QUADRATIC).run(ramp)


def test_processes_side_by_side() -> None:
    seen: list[Answer] = []
    with sweeps.started(QUADRATIC, 2) as pool:
        wanted = [request(24, lr=lr) for lr in (0.01, 0.02, 0.03)]
        first = pool.run(wanted, lambda _, answer: seen.append(answer))
        assert sorted(a.values for a in seen) == sorted(a.values for a in first)
        further = pool.run([dataclasses.replace(r, until=48) for r in reversed(wanted)])
        with pytest.raises(HarnessError, match=r"adamw: its program 0123 is not in .*programs"):
            pool.run([request(24, program="0123")])
    here = Sweep(QUADRATIC)
    for asked, near, far in zip(wanted, first, reversed(further), strict=True):
        assert near.values == far.values[:3] == here.run(asked).values
        assert far.steps == tuple(range(8, 49, 8))


def test_processes_on_one_card_leave_memory_to_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    monkeypatch.setattr(children, "command", lambda *_: [sys.executable, "-c", code])
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    for device, preallocates in (("gpu", "false"), ("cpu", "true")):
        with sweeps.started(QUADRATIC, 1, device=device) as pool:
            (process,) = pool._processes
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["XLA_PYTHON_CLIENT_PREALLOCATE"] == preallocates
    alone = flags.environment("gpu", deterministic=False, given={})
    assert "XLA_PYTHON_CLIENT_PREALLOCATE" not in alone, "a trial has its card to itself"


def test_a_process_that_ends_is_told() -> None:
    with sweeps.started(QUADRATIC, 1) as pool:
        pool._processes[0].kill()
        with pytest.raises(HarnessError, match="a sweep process ended"):
            pool.run([request(24)])


def test_a_process_ends_in_the_middle_of_a_run_when_whoever_asked_is_gone() -> None:
    with sweeps.started(QUADRATIC, 1) as pool:
        (process,) = pool._processes
        pool.run([request(24)])
        assert process.stdin is not None
        process.stdin.write(json.dumps(plain_data.to_plain(request(10**9))) + "\n")
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_requests_travel_as_plain_values() -> None:
    assert plain_data.read(Request, plain_data.to_plain(request()), "request") == request()
