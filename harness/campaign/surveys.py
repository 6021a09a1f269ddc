"""Runs of a submission at many points on several workloads, without a clock: what `harness calibrate`, `sensitivity`,
`anneal` and `ladder` ask of the searches.

They are those of `harness.search.recorded_search`, on tuning seeds, and each is a line of a record beside the run
folders: `<out>/<workload>/<submission>/calibrate.jsonl`, for example. What is there is not run again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.campaign import plan, searches
from harness.campaign.device import resolve_device
from harness.errors import ConfigError, RunFolderError, SubmissionError
from harness.machine.flags import Device
from harness.program import discovery, processes, submission
from harness.program.requests import Ends
from harness.program.submission import SubmissionInfo, choose_point
from harness.program.workload import WorkloadInfo
from harness.record.search_record import Asked, SearchRun
from harness.record.spec import RunSpec, Value
from harness.search import recorded_search, sweeps, two_passes
from harness.search.recorded_search import Search
from harness.search.sweeps import Later
from harness.search.two_passes import Ask, Values


@dataclass(frozen=True)
class Place:
    """A workload, and where its runs run.

    Attributes:
      jobs: runs at a time.
      pool: starts with the first run.
    """

    folder: discovery.Folder
    info: WorkloadInfo
    device: Device
    jobs: int
    pool: Later


@dataclass(frozen=True)
class Taker:
    """A submission that takes part, with its defaults: those of its file, with what hp.NAME gives in their place."""

    folder: discovery.Folder
    info: SubmissionInfo
    default: dict[str, Value]


@dataclass(frozen=True)
class Survey:
    """The searches of one submission, a workload each, in the order of the places."""

    taker: Taker
    places: Sequence[Place]
    searches: Sequence[Search]

    def asked(self, points: Sequence[Values], max_steps: int | None = None) -> list[Asked]:
        """Return what a search over these points has to decide on each workload."""
        name = self.taker.folder.name
        return [two_passes.asked_of(place.info, name, points, max_steps=max_steps) for place in self.places]

    def ask(self, asked: Sequence[Asked], on: Sequence[int]) -> Ask:
        """Return the way to the runs on the workloads of these numbers."""
        pools = [self.places[n].pool for n in on]
        return recorded_search.running(self.taker.folder.name, [self.searches[n] for n in on], pools, asked)


def check_request(request: RunSpec, command: str) -> None:
    """Raise ConfigError for what runs on tuning seeds, in this process, cannot take."""
    if request.variant is not None:
        raise ConfigError(f"harness {command}: held-out variants are never tuned on; leave variant= out")
    if request.seed:
        raise ConfigError(f"harness {command}: runs on tuning seeds, which are the same for all; leave seed= out")
    if (name := request.launcher.name) != "local":
        around = "sbatch --wrap='{}'" if request.launcher.engine == "slurm" else "nohup {} &"
        raise ConfigError(
            f"harness {command}: launcher={name} takes what `harness run` has to run alone; leave it out, and submit "
            f"the command itself, as in {around.format(f'harness {command} ...')}; it goes on where it was stopped"
        )


def workloads_of(request: RunSpec, command: str, least: int = 1) -> list[tuple[discovery.Folder, WorkloadInfo]]:
    """Return the workloads of a request. Raises ConfigError for fewer than `least`, DataError for missing data."""
    found = [(folder, discovery.workload_info(folder)) for folder in plan.workload_folders(request)]
    if len(found) < least:
        raise ConfigError(
            f"harness {command}: expected {least} workloads or more, since one is left out in turn, got "
            f"{', '.join(folder.name for folder, _ in found)}; name more with workload=A,B or suite=NAME"
        )
    plan.check_data_of([(folder, None) for folder, _ in found])
    return found


def takers(names: list[str], request: RunSpec, command: str) -> list[Taker]:
    """Return the submissions of these names. Raises ConfigError for none, and where hp.NAME does not fit."""
    if not names:
        raise ConfigError(f"no submission named; for example: harness {command} adamw muon suite=demo")
    found = []
    for folder in plan.submission_folders(names):
        info = submission.read_info(folder)
        try:
            default = choose_point(folder, info, request.hp)
        except SubmissionError as error:  # the user's slip
            raise ConfigError(str(error)) from None
        if lacking := [name for name in info.required if name not in request.hp]:
            typed = " ".join(f"hp.{name}={default[name]}" for name in lacking)
            raise ConfigError(f"{folder.name} has no default for {', '.join(lacking)}; give one, as in {typed}")
        found.append(Taker(folder, info, default))
    return found


@contextlib.contextmanager
def places(request: RunSpec, workloads: Sequence[tuple[discovery.Folder, WorkloadInfo]]) -> Iterator[list[Place]]:
    """Yield the workloads with the processes for their runs, which end with the block."""
    device = resolve_device(request.device)
    jobs = sweeps.places(device)
    with contextlib.ExitStack() as stack:
        yield [Place(folder, info, device, jobs, Later(stack, folder, jobs, device)) for folder, info in workloads]


def wanted_of(
    place: Place, taker: Taker, ends: Mapping[str, Ends] | None = None, declared_steps: int | None = None
) -> processes.Wanted:
    """Return the programs of a submission at its defaults on a workload; `ends` and `declared_steps` as in `survey`."""
    known = processes.ends_of(taker.info) | dict(ends or {})
    return processes.Wanted(
        place.folder, taker.folder, (taker.default,), declared_steps or place.info.budget_steps, declared_steps,
        platform=place.device, ends=known,
    )  # fmt: skip


@contextlib.contextmanager
def survey(
    request: RunSpec,
    taker: Taker,
    held: Sequence[Place],
    name: str,
    on_run: Callable[[Place, SearchRun], None],
    *,
    ends: Mapping[str, Ends] | None = None,
    from_start: bool = False,
    declared_steps: int | None = None,
) -> Iterator[Survey]:
    """Yield the searches of one submission, with what their records `NAME.jsonl` hold; no other process has them then.

    `ends` are of dimensions that may be arguments of its program, beside or in place of those of its search space;
    `declared_steps` is the length that it is told in place of the step hint. Raises RunFolderError where a record is
    damaged or held by another process.
    """
    found = []
    with contextlib.ExitStack() as stack:
        for place in held:
            file = Path(request.out) / place.folder.name / taker.folder.name / f"{name}.jsonl"
            stack.enter_context(searches.held(file))
            wanted = wanted_of(place, taker, ends, declared_steps)
            search = Search(
                place.folder,
                place.info,
                file,
                (),
                1 if place.jobs > 1 else len(sweeps.cores()),
                lambda run, place=place: on_run(place, run),  # type: ignore[misc]
                place.device,
                wanted=wanted,
                from_start=from_start,
            )
            try:
                search.load()
            except ValueError as error:
                raise RunFolderError(f"{file} is damaged ({error}); remove it to run its points anew") from None
            found.append(search)
        yield Survey(taker, held, found)
