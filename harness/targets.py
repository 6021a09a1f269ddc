"""How a validation target follows from recorded baseline runs: a pure function of them, so that none is typed in.

The protocol: tune the baseline by its final metric at full horizon on tuning seeds, run the best point on fresh seeds,
and take the median of the metric at 90% of the horizon, where the curve is still steep enough for time-to-target to be
sharp. Where that is closer to the final metric than its seeds vary, the target is eased to 1.645 standard deviations.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import WorkloadError
from harness.records import Trial
from harness.spec import Value
from harness.workload import Mode, Target

TARGET_AT = 0.9  # of the horizon
MIN_MARGIN_SD = 1.645  # of the final metric, on the easy side: the one-sided 95% point


@dataclass(frozen=True)
class TargetRun:
    """One recorded run of a baseline at full horizon: a line of results/targets/<workload>.jsonl.

    Attributes:
      role: "tuning" (chose the point) or "scoring" (set the target, on fresh seeds).
      study: what its random streams were drawn from, with the seed.
      steps, values: the measurements of the target's metric.
      baseline_step_s: the calibration's AdamW step time in that run.
      machine: processor and package versions.
    """

    workload: str
    workload_hash: str
    submission: str
    submission_hash: str
    role: str
    hyperparameters: dict[str, Value]
    seed: int
    study: int
    status: str
    steps: tuple[int, ...]
    values: tuple[float | None, ...]
    baseline_step_s: float
    wall_s: float
    machine: dict[str, Any]


def as_run(trial: Trial) -> TargetRun:
    """Return the compact record of a finished trial."""
    result = trial.result
    if result is None or result.calibration is None:
        raise WorkloadError(f"{trial.path}: not a finished run ({trial.status}: {trial.reason})")
    keep = ("cpu", "cores", "device", "python", "packages", "git")
    return TargetRun(
        workload=trial.spec.workload,
        workload_hash=trial.spec.workload_hash,
        submission=trial.spec.submission,
        submission_hash=trial.spec.submission_hash,
        role="tuning" if trial.spec.tuning else "scoring",
        hyperparameters=trial.spec.hyperparameters,
        seed=trial.spec.seed,
        study=trial.spec.study,
        status=trial.status,
        steps=tuple(m.step for m in trial.measurements),
        values=tuple(m.metrics[trial.spec.metric] for m in trial.measurements),
        baseline_step_s=result.calibration.baseline_step_s,
        wall_s=result.wall_s,
        machine={key: result.fingerprint.get(key) for key in keep},
    )


def best_point(runs: Sequence[TargetRun], mode: Mode, horizon: int) -> dict[str, Value]:
    """Return the hyperparameters of the tuning run with the best final metric; a diverged run never wins."""
    finals = [(at(run, horizon), run.hyperparameters) for run in runs if run.role == "tuning"]
    finished = [(value, point) for value, point in finals if value is not None]
    if not finished:
        raise WorkloadError("no tuning run reached the end of the horizon; widen the search to smaller learning rates")
    return (min if mode == "min" else max)(finished, key=lambda pair: pair[0])[1]


def derive_target(runs: Sequence[TargetRun], mode: Mode, horizon: int, record: str, version: int) -> Target:
    """Return the target that the scoring runs of the best point set.

    Raises WorkloadError where a run missed it by the end of the horizon.
    """
    point = best_point(runs, mode, horizon)
    scoring = [run for run in runs if run.role == "scoring" and run.hyperparameters == point]
    finals, marks = ([at(run, step) for run in scoring] for step in (horizon, round(TARGET_AT * horizon)))
    if len(scoring) < 2 or None in finals or None in marks:
        raise WorkloadError(
            f"{record}: {len(scoring)} scoring runs of {point}, finals {finals}; at least 2 must finish"
        )
    final = [v for v in finals if v is not None]
    spread = statistics.stdev(final)
    margin = MIN_MARGIN_SD * spread * (1 if mode == "min" else -1)
    at_mark = statistics.median(v for v in marks if v is not None)
    value = ease((max if mode == "min" else min)(at_mark, statistics.mean(final) + margin), mode)
    hits = [first_step(run, value, mode) for run in scoring]
    reached = [step for step in hits if step is not None and step <= horizon]
    if len(reached) < len(scoring):
        raise WorkloadError(
            f"{record}: only {len(reached)} of {len(scoring)} runs reach {value} within {horizon} steps"
        )
    return Target(
        value=value,
        version=version,
        steps_to_target=round(statistics.median(reached)),
        reference_step_s=ease(statistics.median(run.baseline_step_s for run in scoring), "min"),
        record=record,
        spread=float(f"{spread:.3g}"),
        seeds=len(scoring),
    )


def at(run: TargetRun, step: int) -> float | None:
    """Return the metric measured at `step`, or None where the run has none."""
    return dict(zip(run.steps, run.values, strict=True)).get(step)


def first_step(run: TargetRun, value: float, mode: Mode) -> int | None:
    """Return the first measured step that meets `value`."""
    for step, v in zip(run.steps, run.values, strict=True):
        if v is not None and (v <= value if mode == "min" else v >= value):
            return step
    return None


def ease(value: float, mode: Mode) -> float:
    """Round to 4 significant digits to the easy side: up where smaller is better, down where larger is."""
    if value == 0 or not math.isfinite(value):
        return value
    scale = 10.0 ** (3 - math.floor(math.log10(abs(value))))
    rounded = (math.ceil if mode == "min" else math.floor)(round(value * scale, 9)) / scale
    return float(f"{rounded:.4g}")
