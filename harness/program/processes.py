"""From folders to programs in the store: exporter and deriver run as processes, within limits. Needs no jax.

A submission is imported once for all workloads and points that it is exported on, by a process of its own; several
submissions are exported at a time.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, MachineError, SubmissionError, WorkloadError
from harness.machine.flags import Device
from harness.machine.hardware import packages
from harness.program import confinement, store
from harness.program.child import Child, end_all
from harness.program.discovery import Folder
from harness.program.making import make
from harness.program.requests import DeriveRequest, Ends, ExportRequest, Job
from harness.program.submission import SubmissionInfo, read_info
from harness.record.spec import Value, short_hash

_OWN = ("api.py", "optim", "program")  # what a program is made by, of the harness


@dataclass(frozen=True)
class Wanted:
    """The programs of a submission on a workload at some points.

    Attributes:
      budget_steps, declared_steps: as the submission is told (`harness.api.TaskView`).
      variant, platform: of the workload, and what the programs are for; it need not be here.
      ends: dimensions that may be arguments of the programs, with their least and largest values; a point outside of
        them has a program of its own.
    """

    workload: Folder
    submission: Folder
    points: tuple[Mapping[str, Value], ...]
    budget_steps: int
    declared_steps: int | None = None
    variant: str | None = None
    platform: Device = "cpu"
    ends: Mapping[str, Ends] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """Ids in the store: of the workload's own program, and of the submission's at each point wanted."""

    workload: str
    programs: tuple[str, ...]


def ends_of(info: SubmissionInfo) -> dict[str, Ends]:
    """Return the dimensions of a submission's space that hold numbers with a fraction, and their ends."""
    found: dict[str, Ends] = {}
    for name, dimension in info.space.items():
        values = dimension.values or (dimension.min, dimension.max)
        if isinstance(info.defaults[name], float) and all(isinstance(value, int | float) for value in values):
            numbers = [float(value) for value in values]  # type: ignore[arg-type]
            found[name] = (min(numbers), max(numbers))
    return found


def submission_programs(
    workload: Folder,
    submission: Folder,
    points: Sequence[Mapping[str, Value]],
    budget_steps: int,
    *,
    declared_steps: int | None = None,
    variant: str | None = None,
    platform: Device = "cpu",
    ends: Mapping[str, Ends] | None = None,
) -> list[store.Program]:
    """Return the program of a submission on a workload at each point; what the store lacks is exported.

    `ends` are those of the submission's own space where none are given. Raises SubmissionError naming file and cause
    where a program breaks the contract or a limit.
    """
    if ends is None:
        ends = ends_of(read_info(submission)) if (submission.path / "submission.yaml").is_file() else {}
    given = Wanted(workload, submission, tuple(points), budget_steps, declared_steps, variant, platform, ends)
    for _ in range(2):  # a damaged program is noticed when it is read, removed, and made anew
        (found,) = program_ids([given])
        if isinstance(found, HarnessError):
            raise found
        programs = [store.read(program_id) for program_id in found.programs]
        if None not in programs:
            return [program for program in programs if program is not None]
    raise HarnessError(f"programs in {store.root()} are removed while they are read; try again")


def workload_program(workload: Folder, variant: str | None = None, platform: Device = "cpu") -> store.Program:
    """Return the workload's own program, exported where it is not in the store; WorkloadError where it cannot be."""
    for _ in range(2):
        (program_id,) = workload_ids([(workload, variant)], platform)
        if isinstance(program_id, HarnessError):
            raise program_id
        if (program := store.read(program_id)) is not None:
            return program
    raise HarnessError(f"programs in {store.root()} are removed while they are read; try again")


def workload_ids(
    workloads: Sequence[tuple[Folder, str | None]], platform: Device = "cpu", on_export: Callable[[str], object] = str
) -> list[str | HarnessError]:
    """Return the id of each workload's own program, of a variant of it, or why it has none. Those that the store lacks
    are exported by one process; `on_export` is told of each.
    """
    keys = {each: store.key(**_sources(*each, platform)) for each in workloads}
    missing = [each for each, key in keys.items() if store.find(key) is None]
    found: dict[tuple[Folder, str | None], str | HarnessError] = {}
    if missing:
        for workload, _ in missing:
            on_export(workload.name)
        with Child("derive", "workloads") as deriver, store.scratch() as scratch:
            jobs = [
                Job(str(_new(scratch / str(i))), str(workload.path), variant, platform)
                for i, (workload, variant) in enumerate(missing)
            ]
            requests = [DeriveRequest(job.out, None, platform, _sources(*each, platform)) for job, each in zip(jobs, missing, strict=True)]  # fmt: skip # noqa: E501
            made = make(ExportRequest(None, tuple(jobs)), lambda: requests, deriver, [str(w.path) for w, _ in missing])
            for each, answer in zip(missing, made, strict=True):
                if isinstance(answer, HarnessError):
                    found[each] = answer if isinstance(answer, MachineError) else WorkloadError(str(answer))
                else:
                    store.enter(keys[each], answer)
    return [found.get(each) or _there(keys[each]) for each in workloads]


def program_ids(wanted: Sequence[Wanted], on_export: Callable[[str], object] = str) -> list[Found | HarnessError]:
    """Return the ids of the programs that are wanted, or why there are none. What the store lacks is exported,
    those of a submission by one process, while workloads' own are still made by another; `on_export` is told of each.
    """
    places: dict[Path, list[int]] = {}
    for number, each in enumerate(wanted):
        places.setdefault(each.submission.path, []).append(number)
    answers: dict[int, Found | HarnessError] = {}

    def resolve(numbers: list[int], owns: Future[list[str | HarnessError]]) -> None:
        lookups = [_Lookup(wanted[n]) for n in numbers]

        def know() -> None:
            for n, lookup in zip(numbers, lookups, strict=True):
                lookup.know(owns.result()[n])

        for _ in range(2):  # arguments are known after the first, and with them which points share a program
            todo = [lookup for lookup in lookups if lookup.error is None and lookup.jobs]
            if todo:
                _export(todo, on_export, know)
        answers.update({n: lookup.answer() for n, lookup in zip(numbers, lookups, strict=True)})

    with ThreadPoolExecutor(1 + max(1, min(len(places), os.cpu_count() or 1))) as pool:
        owns = pool.submit(_own_ids, wanted, on_export)
        try:
            for _ in pool.map(resolve, places.values(), itertools.repeat(owns)):
                pass
        except KeyboardInterrupt:
            end_all()  # or the pool waits for them
            raise
    return [answers[n] for n in range(len(wanted))]


def ids_anew(wanted: Wanted, arguments: Sequence[str]) -> list[str | HarnessError]:
    """Return the id of the program at each point, or why there is none, exported by a process of its own whatever the
    index knows. The workload's own program is in the store; `arguments` are the programs'.
    """
    lookup = _Lookup(wanted)
    with Child("derive", str(wanted.submission.path)) as deriver, store.scratch() as scratch:
        jobs = [
            lookup.job(point, {}, tuple(arguments), str(_new(scratch / str(i))))
            for i, point in enumerate(wanted.points)
        ]
        requests = [DeriveRequest(job.out, lookup.own, job.platform, lookup.sources) for job in jobs]
        path = str(wanted.submission.path)
        return make(ExportRequest(path, tuple(jobs)), lambda: requests, deriver, [path] * len(jobs), lookup.requires)


def _own_ids(wanted: Iterable[Wanted], on_export: Callable[[str], object]) -> list[str | HarnessError]:
    """Return the id of each one's workload program."""
    listed = list(wanted)
    found: dict[tuple[Folder, str | None, Device], str | HarnessError] = {}
    for platform in {each.platform for each in listed}:
        workloads = list(dict.fromkeys((w.workload, w.variant) for w in listed if w.platform == platform))
        ids = workload_ids(workloads, platform, on_export)
        found |= {(*workload, platform): own for workload, own in zip(workloads, ids, strict=True)}
    return [found[each.workload, each.variant, each.platform] for each in listed]


class _Lookup:
    """The programs of a submission on a workload, as far as the index knows them: nothing while the workload's own
    program is still made.
    """

    def __init__(self, wanted: Wanted):
        self.wanted = wanted
        self.error: HarnessError | None = None
        self.requires: tuple[str, ...] = ()
        self.versions: dict[str, str] = {}
        self.source = ""
        try:
            self.source = wanted.submission.source_hash
            if (wanted.submission.path / "submission.yaml").is_file():
                self.requires = read_info(wanted.submission).requires
            self.versions = confinement.versions(wanted.submission.path, self.requires)
        except SubmissionError as error:
            self.error = error
        self.know(store.find(store.key(**_sources(wanted.workload, wanted.variant, wanted.platform))) or "none")
        self.look()

    def know(self, own: str | HarnessError) -> None:
        """Take the id of the workload's own program, or why there is none."""
        self.error = own if isinstance(own, HarnessError) else self.error
        self.own = str(own)
        self.sources = _sources(self.wanted.workload, self.wanted.variant, self.wanted.platform) | {
            "submission": self.source,
            "budget_steps": self.wanted.budget_steps,
            "declared_steps": self.wanted.declared_steps,
            "workload_program": self.own,
        }
        self.sources |= {"requires": self.versions} if self.versions else {}

    def look(self) -> None:
        """Find what is there, and what to export."""
        self.ids: list[str | None] = []
        self.jobs: dict[str, Job] = {}
        for point in self.wanted.points:
            ends = {n: e for n, e in self.wanted.ends.items() if n in point and e[0] <= float(point[n]) <= e[1]}
            settled = self._settled_key(point, ends)
            arguments = store.recall(settled)
            key = settled if arguments is None else self._key(point, arguments)
            program_id = None if arguments is None else store.find(key)
            self.ids.append(program_id)
            if program_id is None:
                known = None if arguments is None else tuple(arguments)
                self.jobs.setdefault(key, self.job(point, ends, known))

    def job(
        self, point: Mapping[str, Value], ends: Mapping[str, Ends], arguments: tuple[str, ...] | None, out: str = ""
    ) -> Job:
        """Return what the exporter is asked for at a point."""
        wanted = self.wanted
        return Job(
            out, str(wanted.workload.path), wanted.variant, wanted.platform, dict(point), wanted.budget_steps,
            wanted.declared_steps, dict(ends), arguments,
        )  # fmt: skip

    def enter(self, job: Job, program_id: str, arguments: Sequence[str]) -> None:
        """Remember what came of a job."""
        assert job.hyperparameters is not None
        if job.arguments is None:
            store.remember(self._settled_key(job.hyperparameters, job.ends), list(arguments))
        store.enter(self._key(job.hyperparameters, arguments), program_id)

    def answer(self) -> Found | HarnessError:
        """Return the ids, or the first error."""
        if self.error is not None:
            return self.error
        ids = tuple(program_id for program_id in self.ids if program_id is not None)
        if len(ids) < len(self.ids):
            return HarnessError(f"programs in {store.root()} vanish; try again")
        return Found(self.own, ids)

    def _settled_key(self, point: Mapping[str, Value], ends: Mapping[str, Ends]) -> str:
        constants = {name: value for name, value in point.items() if name not in ends}
        return store.key(**self.sources, constants=constants, ends=dict(ends), what="arguments")

    def _key(self, point: Mapping[str, Value], arguments: Sequence[str]) -> str:
        constants = {name: value for name, value in point.items() if name not in arguments}
        return store.key(**self.sources, constants=constants, arguments=sorted(arguments))


def _export(lookups: Sequence[_Lookup], on_export: Callable[[str], object], know: Callable[[], object]) -> None:
    """Export what lookups of one submission lack, by one process, and look again. `know` waits for the workloads' own
    programs, which the deriver needs, and tells the lookups.
    """
    submission = lookups[0].wanted.submission
    with Child("derive", str(submission.path)) as deriver, store.scratch() as scratch:
        entries: list[tuple[_Lookup, Job]] = []
        for lookup in lookups:
            on_export(f"{submission.name} on {lookup.wanted.workload.name}")
            for job in lookup.jobs.values():
                entries.append((lookup, replace(job, out=str(_new(scratch / str(len(entries)))))))
        held = {"confinement": confinement.kernel()}

        def requests() -> list[DeriveRequest]:
            know()
            return [DeriveRequest(job.out, lookup.own, job.platform, lookup.sources | held) for lookup, job in entries]

        request = ExportRequest(str(submission.path), tuple(job for _, job in entries))
        made = make(request, requests, deriver, [str(submission.path)] * len(entries), lookups[0].requires)
        if changed := _changed(lookups[0]):
            made = [changed] * len(entries)
        for (lookup, job), answer in zip(entries, made, strict=True):
            if isinstance(answer, HarnessError):
                lookup.error = lookup.error or answer
            else:
                program = store.read(answer)
                if program is not None:
                    lookup.enter(job, answer, program.manifest.contract.arguments)
    for lookup in lookups:
        lookup.look()


def _changed(lookup: _Lookup) -> HarnessError | None:
    """Return what is wrong where a submission is another than the one that was looked up."""
    try:
        if lookup.wanted.submission.source_hash == lookup.source:
            return None
    except HarnessError as error:
        return error
    return SubmissionError(f"{lookup.wanted.submission.path}: its files changed while its program was made; try again")


def _there(key: str) -> str | HarnessError:
    return store.find(key) or HarnessError(f"programs in {store.root()} vanish; try again")


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _sources(workload: Folder, variant: str | None, platform: Device) -> dict[str, Any]:
    versions = _versions()
    return {
        "workload": workload.source_hash,
        "variant": variant,
        "platform": platform,
        "harness": _own_hash(),
        "versions": {name: versions[name] for name in ("jax", "jaxlib", "flax", "optax")},
        "attention": os.environ.get("HARNESS_ATTENTION"),
    }


@functools.cache
def _versions() -> dict[str, Any]:
    return packages()


@functools.cache
def _own_hash() -> str:
    """Return a hash of the harness's own sources that a program is made by."""
    package = Path(__file__).resolve().parents[1]
    files = [
        path for name in _OWN for path in ([package / name] if name.endswith(".py") else (package / name).rglob("*.py"))
    ]
    return short_hash({str(path.relative_to(package)): store.sha256(path.read_bytes()) for path in sorted(files)})
