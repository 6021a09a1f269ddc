"""The runs of a search on one workload, kept in a record: what is in it is not run again. Needs no jax.

What `scripts/set_targets.py`, `scripts/tune.py` and `rules=tuned` share. A run is known by the programs that ran, its
point and its seed: what was recorded of another program, or before there were programs, is run anew. The record is
written after each run, so that a search can be stopped and started at any time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import HarnessError
from harness.machine import hardware
from harness.machine.flags import Device
from harness.machine.hardware import gpu_names
from harness.program import discovery, processes, submission
from harness.program.requests import Ends
from harness.program.workload import WorkloadInfo
from harness.record import search_record
from harness.record.search_record import Asked, SearchRecord, SearchRun
from harness.record.spec import Value
from harness.search import targets
from harness.search.sweeps import Sweeps
from harness.search.targets import Point, StepTime
from harness.search.two_passes import SEED, Ask, Table, Values, far_enough
from harness.trial.sweep_messages import Answer, Request


@dataclass
class Search:
    """What is recorded of one workload, and the way to what is not.

    Attributes:
      record: the file.
      moved: the hyperparameters in which points differ.
      cores: of a run, for the record.
      on_run: called with each new run.
      device: where runs run.
      ends: of each submission, the dimensions that may be arguments of its program, where they are not its own space.
      wanted: the programs of the one submission that is searched, where its name alone does not tell them.
      asked: the first line of a record that has one.
      from_start: whether runs are measured at step 0 too, before the first step.
      own: the workload's own program beside each program that was asked for.
    """

    folder: discovery.Folder
    info: WorkloadInfo
    record: Path
    moved: tuple[str, ...]
    cores: int
    on_run: Callable[[SearchRun], None]
    device: Device = "cpu"
    ends: Mapping[str, Mapping[str, Ends]] = field(default_factory=dict)
    wanted: processes.Wanted | None = None
    asked: Asked | None = None
    from_start: bool = False
    runs: list[SearchRun] = field(default_factory=list)
    step_time: StepTime | None = None
    own: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self) -> None:
        """Take up what the record has of the programs as they are now."""
        if self.asked is None:
            runs, step_time = targets.read_record(self.record)
        else:
            runs, step_time = list(found.runs) if (found := search_record.read(self.record)) else [], None
        wanted = None if self.asked is None else self.asked.points
        known = [run for run in runs if run.program is not None and (wanted is None or run.hyperparameters in wanted)]
        if self.wanted is not None and self.wanted.points:  # what was recorded before a hyperparameter came or went
            known = [run for run in known if run.hyperparameters.keys() == self.wanted.points[0].keys()]
        programs = dict(zip(map(id, known), self.programs([run.point for run in known]), strict=True))
        self.runs = [run for run in known if (run.workload_program, run.program) == programs[id(run)]]
        now = self.folder.source_hash
        self.step_time = step_time if step_time and step_time.workload_hash == now else None

    def programs(self, points: Sequence[Point]) -> list[tuple[str, str]]:
        """Return the ids of the workload's and the submission's program at each point, exported where the store lacks
        them. Raises SubmissionError where there is none.
        """
        at: dict[str, list[int]] = {}
        for number, (name, _) in enumerate(points):
            at.setdefault(name, []).append(number)
        wanted = [self._wanted(name, [points[n][1] for n in numbers]) for name, numbers in at.items()]
        ids: dict[int, tuple[str, str]] = {}
        for numbers, found in zip(at.values(), processes.program_ids(wanted), strict=True):
            if isinstance(found, HarnessError):
                raise found
            ids |= {n: (found.workload, program) for n, program in zip(numbers, found.programs, strict=True)}
        return [ids[number] for number in range(len(points))]

    def _wanted(self, name: str, points: Sequence[Mapping[str, Value]]) -> processes.Wanted:
        if self.wanted is not None:
            return replace(self.wanted, points=tuple(points))
        folder = discovery.find("submissions", name)
        ends = self.ends.get(name)
        ends = processes.ends_of(submission.read_info(folder)) if ends is None else ends
        return processes.Wanted(
            self.folder, folder, tuple(points), self.info.budget_steps, platform=self.device, ends=ends
        )

    def save(self) -> None:
        """Write the record."""
        if self.asked is not None:
            search_record.write(self.record, SearchRecord(self.asked, tuple(self.runs)))
            return
        self.record.parent.mkdir(parents=True, exist_ok=True)
        new = self.record.with_suffix(".new")
        restamps = targets.read_restamps(self.record)
        new.write_text(targets.record_lines(self.runs, self.step_time, restamps))
        new.replace(self.record)

    def run_all(
        self,
        pool: Sweeps,
        points: Sequence[tuple[Point, int]],
        *,
        tuning: bool,
        until: int,
        target: float | None = None,
    ) -> list[SearchRun]:
        """Return the runs of (point, study) pairs as far as step `until`, or the target, running what is missing."""
        requests = self.requests(points, tuning=tuning, until=until, target=target)
        return run_together(pool, [(self, requests)])[0]

    def requests(
        self, points: Sequence[tuple[Point, int]], *, tuning: bool, until: int, target: float | None = None
    ) -> list[Request]:
        """Return what a sweep process is asked for (point, study) pairs."""
        programs = self.programs([point for point, _ in points])
        self.own |= {program: workload for workload, program in programs}
        return [
            Request(name, program, hyperparameters, SEED, study, tuning, until, target, self.from_start)
            for ((name, hyperparameters), study), (_, program) in zip(points, programs, strict=True)
        ]

    def _recorded(self, request: Request) -> SearchRun | None:
        role = "tuning" if request.tuning else "scoring"
        wanted = role, request.study, request.program, request.hyperparameters
        for run in self.runs:
            if (run.role, run.study, run.program, run.hyperparameters) == wanted:
                return run if far_enough(run, request.until, request.target, self.info.mode) else None
        return None

    def _enter(self, request: Request, answer: Answer) -> None:
        sources = self._wanted(request.submission, ()).submission
        run = SearchRun(
            workload=self.folder.name,
            workload_hash=self.folder.source_hash,
            submission=request.submission,
            submission_hash=sources.source_hash,
            role="tuning" if request.tuning else "scoring",
            hyperparameters=request.hyperparameters,
            seed=request.seed,
            study=request.study,
            status=answer.status,
            steps=answer.steps,
            values=answer.values,
            seconds=answer.seconds,
            machine=machine(self.cores, self.device),
            workload_program=self.own[request.program],
            program=request.program,
        )
        same = (run.role, run.study, run.point)
        with self.lock:
            self.runs = [old for old in self.runs if (old.role, old.study, old.point) != same] + [run]
            self.save()
            self.on_run(run)


def run_together(pool: Sweeps, asked: Sequence[tuple[Search, Sequence[Request]]]) -> list[list[SearchRun]]:
    """Return the runs of several searches on one workload, running what their records lack side by side, in order."""
    missing = [(search, one) for search, requests in asked for one in requests if search._recorded(one) is None]
    of = {id(request): search for search, request in missing}
    pool.run([request for _, request in missing], lambda request, answer: of[id(request)]._enter(request, answer))
    return [
        [run for request in requests if (run := search._recorded(request)) is not None] for search, requests in asked
    ]


def running(name: str, searches: Sequence[Search], pools: Sequence[Sweeps], asked: Sequence[Asked]) -> Ask:
    """Return the way to the runs of a submission on several workloads, which runs those that are not recorded."""

    def ask(points: Sequence[Values], studies: Sequence[int], until: Sequence[int] | None = None) -> Table:
        table = []
        for number, (search, pool, one) in enumerate(zip(searches, pools, asked, strict=True)):
            runs = search.run_all(
                pool,
                [((name, dict(point)), study) for point in points for study in studies],
                tuning=True,
                until=one.budget_steps if until is None else until[number],
                target=one.target if until is None else None,
            )
            width = len(studies)
            table.append([runs[n * width : (n + 1) * width] for n in range(len(points))])
        return table

    return ask


def shown(point: Point, names: Sequence[str]) -> str:
    """Return a point for people: the submission and what the search moves."""
    return " ".join([point[0], *(f"{name}={point[1][name]:g}" for name in names)])


def described(run: SearchRun, metric: str, names: Sequence[str]) -> str:
    """Return a line on how far a run is."""
    value = "diverged" if run.values[-1] is None else f"{metric} {run.values[-1]:.4f}"
    return f"{run.role} {shown(run.point, names)} study={run.study}: {value} at step {run.steps[-1]}"


def machine(cores: int | None = None, device: Device = "cpu") -> str:
    """Return what a run runs on, in a line; with all cores unless told otherwise."""
    here, versions = hardware.machine(), hardware.packages()
    card = f"{gpu_names()}, " if device == "gpu" else ""
    return f"{card}{here['cpu']}, {cores or here['cores']} core(s), Python {here['python']}, jax {versions['jax']}"
