"""`harness ladder`: from a request to the final metrics of submissions over widths of a model and amounts of data.

The widths are workloads of their own: the folders `<workload>_w<width>` beside a workload's are the other rungs of its
ladder. There is no list of them: a folder that is there is found.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.campaign import plan, surveys
from harness.campaign.counting import counted
from harness.campaign.surveys import Place, Taker
from harness.errors import ConfigError, HarnessError
from harness.program import discovery, processes
from harness.program.workload import WorkloadInfo
from harness.record import plain_data
from harness.record.files import write_atomic
from harness.record.search_record import SearchRun
from harness.record.spec import RunSpec
from harness.search import recorded_search, two_passes
from harness.search.scale_ladder import Ladder, between

RATIOS = (1.0, 2.0, 4.0, 8.0)
SEEDS = 3
SHARE = 0.25  # of the step hint: the steps of ratio 1
SCHEMA = 1
HORIZON = "horizon"
FOLDER = "ladders"  # below the output folder
_RUNG = re.compile(r"(.+)_w(\d+)")


@dataclass(frozen=True)
class Rung:
    """A width of a ladder: a workload."""

    folder: discovery.Folder
    info: WorkloadInfo
    width: int


@dataclass(frozen=True)
class Task:
    """What is to be run.

    Attributes:
      workload: whose ladder it is.
      rungs: by width, ascending.
      takers: the baseline first; a `horizon` is 1, so that a schedule ends with the run, unless hp.horizon says other.
      ratios, steps: amounts of data, ascending.
      curve_steps: the baseline's.
      seeds: tuning studies of each run.
    """

    workload: str
    rungs: Sequence[Rung]
    takers: Sequence[Taker]
    ratios: tuple[float, ...]
    steps: tuple[int, ...]
    curve_steps: tuple[int, ...]
    seeds: int

    def steps_of(self, taker: Taker) -> tuple[int, ...]:
        """Return the amounts that a submission runs with."""
        return self.curve_steps if taker == self.takers[0] else self.steps

    @property
    def runs(self) -> int:
        """How many there are."""
        return len(self.rungs) * self.seeds * sum(len(self.steps_of(taker)) for taker in self.takers)

    @property
    def steps_a_width(self) -> int:
        """The steps of all runs on one width."""
        return self.seeds * sum(sum(self.steps_of(taker)) for taker in self.takers)

    def passes(self, info: WorkloadInfo) -> float:
        """Return how often the longest run goes through a workload's training data."""
        return max(self.curve_steps) * info.batch_size / info.num_train_examples

    def most_s(self) -> float | None:
        """Return the seconds of the baseline's steps that the runs take at most: the workload's own step by the
        products of each width. None where no step of the workload was timed.
        """
        base = discovery.find("workloads", self.workload)
        timed = discovery.workload_info(base).target.reference_step_s
        if not timed:
            return None
        cost = sum(_products(rung.folder) for rung in self.rungs) / _products(base)
        return cost * timed * self.steps_a_width


def _products(folder: discovery.Folder) -> float:
    return processes.workload_program(folder).manifest.functions["yardstick_step"].products


def is_rung(name: str) -> bool:
    """Whether a workload of this name is a rung of another one's ladder."""
    found = _RUNG.fullmatch(name)
    return found is not None and found[1] in discovery.find_all("workloads")


def rungs_of(base: discovery.Folder) -> list[Rung]:
    """Return the rungs of a workload's ladder, itself among them, by width; none where its model has no width."""
    found = discovery.find_all("workloads")
    folders = [base, *(folder for name, folder in found.items() if (m := _RUNG.fullmatch(name)) and m[1] == base.name)]
    widths = [getattr(getattr(discovery.load(folder), "MODEL", None), "width", None) for folder in folders]
    rungs = [Rung(f, discovery.workload_info(f), w) for f, w in zip(folders, widths, strict=True) if w is not None]
    return sorted(rungs, key=lambda rung: rung.width)


def numbers(text: str, flag: str) -> tuple[float, ...]:
    """Return the numbers of `1,2,4,8`, ascending. Raises ConfigError where one is none, or not above 0."""
    try:
        found = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        found = ()
    if not found or not 0 < found[0] <= found[-1] < 1e6:
        raise ConfigError(f"{flag} {text}: expected numbers above 0, separated by commas, as in 1,2,4,8")
    return found


def task(
    names: list[str], request: RunSpec, *, baseline: str, ratios: Sequence[float], widths: Sequence[float], seeds: int
) -> Task:
    """Return what a request asks for; no `widths`: all that there are. A baseline that is not among the names takes
    part at its defaults, whatever hp.NAME says.

    Raises ConfigError for what cannot be asked, DataError for missing data.
    """
    surveys.check_request(request, "ladder")
    for key, value, other in (
        ("max_steps", request.max_steps is not None, "lengths follow from --ratios"),
        ("studies", request.rules.studies != 1, "their number is --seeds N"),
    ):
        if value:
            raise ConfigError(f"harness ladder: {other}; leave {key}= out")
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: expected a whole number above 0")
    if len(ratios) < 2:
        raise ConfigError("--ratios: expected two or more, since the baseline's own make the curve, as in 1,2,4,8")
    base = _base(request)
    rungs = _chosen(base, widths)
    takers = _takers(names, request, baseline)
    hint = rungs[0].info.step_hint
    steps = tuple(round(SHARE * ratio * hint) for ratio in ratios)
    if steps[0] < 1 or len(set(steps)) < len(steps):
        raise ConfigError(f"--ratios: {steps} steps of {base.name}; expected as many lengths, each of a step or more")
    curve_steps = tuple(sorted({*steps, *(round(SHARE * ratio * hint) for ratio in between(ratios))}))
    plan.check_data_of([(rung.folder, None) for rung in rungs])
    return Task(base.name, rungs, takers, tuple(ratios), steps, curve_steps, seeds)


def _base(request: RunSpec) -> discovery.Folder:
    every = discovery.find_all("workloads")
    ladders = sorted({found[1] for name in every if (found := _RUNG.fullmatch(name)) and found[1] in every})
    folders = plan.workload_folders(request) if request.workload is not None else []
    if len(folders) != 1:
        raise ConfigError(f"harness ladder: expected one workload, as in workload={ladders[0] if ladders else 'NAME'}; "
                          f"there are ladders of {', '.join(ladders) or 'none'}")  # fmt: skip
    (base,) = folders
    if is_rung(base.name):
        raise ConfigError(
            f"workload={base.name}: that is a rung; name the workload whose ladder it is on, and choose rungs with "
            "--widths"
        )
    return base


def _chosen(base: discovery.Folder, widths: Sequence[float]) -> list[Rung]:
    rungs = rungs_of(base)
    if not rungs:
        raise ConfigError(f"workload={base.name}: its model has no width, so there is no ladder of it")
    known = [rung.width for rung in rungs]
    if unknown := [width for width in widths if width not in known]:
        raise ConfigError(
            f"--widths {unknown[0]:g}: {base.name} has {', '.join(map(str, known))}; a folder workloads/"
            f"{base.name}_w{unknown[0]:g} beside it would be another"
        )
    return [rung for rung in rungs if not widths or rung.width in widths]


def _takers(names: list[str], request: RunSpec, baseline: str) -> list[Taker]:
    named = {folder.path for folder in plan.submission_folders(names)} if names else set()
    (place,) = plan.submission_folders([baseline])
    own = request if place.path in named else replace(request, hp={})
    first = _whole(surveys.takers([baseline], own, "ladder")[0], own)
    others = [
        _whole(taker, request)
        for taker in (surveys.takers(names, request, "ladder") if named - {place.path} else ())
        if taker.folder.path != place.path
    ]
    if not others:
        raise ConfigError(f"no submission named beside the baseline {baseline}, as in harness ladder muon")
    if any(taker.folder.name == first.folder.name for taker in others):
        raise ConfigError(f"two submissions are called {first.folder.name}; rename one of them")
    return [first, *others]


def _whole(taker: Taker, request: RunSpec) -> Taker:
    """Return a submission with a schedule that ends with the run, which is told as its step hint."""
    if isinstance(taker.default.get(HORIZON), float) and HORIZON not in request.hp:
        return replace(taker, default=taker.default | {HORIZON: 1.0})
    return taker


def export(request: RunSpec, todo: Task, on_export: Callable[[str], object]) -> None:
    """Put all programs into the store, those of a submission by one process; `on_export` is told of each.

    Raises HarnessError where there is none.
    """
    with surveys.places(request, [(rung.folder, rung.info) for rung in todo.rungs]) as places:
        wanted = [
            surveys.wanted_of(place, taker, declared_steps=steps)
            for taker in todo.takers
            for place in places
            for steps in todo.steps_of(taker)
        ]
    for found in processes.program_ids(wanted, counted(on_export, wanted)):
        if isinstance(found, HarnessError):
            raise found


def climb(
    request: RunSpec,
    todo: Task,
    on_run: Callable[[Task, Place, int, SearchRun], None],
) -> Ladder:
    """Return the final metrics of all runs, running what the records lack, and write them to `file_of`.

    Raises RunFolderError where a record is damaged or held by another process, HarnessError where a run cannot be run.
    """
    finals: dict[str, list[tuple[tuple[float | None, ...], ...]]] = {taker.folder.name: [] for taker in todo.takers}
    for rung in todo.rungs:  # its processes end with it, so that the next one has the memory to itself
        with surveys.places(request, [(rung.folder, rung.info)]) as places:
            for taker in todo.takers:
                finals[taker.folder.name].append(_climb_one(request, todo, taker, places, on_run))
    ladder = Ladder(
        todo.workload,
        todo.rungs[0].info.metric,
        todo.rungs[0].info.mode,
        tuple(finals),
        tuple(rung.folder.name for rung in todo.rungs),
        tuple(rung.width for rung in todo.rungs),
        todo.ratios,
        todo.steps,
        todo.curve_steps,
        {name: tuple(of) for name, of in finals.items()},
    )
    file = file_of(Path(request.out), todo.workload)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, {"schema": SCHEMA, "ladder": plain_data.to_plain(ladder)})
    return ladder


def file_of(out: Path, workload: str) -> Path:
    """Return where the final metrics of the latest ladder of a workload are."""
    return out / FOLDER / f"{workload}.json"


def _climb_one(
    request: RunSpec,
    todo: Task,
    taker: Taker,
    places: Sequence[Place],
    on_run: Callable[[Task, Place, int, SearchRun], None],
) -> tuple[tuple[float | None, ...], ...]:
    """Return the final metrics of a submission on a width, by amount and seed. The longest runs go first, so that no
    core waits for them.
    """
    name, asked = taker.folder.name, []
    with contextlib.ExitStack() as stack:
        for steps in reversed(todo.steps_of(taker)):

            def told(place: Place, run: SearchRun, steps: int = steps) -> None:
                on_run(todo, place, steps, run)

            record = f"ladder-{steps}"
            survey = stack.enter_context(surveys.survey(request, taker, places, record, told, declared_steps=steps))
            points = [((name, taker.default), study) for study in range(todo.seeds)]
            (search,) = survey.searches
            asked.append((search, search.requests(points, tuning=True, until=steps)))
        rows = list(reversed(recorded_search.run_together(places[0].pool, asked)))
    return tuple(
        tuple(two_passes.value_at(run, steps) for run in row)
        for row, steps in zip(rows, todo.steps_of(taker), strict=True)
    )
