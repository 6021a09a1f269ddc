"""`harness calibrate`: from a request to what one configuration for all workloads costs each submission."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.campaign import surveys
from harness.campaign.surveys import Place, Survey, Taker
from harness.errors import ConfigError
from harness.program.search_space import distinct_points
from harness.program.submission import choose_point
from harness.program.workload import WorkloadInfo
from harness.record.search_record import Asked, SearchRun
from harness.record.spec import RunSpec, Value, short_hash
from harness.search import calibration, two_passes
from harness.search.calibration import Calibration
from harness.search.targets import set_target_command
from harness.search.two_passes import Ask

POINTS = 8


@dataclass(frozen=True)
class Task:
    """A submission and the points that are tried.

    Attributes:
      moved: the hyperparameters in which they differ.
    """

    taker: Taker
    points: tuple[dict[str, Value], ...]
    moved: tuple[str, ...]

    def most_s(self, infos: Sequence[WorkloadInfo], max_steps: int | None = None) -> float | None:
        """Return the seconds of the baseline's steps that its runs take at most; None where a workload tells none."""
        asked = [two_passes.asked_of(info, "", self.points, max_steps=max_steps) for info in infos]
        times = [info.target.reference_step_s for info in infos]
        if None in times:
            return None
        return sum(steps * (step_s or 0.0) for steps, step_s in zip(calibration.most_steps(asked), times, strict=True))


def tasks(names: list[str], request: RunSpec, count: int) -> list[Task]:
    """Return what each submission has to try: its own list of points, or else `count` of its search space, the same
    number for all; one without either, or that tunes itself, runs at its defaults.
    """
    if count < 1:
        raise ConfigError(f"--points {count}: expected a whole number above 0")
    return [_task(taker, request, count) for taker in surveys.takers(names, request, "calibrate")]


def _task(taker: Taker, request: RunSpec, count: int) -> Task:
    info, names = taker.info, [name for name in taker.info.space if name not in request.hp]
    points = [taker.default]
    if info.tuning == "external" and info.points:
        listed = [choose_point(taker.folder, info, point | request.hp) for point in info.points]
        points = list({short_hash(point): point for point in listed}.values())[:count]
    elif info.tuning == "external" and names and count > 1:
        points = distinct_points(replace(info, defaults=taker.default), names, count, two_passes.SEED)
    moved = [name for name in taker.default if len({repr(point[name]) for point in points}) > 1]
    return Task(taker, tuple(points), tuple(moved))


def workloads(request: RunSpec) -> list[WorkloadInfo]:
    """Return the workloads. Raises ConfigError for fewer than two, and for one without a target."""
    surveys.check_request(request, "calibrate")
    found = [info for _, info in surveys.workloads_of(request, "calibrate", least=2)]
    if unset := [info for info in found if info.target.value is None]:
        which = ", ".join(info.name for info in unset)
        raise ConfigError(f"{which}: no target is set to calibrate for; set it: {set_target_command(*unset)}")
    return found


def calibrated(
    request: RunSpec, todo: Sequence[Task], on_run: Callable[[Task, Place, SearchRun], None]
) -> Iterator[tuple[Task, Calibration]]:
    """Yield what came of each submission, running what its records lack; `on_run` is called with each new run."""
    with surveys.places(request, surveys.workloads_of(request, "calibrate", least=2)) as places:
        for task in todo:

            def told(place: Place, run: SearchRun, task: Task = task) -> None:
                on_run(task, place, run)

            with surveys.survey(request, task.taker, places, "calibrate", told) as survey:
                asked = survey.asked(task.points, request.max_steps)

                def ask_on(on: Sequence[int], survey: Survey = survey, asked: Sequence[Asked] = asked) -> Ask:
                    return survey.ask([asked[n] for n in on], on)

                yield (
                    task,
                    calibration.calibrate(task.taker.folder.name, asked, task.taker.default, ask_on),
                )
