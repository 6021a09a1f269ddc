"""What a trial contributes to a score, whatever log it comes from, and how trials become studies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from harness import strict
from harness.errors import RunFolderError
from harness.records import FAILED, UNFINISHED, Measurement, Trial
from harness.spec import CLOCKS, Clock, TrialSpec

UNITS: dict[Clock, str] = {
    "wall": "seconds",
    "cpu": "processor seconds",
    "steps": "calibrated seconds",
    "energy": "joules",
}


@dataclass(frozen=True)
class Outcome:
    """How one trial ended, as far as scores go.

    Attributes:
      submission, workload, study, trial: which one it was.
      where: path, for messages.
      status: how it ended, as shown.
      reached: whether its hit counts: it met the target, and did not fail.
      finished: whether it came to an end, be it a failure; one that is interrupted or running may still reach.
      times: time to target on each clock that was measured, in the clock's unit; empty for a miss.
      evaluation: how many measurements came before the one that met the target.
      steps: training steps to the target.
      test: the workload's metric on the test split at the end.
    """

    submission: str
    workload: str
    study: int
    trial: int
    where: str
    status: str
    reached: bool
    finished: bool = True
    times: Mapping[Clock, float] = field(default_factory=dict)
    evaluation: int = 0
    steps: int | None = None
    test: float | None = None


Cells: TypeAlias = dict[str, dict[str, dict[int, Outcome]]]
"""By submission, workload and study: the trial that stands for the study."""


def outcome(trial: Trial) -> Outcome:
    """Return what a run folder contributes.

    Raises RunFolderError where the log contradicts itself: a measurement that met the target though its value is on the
    other side, or a time that is no positive number.
    """
    spec, test = trial.spec, trial.result.test if trial.result else None
    counted = trial.status not in FAILED | UNFINISHED
    index, hit = _first_hit(trial) if counted else (0, None)
    return Outcome(
        submission=spec.submission,
        workload=spec.workload,
        study=spec.study,
        trial=spec.trial,
        where=str(trial.path),
        status=str(trial.status),
        reached=hit is not None,
        finished=trial.status not in UNFINISHED,
        times={} if hit is None else _times(hit, trial),
        evaluation=index,
        steps=hit.step if hit else None,
        test=test.get(spec.metric) if test else None,
    )


def by_time(clock: Clock) -> Callable[[Outcome], tuple[float, int]]:
    """Order trials by their time to target, misses last, then by number.

    Raises RunFolderError for a hit that was not measured on this clock.
    """

    def key(one: Outcome) -> tuple[float, int]:
        if not one.reached:
            return math.inf, one.trial
        if clock not in one.times:
            raise RunFolderError(
                f"{one.where}: the {clock} clock was not measured there; rank by another: {', '.join(one.times)}"
            )
        return one.times[clock], one.trial

    return key


def studies(outcomes: Iterable[Outcome], key: Callable[[Outcome], tuple[float, ...]]) -> Cells:
    """Return the first trial of each study in the order of `key`: one hit is enough for a study to reach the target."""
    cells: Cells = {}
    for one in sorted(outcomes, key=lambda o: (o.submission, o.workload, o.study)):
        row = cells.setdefault(one.submission, {}).setdefault(one.workload, {})
        best = row.get(one.study)
        row[one.study] = one if best is None or key(one) < key(best) else best
    return cells


def measured_clocks(outcomes: Iterable[Outcome]) -> list[Clock]:
    """Return the clocks that every hit was measured on; without a hit those that every machine has."""
    hits = [one.times for one in outcomes if one.reached]
    return [c for c in CLOCKS if all(c in times for times in hits) and (hits or c != "energy")]


def _first_hit(trial: Trial) -> tuple[int, Measurement | None]:
    # One measurement is read in full, not all: a campaign has hundreds of thousands.
    measurements = (event for event in trial.events if event["event"] == "measurement")
    for index, event in enumerate(measurements):
        try:
            if event["met"]:
                fields = {name: event[name] for name in Measurement.__dataclass_fields__}
                hit = strict.read(Measurement, fields, f"{trial.path}/log.jsonl", RunFolderError)
                _check_hit(hit, trial.spec, f"{trial.path}/log.jsonl")
                return index, hit
        except KeyError as missing:
            raise RunFolderError(
                f"{trial.path}/log.jsonl: measurement {index} has no field {missing}; remove the folder and run again"
            ) from None
    return 0, None


def _check_hit(hit: Measurement, spec: TrialSpec, where: str) -> None:
    value = hit.metrics.get(spec.metric)
    if spec.target is None or value is None:
        met = False
    else:
        met = value <= spec.target if spec.mode == "min" else value >= spec.target
    if not met:
        side = "at most" if spec.mode == "min" else "at least"
        raise RunFolderError(
            f"{where}: the measurement of step {hit.step} is marked as meeting the target, {spec.metric} {side} "
            f"{spec.target}, and its {spec.metric} is {value}; the log or the metric's direction ({spec.mode}) is wrong"
        )


def _times(hit: Measurement, trial: Trial) -> dict[Clock, float]:
    """The time on each clock; one on which nothing passed was not measured."""
    measured: dict[Clock, float | None] = {clock: getattr(hit.scored, clock) for clock in CLOCKS}
    times = {clock: value for clock, value in measured.items() if value is not None and 0 < value < math.inf}
    ranking = measured[trial.spec.clock]
    if ranking is not None and trial.spec.clock not in times:
        raise RunFolderError(
            f"{trial.path}: the time to target is {ranking} on the {trial.spec.clock} clock; expected more than 0"
        )
    return times
