"""The runs of a search on one workload, kept in a record: what is in it is not run again. Needs no jax.

What `scripts/set_targets.py` and `scripts/tune.py` share. The record is written after each run, so that a search can be
stopped and started at any time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.machine import hardware
from harness.machine.flags import Device
from harness.machine.hardware import gpu_names
from harness.program import discovery
from harness.program.workload import WorkloadInfo
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
    runs: list[TargetRun] = field(default_factory=list)
    step_time: StepTime | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self) -> None:
        """Take up the record where it is of this workload as it is now."""
        runs, step_time = targets.read_record(self.record)
        now = self.folder.source_hash
        self.runs = [run for run in runs if run.workload_hash == now]
        self.step_time = step_time if step_time and step_time.workload_hash == now else None

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
        wanted = [
            Request(name, hyperparameters, self.moved, 0, study, tuning, until, target)
            for (name, hyperparameters), study in points
        ]
        pool.run([request for request in wanted if self._recorded(request) is None], self._enter)
        return [run for request in wanted if (run := self._recorded(request)) is not None]

    def _recorded(self, request: Request) -> TargetRun | None:
        role = "tuning" if request.tuning else "scoring"
        point = request.submission, request.hyperparameters
        for run in self.runs:
            if (run.role, run.study, run.point) == (role, request.study, point):
                hit = request.target is not None and targets.first_step(run, request.target, self.info.mode)
                return run if run.status == "diverged" or hit or run.steps[-1] >= request.until else None
        return None

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
