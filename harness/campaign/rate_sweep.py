"""`harness sensitivity`: from a request to the final metric of each submission against its learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.campaign import plan, surveys
from harness.campaign.device import resolve_device
from harness.campaign.surveys import Place, Survey, Taker
from harness.errors import ConfigError, suggest
from harness.program import discovery, processes
from harness.program.workload import WorkloadInfo
from harness.record.search_record import SearchRun
from harness.record.spec import RunSpec, Value
from harness.search import sensitivity, step_law, two_passes
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
      centres: the middle of the grid, by workload.
      reach: factors of two on each side.
      studies: tuning studies of each run.
    """

    taker: Taker
    over: str
    centres: Mapping[str, float]
    reach: int
    studies: int

    def values(self, workload: str) -> tuple[float, ...]:
        """Return the grid on a workload."""
        return sensitivity.grid(self.centres[workload], self.reach)

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest value of all grids."""
        every = [value for workload in self.centres for value in self.values(workload)]
        return min(every), max(every)

    def steps(self, info: WorkloadInfo, max_steps: int | None) -> int:
        """Return where its runs on a workload end."""
        return info.step_hint if max_steps is None else min(max_steps, info.step_hint)


def tasks(
    names: list[str], request: RunSpec, over: str, reach: int, centres: Mapping[str, float] | None = None
) -> list[Task]:
    """Return what is to be run; the grid lies around the default where `centres` has no workload.

    Raises ConfigError for a hyperparameter that is no number above 0.
    """
    if reach < 1:
        raise ConfigError(f"--reach {reach}: expected a whole number above 0, of factors of two on each side")
    return [
        _task(taker, request, over, reach, centres or {}) for taker in surveys.takers(names, request, "sensitivity")
    ]


def by_step_law(request: RunSpec, over: str) -> tuple[dict[str, float], list[str]]:
    """Return the learning rate of Step Law on each language model that a request names, and a line on each thing to
    know: where the law is out of its range, and which workload it says nothing about.

    Raises ConfigError where it says nothing about any, or where another hyperparameter is gone through.
    """
    if over != OVER or over in request.hp:
        given = f"hp.{over}" if over in request.hp else f"--over {over}"
        raise ConfigError(f"--centre step-law is a centre for {OVER}, and {given} gives another; leave one out")
    found, notes = dict[str, float](), []
    device = resolve_device(request.device)
    for folder in plan.workload_folders(request):
        info = discovery.workload_info(folder)
        size = step_law.size_of(info, processes.workload_program(folder, platform=device).manifest.contract)
        if size is None:
            notes.append(f"{info.name}: Step Law is about language models; the grid lies around the default there")
            continue
        found[info.name] = step_law.learning_rate(size)
        if out := step_law.outside(size):
            notes.append(
                f"{info.name}: Step Law is an extrapolation here ({'; '.join(out)}): take its {over} "
                f"{found[info.name]:.3g} for a place to begin"
            )
    if not found:
        raise ConfigError("--centre step-law: no language model among the workloads; choose one, as in suite=demo")
    return found, notes


def _task(taker: Taker, request: RunSpec, over: str, reach: int, centres: Mapping[str, float]) -> Task:
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
    around = {folder.name: centres.get(folder.name, centre) for folder in plan.workload_folders(request)}
    return Task(replace(taker, default=default | length), over, around, reach, request.rules.studies)


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

            ends = {task.over: task.ends}
            with surveys.survey(request, task.taker, places, "sensitivity", told, ends=ends, from_start=True) as survey:
                yield task, [_curve(task, survey, number, request.max_steps) for number in range(len(places))]


def _curve(task: Task, survey: Survey, number: int, max_steps: int | None) -> Curve:
    place, search = survey.places[number], survey.searches[number]
    info, name, studies = place.info, task.taker.folder.name, range(task.studies)
    until = task.steps(info, max_steps)
    values = task.values(info.name)
    points = [task.taker.default | {task.over: value} for value in values]
    wanted = [((name, point), study) for point in points for study in studies]
    runs = search.run_all(place.pool, wanted, tuning=True, until=until)
    rows = [runs[n * task.studies : (n + 1) * task.studies] for n in range(len(points))]
    return Curve(
        name,
        info.name,
        info.metric,
        info.mode,
        values,
        tuple(two_passes.middle([two_passes.value_at(run, until) for run in row], info.mode) for row in rows),
        two_passes.middle([run.values[0] for run in rows[0]], info.mode),
        until,
    )
