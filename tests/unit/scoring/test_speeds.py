"""The speed of a program is pooled over the processes that ran it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from harness.record.readings import Calibration
from harness.record.result import Result, Status
from harness.record.run_folder import Trial
from harness.record.spec import TrialSpec
from harness.scoring import score, speeds

SPEC = TrialSpec(
    schema=1, workload="w", workload_version=1, workload_hash="a", metric="loss", mode="min", target=0.5, step_hint=600,
    batch_size=32, budget_steps=1000, reference_step_s=0.01, submission="adamw", submission_hash="s",
    hyperparameters={}, rules="tuned", stop="target", clock="calibrated", score_compile=False, compile_cap_s=60.0,
    free_batch_size=True, study=0, trial=0, seed=0, tuning=False, device="cpu", deterministic=True,
    workload_program="p1", program="p2",
)  # fmt: skip


def trial(
    study: int,
    ratio: float,
    *,
    process: str | None = None,
    steps: int = 100,
    error: float | None = None,
    **changes: object,
) -> Trial:
    """A trial that reached the target after so many steps, each worth `ratio` steps of the yardstick, give or take
    `error`.
    """
    spec = replace(SPEC, study=study, **changes)
    held = Calibration(
        baseline_step_s=0.01, baseline_step_cpu_s=0.02, step_ratio={32: ratio}, eval_variables_ratio=0.0, pairs=9,
        process=process or f"p{study}", steps={32: steps}, step_ratio_error=error,
    )  # fmt: skip
    clocks = {"wall": 3.0 * steps, "cpu": 3.0, "calibrated": ratio * steps * 0.01, "energy": None}
    hit = {"event": "measurement", "step": steps, "metrics": {"loss": 0.4}, "scored": clocks, "met": True}
    return Trial(
        Path("runs") / spec.folder, spec, Status.TARGET_REACHED, "", [hit],
        Result(Status.TARGET_REACHED, "", spec.id, calibration=held),
    )  # fmt: skip


def test_a_trial_is_charged_the_mean_speed_of_its_program() -> None:
    found = score.score([trial(0, 0.98), trial(1, 1.00), trial(2, 1.05, steps=200)])
    assert found.ranking is not None
    (speed,) = found.speeds.values()
    assert speed.step_ratio == {32: pytest.approx(1.01)}
    # 100, 100 and 200 steps at 1.01: the median is 1.01, and on the wall clock what was measured.
    assert found.times["calibrated"]["adamw"]["w"] == pytest.approx(1.01)
    assert found.times["wall"]["adamw"]["w"] == pytest.approx(300.0)
    assert speed.processes == pytest.approx((0.98 / 1.01, 1.00 / 1.01, 1.05 / 1.01))
    assert any("mean speed over 3 processes, which differ by up to 3.6%" in note for note in found.notes)


def test_processes_weigh_alike_however_many_trials_they_ran() -> None:
    trials = [trial(0, 1.0, process="a"), trial(1, 1.0, process="a"), trial(2, 1.2, process="b")]
    (speed,) = speeds.pooled(trials).values()
    assert speed.step_ratio == {32: pytest.approx(1.1)}
    assert speeds.own_over_pooled(trials[0], speeds.pooled(trials)) == pytest.approx(1.0 / 1.1)


def test_a_process_in_which_the_machine_stalled_weighs_less() -> None:
    # The yardstick of the third ran while the machine stalled: its ratio is small, and known to be uncertain.
    trials = [trial(0, 1.10, error=0.04), trial(1, 1.08, error=0.04), trial(2, 0.40, error=0.40)]
    (speed,) = (pool := speeds.pooled(trials)).values()
    weights = [1 / (speeds.BETWEEN**2 + (error / 1.96) ** 2) for error in (0.04, 0.04, 0.40)]
    mean = sum(w * ratio for w, ratio in zip(weights, (1.10, 1.08, 0.40), strict=True)) / sum(weights)
    assert 1.07 < mean < 1.09
    assert speed.step_ratio[32] == pytest.approx(mean)
    assert speed.processes == pytest.approx((0.40 / mean, 1.08 / mean, 1.10 / mean))
    assert speed.scatter is not None and 0.05 < speed.scatter < 0.15 < (1.10 - 0.40) / 2
    found = score.score(trials)
    assert found.times["calibrated"]["adamw"]["w"] == pytest.approx(mean), "all took as many steps"
    # In a draw of processes the plain mean moves as the weighted one does when one counts more.
    drawn = [speeds.drawn(one, pool) for one in trials]
    assert sum(drawn) / 3 == pytest.approx(1.0, abs=1e-9)
    assert 0.85 < drawn[2] < 1.0


def test_a_trial_too_short_for_the_yardstick_weighs_next_to_nothing() -> None:
    trials = [trial(0, 0.23, error=None), trial(1, 0.96, error=0.046), trial(2, 1.15, error=None)]
    (speed,) = speeds.pooled(trials).values()
    assert speed.step_ratio[32] == pytest.approx(0.96, abs=0.01)


def test_processes_that_differ_by_more_than_is_known_make_the_speed_less_certain() -> None:
    ratios = (0.8, 1.0, 1.2)
    (speed,) = speeds.pooled([trial(n, ratio, error=0.01) for n, ratio in enumerate(ratios)]).values()
    assert speed.error == pytest.approx(1.96 * 0.2 / math.sqrt(3), rel=0.02), "as their own scatter tells"
    (alike,) = speeds.pooled([trial(n, 1.0, error=0.01) for n in range(3)]).values()
    assert alike.error == pytest.approx(1.96 * speeds.BETWEEN / math.sqrt(3), rel=0.02), "no better than is known"


def test_dear_seeds_are_charged_however_badly_they_were_measured() -> None:
    trials = [trial(0, 1.0, error=0.01), trial(1, 1.0, error=0.01), trial(2, 1.5, error=0.5)]
    pool = speeds.pooled(trials)
    assert speeds.own_over_pooled(trials[2], pool) == speeds.SLOWEST
    assert score.score(trials).cells["adamw"]["w"][2].times["calibrated"] == pytest.approx(1.5 / speeds.SLOWEST)


def test_other_programs_and_workloads_are_pools_of_their_own() -> None:
    trials = [trial(0, 1.0), trial(1, 1.1, program="p3"), trial(2, 1.2, workload="w2")]
    assert sorted(one.step_ratio[32] for one in speeds.pooled(trials).values()) == pytest.approx([1.0, 1.1, 1.2])
    old = trial(3, 9.0, process="p0", program=None, workload_program=None)
    assert speeds.program_of(old) is None
    assert speeds.own_over_pooled(old, speeds.pooled(trials)) == 1.0


def test_one_process_alone_is_charged_what_it_took() -> None:
    (one,) = trials = [trial(0, 1.2345678, error=0.0321)]
    assert speeds.own_over_pooled(one, speeds.pooled(trials)) == 1.0, "to the last digit"


def test_batch_sizes_are_pooled_each() -> None:
    ramp = trial(0, 1.0)
    assert ramp.result is not None
    assert ramp.result.calibration is not None
    both = replace(ramp.result.calibration, step_ratio={32: 1.0, 64: 2.0}, steps={32: 100, 64: 50})
    ramped = replace(ramp, result=replace(ramp.result, calibration=both))
    pool = speeds.pooled([ramped, trial(1, 1.2)])
    (speed,) = pool.values()
    assert speed.step_ratio == {32: pytest.approx(1.1), 64: pytest.approx(2.0)}
    assert speeds.own_over_pooled(ramped, pool) == pytest.approx((100 * 1.0 + 50 * 2.0) / (100 * 1.1 + 50 * 2.0))


def test_the_fastest_trial_of_a_study_is_not_the_one_whose_process_was() -> None:
    # The second trial needs fewer steps; the first has the faster process and the less time of its own.
    slow, fast = trial(0, 1.0, steps=100, process="a"), trial(0, 1.2, steps=90, process="b", trial=1)
    found = score.score([slow, fast])
    assert found.cells["adamw"]["w"][0].steps == 90
    assert found.times["calibrated"]["adamw"]["w"] == pytest.approx(90 * 1.1 * 0.01)


def test_what_processes_did_stays_in_the_interval() -> None:
    ratios = [0.97, 0.98, 0.99, 1.0, 1.01, 1.02, 1.03]
    found = score.score([trial(k, ratio) for k, ratio in enumerate(ratios)])
    assert found.ranking is not None
    ends = found.ranking.time["adamw"]["w"].interval
    assert ends is not None
    error = 0.02 / math.sqrt(7)
    assert ends == pytest.approx((1.0 - 1.96 * error, 1.0 + 1.96 * error), abs=0.004)


def test_how_coarse_a_time_is_is_told() -> None:
    """A target is met at a measurement: what lies between it and the one before is not resolved."""
    coarse = trial(0, 1.0, steps=100)
    missed = {**coarse.events[0], "step": 70, "metrics": {"loss": 0.6}, "met": False}
    trials = [replace(coarse, events=[missed, *coarse.events]), trial(1, 1.0)]
    (note,) = (note for note in score.score(trials).notes if "first measurement that meets" in note)
    assert "earlier by 30% for adamw on w (steps 70 and 100)" in note
    fine = [replace(coarse, events=[{**missed, "step": 96}, *coarse.events])]
    assert not any("first measurement that meets" in note for note in score.score(fine).notes)


def test_how_well_a_speed_is_known_is_told() -> None:
    trials = [trial(k, 1.0, error=0.04) for k in range(3)]
    (speed,) = speeds.pooled(trials).values()
    error = 1.96 * math.sqrt((speeds.BETWEEN**2 + (0.04 / 1.96) ** 2) / 3)
    assert speed.error == pytest.approx(error)
    assert any(f"known within {error:.1%} (95%; " in note for note in score.score(trials).notes)
    assert not any("known within" in note for note in score.score(trials, clock="wall").notes)
