"""What the host keeps: chunks end on the grid, steps count by batch size, and the budget is in the right clock."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import RunFolderError
from harness.program.workload import GPU_MEASUREMENTS, next_measurement
from harness.record import plain_data
from harness.record import spec as specs
from harness.record.readings import Reading, Scored
from harness.record.result import Measurement
from harness.trial.checkpoints import DamagedError
from harness.trial.chunks import chunk_dispatches, next_measured
from harness.trial.clock import Ledger
from harness.trial.host_state import Baseline, HostState, count
from harness.trial.programs import MAX_CHUNK_STEPS
from harness.trial.resume import check_settings, taken_up
from harness.trial.timing import Timing


def make_spec(**fields: Any) -> specs.TrialSpec:
    base: dict[str, Any] = {
        "schema": 1, "workload": "w", "workload_version": 0, "workload_hash": "", "metric": "loss", "mode": "min",
        "target": 0.5, "step_hint": 200, "batch_size": 32, "budget_steps": 300, "reference_step_s": 0.005,
        "submission": "s", "submission_hash": "", "hyperparameters": {}, "rules": "quick", "stop": "target",
        "clock": "calibrated", "score_compile": False, "compile_cap_s": 60.0, "free_batch_size": True, "study": 0,
        "trial": 0, "seed": 0, "tuning": False, "device": "cpu", "deterministic": True,
    }  # fmt: skip
    return specs.TrialSpec(**(base | fields))


def measured(spec: specs.TrialSpec, host: HostState) -> None:
    host.measurements.append(Measurement(host.step, host.examples, {"loss": 1.0}, Scored(0, 0, 0, None), False))


def grid(step_hint: int) -> list[int]:
    steps = [next_measurement(step_hint, 0)]
    while steps[-1] < step_hint:
        steps.append(next_measurement(step_hint, steps[-1]))
    return steps


def test_grid_by_hand():
    assert grid(200) == list(range(8, 201, 8)), "every 25th of the hint"
    assert grid(800) == list(range(32, 801, 32))
    assert [next_measurement(200, done, GPU_MEASUREMENTS) for done in (0, 3, 4, 199)] == [4, 4, 8, 200]
    assert grid(60)[:6] == [3, 5, 8, 10, 12, 15], "2.4 steps, rounded up, without drift"
    # Past the horizon the budget may still run.
    assert [next_measurement(200, done) for done in (200, 203, 208)] == [208, 208, 216]


@given(st.integers(1, 50), st.integers(0, 20_000))
def test_the_next_measurement_is_later_and_follows_from_any_step(hint, done):
    step_hint = 200 * hint
    after = next_measurement(step_hint, done)
    assert done < after <= done + step_hint // 25
    # Being asked in between changes nothing: a resumed or overshooting run sees the same grid.
    assert next_measurement(step_hint, after - 1) == after


@given(st.integers(25, 3000))
def test_a_declared_length_is_measured_at_its_end(length):
    steps = grid(length)
    assert steps[-1] == length
    assert steps == sorted(set(steps))


def test_hopeless_is_what_only_gets_slower():
    host, ledger = host_of(0.01), Ledger(now=lambda: 0.0)
    timing = Timing(make_spec(clock="wall"), host)
    ledger.restore({"train": Reading(5.0, 1.0), "eval": Reading(100.0, 1.0), "init": Reading(1.0, 1.0)})
    assert timing.scored(ledger, ledger.zero).wall == 6.0
    assert [timing.past(limit, ledger) for limit in (5.9, 6.0, 6.1, None)] == [True, False, False, False]
    assert not Timing(make_spec(clock="energy"), host).past(0.0, ledger), "not measured: never hopeless"


def test_calibrated_time_is_hopeless_beyond_what_the_worth_of_seconds_may_still_move():
    host = host_of(0.01, batch_size=32)
    for seconds in (0.9, 1.1):
        host.baseline.spend("steps of 32", seconds, 100)
        host.baseline.enter(0.01, 0.02)
    host.steps_by_size = {32: 200}
    timing, ledger = Timing(make_spec(clock="calibrated"), host), Ledger(now=lambda: 0.0)
    assert timing.scored(ledger, ledger.zero).calibrated == pytest.approx(1.0)
    slack = 1 + host.baseline.error
    assert slack > 1.1
    assert [timing.past(1.0 / slack * near, ledger) for near in (0.99, 1.01)] == [True, False]


def play(spec: specs.TrialSpec, dispatch: int, sizes: list[int], total: int) -> tuple[list[int], list[int]]:
    """Run a trial's bookkeeping to `total` examples as the loop does; return the examples at measurements and at
    controls.
    """
    host = HostState(batch_size=spec.batch_size)
    control_every = spec.step_hint * spec.batch_size // 25
    measurements, controls = [], []
    while host.examples < total:
        if host.examples >= host.control_calls * control_every:
            controls.append(host.examples)
            host.control_calls += 1
            host.batch_size = sizes[host.control_calls % len(sizes)]
        calls = chunk_dispatches(spec, host, dispatch)
        due = min(next_measured(spec, host), (host.examples // control_every + 1) * control_every) - host.examples
        assert calls >= 1
        # It may pass what is due by less than the one dispatch that reaches it.
        assert (calls - 1) * dispatch * host.batch_size < due
        assert (calls - 1) * dispatch < MAX_CHUNK_STEPS
        count(host, {"loss": np.zeros(calls * dispatch, np.float32)}, 0.0)
        if host.examples >= next_measured(spec, host):
            measured(spec, host)
            measurements.append(host.examples)
    return measurements, controls


@pytest.mark.parametrize(("step_hint", "dispatch"), [(200, 1), (400, 2), (600, 3), (1000, 5)])
def test_chunks_end_on_every_measurement_and_control(step_hint, dispatch):
    spec = make_spec(step_hint=step_hint)
    measurements, controls = play(spec, dispatch, [32], step_hint * 32)
    assert measurements == [32 * step for step in grid(step_hint)]
    # Controls on a step that no dispatch ends on come with the dispatch that reaches it.
    every = step_hint // 25
    wanted = [-(-k * every // dispatch) * dispatch * 32 for k in range(25)]
    assert controls == wanted


@settings(deadline=None)
@given(
    st.integers(1, 5),
    st.sampled_from([1, 2, 5, 25]),
    st.lists(st.sampled_from([8, 16, 24, 32, 48, 64, 100]), min_size=1, max_size=5),
)
def test_with_any_batch_sizes_measurements_come_at_the_same_examples(hint, dispatch, sizes):
    spec = make_spec(step_hint=200 * hint)
    measurements, _ = play(spec, dispatch, sizes, 200 * hint * 32)
    due = [32 * step for step in grid(200 * hint)]
    late = dispatch * max(sizes)
    if late < 32 * 8 * hint:  # less than the distance of two measurements
        assert len(measurements) <= len(due)
        assert all(any(d <= m < d + late for m in measurements) for d in due)


def test_batch_ramp_by_hand():
    """A step hint of 200 at 32 examples: the first measurement and the first control are due at 256 examples."""
    spec, host = make_spec(), HostState(batch_size=8)
    assert chunk_dispatches(spec, host, 1) == 256 // 8
    count(host, {"loss": np.zeros(32)}, 0.0)
    host.batch_size = 16
    measured(spec, host)
    assert next_measured(spec, host) == 512
    assert chunk_dispatches(spec, host, 1) == 256 // 16
    count(host, {"loss": np.zeros(16)}, 0.0)
    measured(spec, host)
    host.batch_size = 24
    assert chunk_dispatches(spec, host, 1) == 11  # to 776, over 768
    count(host, {"loss": np.zeros(11)}, 0.0)
    measured(spec, host)
    assert next_measured(spec, host) == 1024
    assert chunk_dispatches(spec, host, 1) == 11  # 248 examples
    assert host.steps_by_size == {8: 32, 16: 16, 24: 11}
    assert (host.step, host.examples) == (59, 776)


def test_a_chunk_is_at_most_so_long_and_ends_at_max_steps():
    assert chunk_dispatches(make_spec(step_hint=100_000), HostState(batch_size=32), 1) == MAX_CHUNK_STEPS
    assert chunk_dispatches(make_spec(step_hint=100_000), HostState(batch_size=32), 5) == MAX_CHUNK_STEPS // 5
    assert chunk_dispatches(make_spec(max_steps=3), HostState(batch_size=32), 1) == 3
    assert chunk_dispatches(make_spec(max_steps=10), HostState(batch_size=32, step=9, examples=288), 1) == 1


def test_count_sums_metrics_until_the_next_control():
    host = host_of(0.01)
    count(host, {"loss": np.array([1.0, 2.0], np.float32), "norm": np.array([0.5, 0.25], np.float32)}, 0.5)
    count(host, {"loss": np.array([4.0], np.float32), "norm": np.array([1.0], np.float32)}, 0.25)
    assert host.metric_sums == {"loss": 7.0, "norm": 1.75}
    assert host.metric_steps == host.step == 3
    assert (host.steps_by_size, host.baseline.worth("steps of 32")) == ({32: 3}, pytest.approx(75))


def test_steps_without_a_finite_loss_are_counted_in_a_row():
    host, nan, inf = HostState(batch_size=32), math.nan, math.inf
    for losses, in_a_row in (([1.0, nan], 1), ([nan, inf, nan], 4), ([nan, 2.0, nan, nan], 2), ([0.0], 0)):
        count(host, {"loss": np.array(losses, np.float32)}, 0.1)
        assert host.unreported == in_a_row


def host_of(*step_s: float, batch_size: int = 32, **fields) -> HostState:
    """A host whose yardstick's runs took so many seconds a step, and twice that of processor time."""
    host = HostState(batch_size=batch_size, **fields)
    for seconds in step_s:
        host.baseline.enter(seconds, 2 * seconds)
    return host


def test_steps_stand_against_the_mean_of_the_runs_around_them():
    baseline = Baseline()
    baseline.begin(0.05, 0.1)  # a cold process, which stands for nothing but a first guess
    assert baseline.step_s == 0.05
    baseline.spend("steps of 32", 1.0, 50)
    assert baseline.worth("steps of 32") == pytest.approx(20), "as long as there is no other run"
    baseline.enter(0.01, 0.02)
    assert (baseline.step_s, baseline.step_cpu_s) == (0.01, 0.02)
    assert baseline.worth("steps of 32") == pytest.approx(100)
    baseline.spend("steps of 32", 4.0, 100)
    baseline.spend("eval_variables", 0.3, 1)
    baseline.enter(0.03, 0.06)
    assert baseline.ratio("steps of 32") == pytest.approx((1.0 + 4.0) / (50 * 0.01 + 100 * 0.02))
    assert baseline.worth("steps of 32") == pytest.approx(150 * 2.0)
    assert baseline.worth("eval_variables") == pytest.approx(0.3 / 0.02)
    baseline.spend("steps of 32", 5.0, 100)
    assert baseline.ratio("steps of 32") == pytest.approx(10.0 / 5.5), "the last run, until there is another"
    assert baseline.worth("steps of 32") == pytest.approx(250 * 10.0 / 5.5)
    assert (baseline.runs, baseline.ratio("steps of 8"), baseline.worth("steps of 8")) == (2, 0.0, 0.0)


def test_noise_of_the_yardstick_makes_no_program_dearer_than_it_is():
    """Steps of which one in eight takes twice as long, as on a machine that others use; runs of two steps, one behind
    each 20 of the program. Seconds over the yardstick's, run by run, would be 1.02 in the mean.
    """
    random = np.random.default_rng(0)
    step = lambda n: (0.01 * (1 + (random.random(n) < 0.125))).sum()  # noqa: E731
    ratios = []
    for _ in range(100):
        baseline = host_of(step(2) / 2).baseline
        for _ in range(40):
            baseline.spend("steps of 32", step(20), 20)
            baseline.enter(step(2) / 2, 0.0)
        ratios.append(baseline.ratio("steps of 32"))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.008)


def test_a_stall_in_a_run_makes_no_program_free():
    baseline = host_of(0.01, 0.01, 0.012).baseline
    for run in (0.01, 5.0, 0.01):  # suspended for some seconds in the second
        baseline.spend("steps of 32", 1.0, 100)
        baseline.enter(run, run)
    assert baseline.ratio("steps of 32") == pytest.approx(3.0 / (1.1 + 2.0 + 2.0))
    slow = host_of(0.01, 0.01, 0.01).baseline
    for _ in range(6):  # a slow phase is no stall
        slow.spend("steps of 32", 10.0, 100)
        slow.enter(0.1, 0.1)
    assert slow.last_s == 0.1


def test_a_process_that_goes_on_settles_what_the_one_before_left_and_counts_no_cold_run():
    baseline = host_of(0.01, 0.01).baseline
    baseline.spend("steps of 32", 1.0, 100)
    baseline.begin(0.05, 0.1)
    assert baseline.worth("steps of 32") == pytest.approx(100)
    assert (baseline.runs, baseline.step_s) == (2, 0.01)
    baseline.spend("steps of 32", 1.0, 50)
    baseline.enter(0.02, 0.04)
    assert baseline.worth("steps of 32") == pytest.approx(150)


def test_the_interval_of_the_ratio_by_hand():
    baseline = host_of(0.01).baseline
    assert baseline.error is None
    for seconds in (1.0, 2.0, 3.0):
        baseline.spend("steps of 32", seconds, 100)
        baseline.spend("eval_variables", 7.0, 1)
        baseline.enter(0.01, 0.02)
    assert baseline.error == pytest.approx(1.96 * 1.0 / math.sqrt(3) / 2.0)


def test_budget_in_the_ranking_clock():
    # 300 baseline steps, each 0.005 s of the reference machine, 0.01 s of wall and 0.02 s of processor time here
    host = host_of(0.005, 0.015)
    wall = (3.0, "wall")
    for clock, told in {"calibrated": (1.5, "calibrated"), "wall": wall, "cpu": (6.0, "cpu"), "energy": wall}.items():
        timing = Timing(make_spec(clock=clock), host)
        assert (timing.budget, timing.budget_clock) == (pytest.approx(told[0]), told[1])
    unset = Timing(make_spec(reference_step_s=0.0), host)
    assert (unset.reference_step_s, unset.budget) == (pytest.approx(0.01), pytest.approx(3.0))
    assert Timing(make_spec(clock="calibrated"), host, alone=True).budget_clock == "wall"


def test_scored_charges_one_call_of_eval_variables_and_spent_all():
    ledger = ledger_of(control=1, compile=90, init=2, train=10, eval_variables=7, eval=5, yardstick=3)
    host = host_of(0.01, 0.01)
    host.steps_by_size = {32: 20}
    host.baseline.spend("steps of 32", 10.0, 20)
    host.baseline.spend("eval_variables", 7.0, 1)
    timing = Timing(make_spec(), host)
    at_hit = timing.scored(ledger, Reading(3.0, 0.0, None))
    assert at_hit.wall == 1 + 2 + 10 + 3
    assert at_hit.calibrated == pytest.approx(at_hit.wall / 0.01 * 0.005)
    spent = timing.spent(ledger)
    assert spent.wall == 1 + 2 + 10 + 7
    assert spent.calibrated == pytest.approx(spent.wall / 0.01 * 0.005)
    assert spent.energy is None
    compiled = Timing(make_spec(score_compile=True), host).spent(ledger)
    assert compiled.wall == 20 + 30, "90 s of compiling, 60 of them free"
    assert Timing(make_spec(), host, alone=True).spent(ledger).calibrated is None


def test_what_program_and_yardstick_took():
    host = host_of(0.01, eval_variables_calls=2)
    host.steps_by_size = {32: 400, 8: 100}
    host.baseline.spend("steps of 32", 8.0, 400)
    host.baseline.spend("steps of 8", 0.5, 100)
    host.baseline.spend("eval_variables", 0.8, 2)
    found = Timing(make_spec(), host).calibration()
    assert found.step_ratio == {32: pytest.approx(2.0), 8: pytest.approx(0.5)}
    assert found.eval_variables_ratio == pytest.approx(40)
    assert (found.baseline_step_s, found.baseline_step_cpu_s, found.pairs) == (0.01, 0.02, 1)
    assert found.steps == {32: 400, 8: 100}
    assert found.baseline_source == "trial"
    assert found.process


def ledger_of(**seconds: float) -> Ledger:
    """A ledger whose spans took so many wall seconds."""
    wall = [0.0]
    ledger = Ledger(now=lambda: wall[0], cpu_now=lambda: 0.0)
    for span, taken in seconds.items():
        with ledger.span(span):
            wall[0] += taken
    return ledger


def test_a_checkpoint_of_another_clock_is_not_gone_on_from():
    host = host_of(0.01, 0.01)
    host.baseline.spend("steps of 32", 1.0, 100)
    held = json.loads(json.dumps({"host": plain_data.to_plain(host)}))
    assert taken_up(held) == host
    held["host"]["baseline"]["steps"] = held["host"]["baseline"].pop("settled")
    with pytest.raises(DamagedError, match="another version of the harness saved it"):
        taken_up(held)


def test_a_checkpoint_of_other_settings_is_refused_by_name():
    now = {"jax": "0.10.2", "XLA_FLAGS": ""}
    check_settings(now, now, "run")
    for saved, name in (
        (now | {"XLA_FLAGS": "--x"}, "XLA_FLAGS"),
        (now | {"OMP_NUM_THREADS": "1"}, "OMP_NUM_THREADS"),
        (None, "XLA_FLAGS"),
    ):
        with pytest.raises(RunFolderError, match=f"run: cannot go on: {name} was"):
            check_settings(saved, now, "run")
