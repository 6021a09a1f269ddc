"""`harness sensitivity`: from a request to the final metric of each submission against its learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.campaign import surveys
from harness.campaign.surveys import Place, Survey, Taker
from harness.errors import ConfigError, suggest
from harness.program.workload import WorkloadInfo
from harness.record.search_record import SearchRun
from harness.record.spec import RunSpec, Value
from harness.search import sensitivity, two_passes
from harness.search.sensitivity import Curve

REACH = 4
OVER = "learning_rate"
HORIZON = "horizon"


@dataclass(frozen=True)
class Task:
    """A submission and the values that are tried.

    Attributes:
      taker: with its schedule as long as the runs are: `horizon` at 1 step hint, where it has one and hp.horizon gives
        no other.
      over: the hyperparameter.
      reach: factors of two on each side.
      studies: tuning studies of each run.
    """

    taker: Taker
    over: str
    reach: int
    studies: int

    @property
    def centre(self) -> float:
        """The middle of the grid."""
        return float(self.taker.default[self.over])

    @property
    def values(self) -> tuple[float, ...]:
        """The grid."""
        return sensitivity.grid(self.centre, self.reach)

    def steps(self, info: WorkloadInfo, max_steps: int | None) -> int:
        """Return where its runs on a workload end."""
        return info.step_hint if max_steps is None else min(max_steps, info.step_hint)


def tasks(names: list[str], request: RunSpec, over: str, reach: int) -> list[Task]:
    """Return what is to be run. Raises ConfigError for a hyperparameter that is no number above 0."""
    if reach < 1:
        raise ConfigError(f"--reach {reach}: expected a whole number above 0, of factors of two on each side")
    return [_task(taker, request, over, reach) for taker in surveys.takers(names, request)]


def _task(taker: Taker, request: RunSpec, over: str, reach: int) -> Task:
    default = taker.default
    if over not in default:
        raise ConfigError(
            f"{taker.folder.name}: no hyperparameter '{over}' to go through; {suggest(over, default, 'it has')}; name "
            "one with --over, or leave the submission out"
        )
    centre = default[over]
    if not isinstance(centre, float) or centre <= 0:
        raise ConfigError(
            f"{taker.folder.name}: {over}={centre}: factors of two go around a number above 0, with a fraction; give "
            f"one with hp.{over}=VALUE, or name another with --over"
        )
    length: dict[str, Value] = {}
    if isinstance(default.get(HORIZON), float) and HORIZON not in (over, *request.hp):
        length[HORIZON] = 1.0
    return Task(replace(taker, default=default | length), over, reach, request.rules.studies)


def workloads(request: RunSpec) -> list[WorkloadInfo]:
    """Return the workloads; they need no target."""
    surveys.check_request(request, "sensitivity")
    return [info for _, info in surveys.workloads_of(request, "sensitivity")]


def curves(
    request: RunSpec, todo: Sequence[Task], on_run: Callable[[Task, Place, SearchRun], None]
) -> Iterator[tuple[Task, list[Curve]]]:
    """Yield the curves of each submission, one for each workload, running what its records lack."""
    with surveys.places(request, surveys.workloads_of(request, "sensitivity")) as places:
        for task in todo:

            def told(place: Place, run: SearchRun, task: Task = task) -> None:
                on_run(task, place, run)

            ends = {task.over: (min(task.values), max(task.values))}
            with surveys.survey(request, task.taker, places, "sensitivity", told, ends=ends, from_start=True) as survey:
                yield task, [_curve(task, survey, number, request.max_steps) for number in range(len(places))]


def _curve(task: Task, survey: Survey, number: int, max_steps: int | None) -> Curve:
    place, search = survey.places[number], survey.searches[number]
    info, name, studies = place.info, task.taker.folder.name, range(task.studies)
    until = task.steps(info, max_steps)
    points = [task.taker.default | {task.over: value} for value in task.values]
    wanted = [((name, point), study) for point in points for study in studies]
    runs = search.run_all(place.pool, wanted, tuning=True, until=until)
    rows = [runs[n * task.studies : (n + 1) * task.studies] for n in range(len(points))]
    return Curve(
        name,
        info.name,
        info.metric,
        info.mode,
        task.values,
        tuple(two_passes.middle([two_passes.value_at(run, until) for run in row], info.mode) for row in rows),
        two_passes.middle([run.values[0] for run in rows[0]], info.mode),
        until,
    )
