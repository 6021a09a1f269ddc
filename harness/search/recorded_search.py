"""The runs of a search on one workload, kept in a record: what is in it is not run again. Needs no jax.

What `scripts/set_targets.py` and `scripts/tune.py` share. A run is known by the programs that ran, its point and its
seed: what was recorded of another program, or before there were programs, is run anew. The record is written after each
run, so that a search can be stopped and started at any time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HarnessError
from harness.machine import hardware
from harness.machine.flags import Device
from harness.machine.hardware import gpu_names
from harness.program import discovery, processes, submission
from harness.program.requests import Ends
from harness.program.workload import WorkloadInfo
from harness.record.spec import Value
from harness.search import targets
from harness.search.sweeps import Sweeps
from harness.search.targets import Point, StepTime, TargetRun
from harness.trial.sweep_messages import Answer, Request


@dataclass
class Search:
    """What is recorded of one workload, and the way to what is not.

    Attributes:
      record: the file.
      moved: the hyperparameters in which points differ.
      ends: of each submission, the dimensions that may be arguments of its program, where they are not its own space.
      cores: of a run, for the record.
      on_run: called with each new run.
      device: where runs run.
    """

    folder: discovery.Folder
    info: WorkloadInfo
    record: Path
    moved: tuple[str, ...]
    cores: int
    on_run: Callable[[TargetRun], None]
    device: Device = "cpu"
    ends: Mapping[str, Mapping[str, Ends]] = field(default_factory=dict)
    runs: list[TargetRun] = field(default_factory=list)
    step_time: StepTime | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self) -> None:
        """Take up what the record has of the programs as they are now."""
        runs, step_time = targets.read_record(self.record)
        known = [run for run in runs if run.program is not None]
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
        folder = discovery.find("submissions", name)
        ends = self.ends.get(name)
        ends = processes.ends_of(submission.read_info(folder)) if ends is None else ends
        return processes.Wanted(
            self.folder, folder, tuple(points), self.info.budget_steps, platform=self.device, ends=ends
        )

    def save(self) -> None:
        """Write the record."""
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
    ) -> list[TargetRun]:
        """Return the runs of (point, study) pairs as far as step `until`, or the target, running what is missing."""
        programs = self.programs([point for point, _ in points])
        wanted = [
            Request(name, program, hyperparameters, 0, study, tuning, until, target)
            for ((name, hyperparameters), study), (_, program) in zip(points, programs, strict=True)
        ]
        pool.run([request for request in wanted if self._recorded(request) is None], self._enter)
        return [run for request in wanted if (run := self._recorded(request)) is not None]

    def _recorded(self, request: Request) -> TargetRun | None:
        role = "tuning" if request.tuning else "scoring"
        wanted = role, request.study, request.program, request.hyperparameters
        for run in self.runs:
            if (run.role, run.study, run.program, run.hyperparameters) == wanted:
                hit = request.target is not None and targets.first_step(run, request.target, self.info.mode)
                return run if run.status == "diverged" or hit or run.steps[-1] >= request.until else None
        return None

    def _own(self) -> str:
        """Return the id of the workload's own program."""
        (found,) = processes.workload_ids([(self.folder, None)], self.device)
        if isinstance(found, HarnessError):
            raise found
        return found

    def _enter(self, request: Request, answer: Answer) -> None:
        run = TargetRun(
            workload=self.folder.name,
            workload_hash=self.folder.source_hash,
            submission=request.submission,
            submission_hash=discovery.find("submissions", request.submission).source_hash,
            role="tuning" if request.tuning else "scoring",
            hyperparameters=request.hyperparameters,
            seed=request.seed,
            study=request.study,
            status=answer.status,
            steps=answer.steps,
            values=answer.values,
            seconds=answer.seconds,
            machine=machine(self.cores, self.device),
            workload_program=self._own(),
            program=request.program,
        )
        same = (run.role, run.study, run.point)
        with self.lock:
            self.runs = [old for old in self.runs if (old.role, old.study, old.point) != same] + [run]
            self.save()
            self.on_run(run)


def shown(point: Point, names: Sequence[str]) -> str:
    """Return a point for people: the submission and what the search moves."""
    return " ".join([point[0], *(f"{name}={point[1][name]:g}" for name in names)])


def described(run: TargetRun, metric: str, names: Sequence[str]) -> str:
    """Return a line on how far a run is."""
    value = "diverged" if run.values[-1] is None else f"{metric} {run.values[-1]:.4f}"
    return f"{run.role} {shown(run.point, names)} study={run.study}: {value} at step {run.steps[-1]}"


def machine(cores: int | None = None, device: Device = "cpu") -> str:
    """Return what a run runs on, in a line; with all cores unless told otherwise."""
    here, versions = hardware.machine(), hardware.packages()
    card = f"{gpu_names()}, " if device == "gpu" else ""
    return f"{card}{here['cpu']}, {cores or here['cores']} core(s), Python {here['python']}, jax {versions['jax']}"
