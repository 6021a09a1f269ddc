"""`harness anneal`: a law of annealing fitted on some schedules of a submission, and what it predicts of others."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.campaign import surveys
from harness.campaign.surveys import Place, Survey, Taker
from harness.errors import ConfigError
from harness.program.workload import WorkloadInfo
from harness.record.search_record import SearchRun
from harness.record.spec import RunSpec
from harness.search import annealing, rates, two_passes
from harness.search.annealing import Law

NEEDS = ("schedule", "learning_rate", "warmup_fraction", "horizon")


@dataclass(frozen=True)
class Schedule:
    """A schedule by name, and its length in step hints; as text NAME, or NAME@LENGTH."""

    name: str
    length: float

    def __str__(self) -> str:
        return self.name if self.length == 1.0 else f"{self.name}@{self.length:g}"

    def steps(self, info: WorkloadInfo) -> int:
        """Return its steps on a workload."""
        return round(self.length * info.step_hint)


@dataclass(frozen=True)
class Predicted:
    """A schedule on a workload.

    Attributes:
      fitted: whether the law was fitted on it.
      predicted: the metric after its last step.
      hopeless: whether that misses the target by more than the error of the fit; None without a target.
      measured: the median over the studies; None where it was not trained, or diverged.
    """

    schedule: Schedule
    steps: int
    fitted: bool
    predicted: float
    hopeless: bool | None
    measured: float | None

    @property
    def error(self) -> float | None:
        """Predicted over measured, less 1."""
        return None if self.measured is None else self.predicted / self.measured - 1.0


@dataclass(frozen=True)
class Found:
    """What came of a submission on a workload."""

    submission: str
    workload: str
    metric: str
    target: float | None
    law: Law
    measurements: int
    schedules: tuple[Predicted, ...]


def read_schedules(text: str, flag: str) -> tuple[Schedule, ...]:
    """Return the schedules of `cosine,wsd@1.5`. Raises ConfigError for what is none."""
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        match = re.fullmatch(r"(\w+)(?:@(\d+(?:\.\d+)?))?", part)
        if match is None or float(match[2] or 1.0) <= 0:
            raise ConfigError(f"{flag} {text}: expected NAME or NAME@LENGTH in step hints, as in wsd@1.5; got '{part}'")
        rates.learning_rates(match[1], 1.0, 2, 0.0)  # that there is such a schedule
        found.append(Schedule(match[1], float(match[2] or 1.0)))
    if not found:
        raise ConfigError(f"{flag}: expected one schedule or more, separated by commas: {', '.join(rates.NAMES)}")
    return tuple(dict.fromkeys(found))


def takers(names: list[str], request: RunSpec) -> list[Taker]:
    """Return the submissions. Raises ConfigError for one that takes no schedule by name."""
    surveys.check_request(request, "anneal")
    if request.max_steps is not None:
        raise ConfigError("harness anneal: a schedule runs to its end; leave max_steps= out, and give NAME@LENGTH")
    found = surveys.takers(names or ["adamw_schedules"], request, "anneal")
    for taker in found:
        if lacking := [name for name in NEEDS if name not in taker.default]:
            raise ConfigError(
                f"{taker.folder.name} has no hyperparameter {', '.join(lacking)}: its learning rates cannot be told; "
                "take adamw_schedules, or give yours these four"
            )
        if taken := [name for name in ("schedule", "horizon") if name in request.hp]:
            raise ConfigError(f"hp.{taken[0]}: schedules and lengths are given by --fit and --predict, as in wsd@1.5")
    return found


def workloads(request: RunSpec) -> list[WorkloadInfo]:
    """Return the workloads. Raises ConfigError for one whose metric is no loss."""
    found = [info for _, info in surveys.workloads_of(request, "anneal")]
    if odd := [info for info in found if info.mode != "min" or "loss" not in info.metric]:
        raise ConfigError(
            f"{', '.join(info.name for info in odd)}: the law of annealing is one of a loss, and the metric is "
            f"{odd[0].metric}; choose others with workload=A,B"
        )
    return found


def found(
    request: RunSpec,
    todo: Sequence[Taker],
    fit: Sequence[Schedule],
    predict: Sequence[Schedule],
    *,
    train: bool,
    on_run: Callable[[Place, SearchRun], None],
) -> list[Found]:
    """Return what came of each submission on each workload, running what its records lack: the schedules to `fit`, and
    with `train` those to `predict` that are not hopeless.
    """
    if all(one.name == "constant" for one in fit) and any(one.name != "constant" for one in predict):
        raise ConfigError(
            "--fit constant: a law fitted on runs whose learning rate never falls cannot tell what falling gains; fit "
            "it on one that does too, as in --fit cosine,constant"
        )
    made = []
    with surveys.places(request, surveys.workloads_of(request, "anneal")) as places:
        for taker in todo:
            with surveys.survey(request, taker, places, "anneal", on_run) as survey:
                made += [
                    _found(survey, number, fit, predict, train, request.rules.studies) for number in range(len(places))
                ]
    return made


def _found(
    survey: Survey, number: int, fit: Sequence[Schedule], predict: Sequence[Schedule], train: bool, studies: int
) -> Found:
    taker, place, search = survey.taker, survey.places[number], survey.searches[number]
    info, name = place.info, taker.folder.name
    target = info.target.value

    def of(schedule: Schedule) -> np.ndarray:
        peak, warmup = float(taker.default["learning_rate"]), float(taker.default["warmup_fraction"])
        return rates.learning_rates(schedule.name, peak, schedule.steps(info), warmup)

    def run(schedule: Schedule) -> list[SearchRun]:
        point = taker.default | {"schedule": schedule.name, "horizon": schedule.length}
        wanted = [((name, point), study) for study in range(studies)]
        return search.run_all(place.pool, wanted, tuning=True, until=schedule.steps(info))

    def measured(schedule: Schedule) -> float | None:
        return two_passes.middle([two_passes.value_at(one, schedule.steps(info)) for one in run(schedule)], "min")

    curves = []
    for schedule in fit:
        warmup = rates.warmup_steps(schedule.steps(info), float(taker.default["warmup_fraction"]))
        for one in run(schedule):
            if one.status == "diverged":
                raise ConfigError(
                    f"{name} diverged on {info.name} under {schedule}; lower hp.learning_rate or fit on others"
                )
            pairs = [
                (step, value)
                for step, value in zip(one.steps, one.values, strict=True)
                if value is not None and warmup < step <= schedule.steps(info)
            ]
            steps, losses = [step for step, _ in pairs], [value for _, value in pairs]
            curves.append(annealing.curve(of(schedule), steps, losses))
    law = annealing.fit(curves)
    rows = []
    for schedule in dict.fromkeys((*fit, *predict)):
        hopeless = None if target is None else law.hopeless(of(schedule), target)
        fitted = schedule in fit
        known = fitted or (train and not hopeless)
        predicted = float(law.predict(of(schedule))[-1])
        seen = measured(schedule) if known else None
        rows.append(Predicted(schedule, schedule.steps(info), fitted, predicted, hopeless, seen))
    count = sum(len(one.steps) for one in curves)
    return Found(name, info.name, info.metric, target, law, count, tuple(rows))
