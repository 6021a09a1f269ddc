"""What a trial contributes to a score, whatever log it comes from, and how trials become studies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from harness.errors import RunFolderError
from harness.record.result import FAILED, UNFINISHED, Status
from harness.record.run_folder import Trial
from harness.record.spec import CLOCKS, Clock

UNITS: dict[Clock, str] = {
    "wall": "seconds",
    "cpu": "processor seconds",
    "calibrated": "calibrated seconds",
    "energy": "joules",
    "steps": "training steps",
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
      before: steps at the measurement before that, which did not meet it; None without one in the record.
      test: the workload's metric on the test split at the end.
      speed: seconds of its own process over the mean of all that ran its program (`harness.scoring.speeds`), to which
        the calibrated time is brought.
      drawn: what stands for that process where processes are drawn.
      best: its best measurement on the validation slice, of a run folder alone; None where there is no target.
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
    before: int | None = None
    test: float | None = None
    speed: float = 1.0
    drawn: float = 1.0
    best: float | None = None

    def time(self, clock: Clock) -> float:
        """Return the time to target, infinite for a miss; RunFolderError for a hit not measured on this clock."""
        if not self.reached:
            return math.inf
        if clock not in self.times:
            raise RunFolderError(
                f"{self.where}: the {clock} clock was not measured there; rank by another: {', '.join(self.times)}"
            )
        return self.times[clock]


Cells: TypeAlias = dict[str, dict[str, dict[int, Outcome]]]
"""By submission, workload and study: the trial that stands for the study."""


def outcome(trial: Trial, speed: float = 1.0, drawn: float = 1.0) -> Outcome:
    """Return what a run folder contributes; its process took `speed` times the mean of those that ran its program, and
    where processes are drawn `drawn` stands for it.

    Raises RunFolderError where a measurement is damaged, or contradicts itself: it met the target though its value is
    on the other side, or a time is no positive number.
    """
    spec, test = trial.spec, trial.result.test if trial.result else None
    reached, times, evaluation, steps, before = False, dict[Clock, float](), 0, None, None
    if trial.status not in FAILED | UNFINISHED:
        try:
            found = _first_met(trial.events)
            if found is not None:
                evaluation, event, before = found
                reached, steps = True, event["step"]
                _check_value(event["metrics"].get(spec.metric), event["step"], trial)
                times = _times(event["scored"], trial)
                if "calibrated" in times:
                    times["calibrated"] /= speed
        except (KeyError, TypeError, AttributeError) as error:
            raise RunFolderError(
                f"{trial.path}/log.jsonl: a measurement is damaged ({error!r}); remove the folder to run the trial anew"
            ) from None
    return Outcome(
        submission=spec.submission,
        workload=spec.workload,
        study=spec.study,
        trial=spec.trial,
        where=str(trial.path),
        status=str(trial.status),
        reached=reached,
        finished=trial.status not in UNFINISHED,
        times=times,
        evaluation=evaluation,
        steps=steps,
        before=before,
        test=test.get(spec.metric) if test else None,
        speed=speed,
        drawn=drawn,
        best=trial.result.best if trial.result and spec.target is not None else None,
    )


def _first_met(events: Iterable[Mapping[str, Any]]) -> tuple[int, Mapping[str, Any], int | None] | None:
    """Return the first measurement that met the target, between how many come before it and the step of the last of
    these. The events are read as they are: a campaign has hundreds of thousands, of which one a trial is of use.
    """
    before, last = 0, None
    for event in events:
        if event["event"] == "measurement":
            if event["met"]:
                return before, event, last
            before, last = before + 1, event["step"]
    return None


def settled(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the same, sorted, but that a trial which ended as hopeless has not finished where its study lacks the
    rival.
    """
    found = sorted(outcomes, key=_study)
    reached = {_study(one) for one in found if one.reached}
    return [
        replace(one, finished=False) if one.status == Status.HOPELESS and _study(one) not in reached else one
        for one in found
    ]


def _study(one: Outcome) -> tuple[str, str, int]:
    return one.submission, one.workload, one.study


def by_time(clock: Clock) -> Callable[[Outcome], tuple[float, ...]]:
    """Order trials by their time to target, misses last, then by number."""
    return lambda one: (one.time(clock), one.trial)


def by_study(outcomes: Iterable[Outcome]) -> dict[tuple[str, str, int], list[Outcome]]:
    """Return the trials of each submission, workload and study."""
    found: dict[tuple[str, str, int], list[Outcome]] = {}
    for one in outcomes:
        found.setdefault(_study(one), []).append(one)
    return found


def studies(
    found: Mapping[tuple[str, str, int], Sequence[Outcome]], key: Callable[[Outcome], tuple[float, ...]]
) -> Cells:
    """Return the first trial of each study in the order of `key`: one hit is enough for a study to reach the target."""
    cells: Cells = {}
    for (submission, workload, study), of in found.items():
        row = cells.setdefault(submission, {}).setdefault(workload, {})
        row[study] = of[0] if len(of) == 1 else min(of, key=key)
    return cells


def measured_clocks(outcomes: Iterable[Outcome]) -> list[Clock]:
    """Return the clocks that every hit was measured on; without a hit those that every machine has."""
    hits = [one.times for one in outcomes if one.reached]
    known: tuple[Clock, ...] = (*CLOCKS, "steps") if hits else CLOCKS
    return [c for c in known if all(c in times for times in hits) and (hits or c != "energy")]


def _check_value(value: float | None, step: int, trial: Trial) -> None:
    spec = trial.spec
    met = False
    if value is not None and spec.target is not None:
        met = value <= spec.target if spec.mode == "min" else value >= spec.target
    if not met:
        side = "at most" if spec.mode == "min" else "at least"
        raise RunFolderError(
            f"{trial.path}/log.jsonl: the measurement of step {step} is marked as meeting the target, {spec.metric} "
            f"{side} {spec.target}, and its {spec.metric} is {value}; the log or the direction ({spec.mode}) is wrong"
        )


def _times(scored: Mapping[str, float | None], trial: Trial) -> dict[Clock, float]:
    """The time on each clock; one on which nothing passed was not measured."""
    times = {clock: value for clock in CLOCKS if (value := scored[clock]) is not None and 0 < value < math.inf}
    ranking = trial.spec.clock
    if ranking not in times and scored.get(ranking) is not None:
        raise RunFolderError(
            f"{trial.path}: the time to target is {scored[ranking]} on the {ranking} clock; expected more than 0"
        )
    return times
