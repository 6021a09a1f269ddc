"""Many runs of a workload in one process, in the step domain: for searches, where no clock is needed.

    python -m harness.trial.sweep WORKLOAD < requests > answers

reads a JSON object a line, a `Request`, and answers each with an `Answer`. It trains by the programs, data order and
random streams of a trial. A program is compiled once for all points that differ in its arguments alone; a trial takes
ten times as long to start as a small one trains. A run ends where it is asked to and is held in memory, so that a later
request takes it further.
"""

from __future__ import annotations

import json
import math
import os
import queue
import stat
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from harness.api import TrainState
from harness.errors import HarnessError, SubmissionError
from harness.machine.allocator import keep_memory
from harness.machine.flags import Device
from harness.program import discovery, processes, seeds, store
from harness.program.draws import Keys
from harness.program.manifest import Contract
from harness.program.workload import Data, next_measurement
from harness.record import plain_data
from harness.record.spec import Mode
from harness.trial import feeding
from harness.trial.feeding import Whole
from harness.trial.programs import MAX_CHUNK_STEPS, Inputs, Programs, Variables, compile_programs
from harness.trial.sweep_messages import Answer, Request
from harness.trial.ways import choose_way


@dataclass
class Run:
    """A run in memory."""

    inputs: Inputs
    state: TrainState
    step: int = 0
    steps: list[int] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)
    seconds: float = 0.0
    diverged: bool = False


class Sweep:
    """A workload on the device, the programs compiled for it so far, and the runs that can go on."""

    def __init__(self, folder: discovery.Folder):
        self._data: Data = discovery.load_data(folder)
        self._own = processes.workload_program(folder, platform=_platform())
        self._splits = self._data.load()
        self._slice = jax.device_put(dict(self._splits.validation_slice))
        self._whole: Whole | None = None
        self._programs: dict[str, tuple[Programs, Whole]] = {}
        self._runs: dict[str, Run] = {}

    def run(self, request: Request) -> Answer:
        """Take a run to the step asked for. Raises SubmissionError where the submission cannot be run so."""
        programs, feed = self._compiled(request)
        run = self._runs.get(request.run)
        if run is None:
            inputs = self._inputs(request, programs)
            run = self._runs[request.run] = Run(inputs, programs.init(inputs))
        start = time.monotonic()
        info = self._data.info
        if request.from_start and not run.steps:
            self._measure(run, programs, feed)
        while run.step < request.until and not run.diverged and not _met(run, request.target, info.mode):
            due = min(request.until, next_measurement(info.step_hint, run.step, info.measurements))
            losses = self._trained(run, programs, feed, due)
            self._measure(run, programs, feed)
            run.diverged = not (any(map(math.isfinite, losses)) and programs.finite(run.state.params))
        run.seconds += time.monotonic() - start
        status = "diverged" if run.diverged else "running"
        return Answer(status, tuple(run.steps), tuple(run.values), round(run.seconds, 3))

    def _measure(self, run: Run, programs: Programs, feed: Whole) -> None:
        """Measure a run where it is."""
        measured = programs.evaluate(*self._variables(run, programs, feed), self._slice)
        value = float(measured[self._data.info.metric])
        run.steps.append(run.step)
        run.values.append(value if math.isfinite(value) else None)

    def _trained(self, run: Run, programs: Programs, feed: Whole, until: int) -> list[float]:
        """Train a run up to a step; return the losses."""
        size, losses = self._data.info.batch_size, []
        step = programs.steps[size]
        while run.step < until:
            calls = feed.calls(min(MAX_CHUNK_STEPS, until - run.step), run.step * size, size)
            train = feed.at(run.inputs.keys, run.step * size)
            order = step.order(run.state, run.inputs)
            for _ in range(calls):
                run.state, metrics = step(run.state, run.inputs, train, order)
                losses.append(metrics["loss"])
                run.step += 1
        return [float(loss[0]) for loss in losses]

    def _variables(self, run: Run, programs: Programs, feed: Whole) -> Variables:
        if programs.eval_variables is None:
            return run.state.params, run.state.model_state
        train = feed.recalibration(run.inputs.keys, run.step)
        return programs.eval_variables(run.state, run.inputs, train)

    def _inputs(self, request: Request, programs: Programs) -> Inputs:
        draw = lambda name: seeds.stream(request.seed, request.study, 0, name, tuning=request.tuning)  # noqa: E731
        keys = Keys(*(draw(name) for name in ("init", "data", "algorithm", "evaluation")))
        values = [jnp.float32(request.hyperparameters[name]) for name in programs.contract.arguments]
        return Inputs(keys, tuple(values))

    def _compiled(self, request: Request) -> tuple[Programs, Whole]:
        if request.program not in self._programs:
            program = store.read(request.program)
            if program is None:
                raise HarnessError(f"{request.submission}: its program {request.program} is not in {store.root()}")
            contract = program.manifest.contract
            if contract.control or len(contract.batch_sizes) > 1:
                raise SubmissionError(f"{request.submission}: control and batch sizes need whole trials, not a sweep")
            platform, keys = _platform(), Keys(*[seeds.stream(0, 0, 0, "warmup")] * len(Keys._fields))
            data, feed = self._fed(contract)
            way, _ = choose_way(self._own, program, data, feed.train, keys, platform=platform)
            programs = compile_programs(
                data, self._own, program, feed.train, self._slice, platform=platform, way=way, dispatch_steps=1
            )
            self._programs[request.program] = programs, feed
        return self._programs[request.program]

    def _fed(self, contract: Contract) -> tuple[Data, Whole]:
        """Return the data for a program, and what hands it the training arrays; whole ones serve all programs."""
        if self._whole is not None:
            return self._data, self._whole
        data, feed = feeding.feed(self._data, self._splits, contract, 1)
        self._whole = feed if data is self._data else None
        return data, feed


def _platform() -> Device:
    return "gpu" if jax.default_backend() == "gpu" else "cpu"


def _met(run: Run, target: float | None, mode: Mode) -> bool:
    found = [value for value in run.values if value is not None]
    return target is not None and any(v <= target if mode == "min" else v >= target for v in found)


def _lines() -> Iterable[str]:
    """Return the lines of standard input. Where it is a pipe, this process ends with it, in the middle of a run too:
    whoever asked is gone.
    """
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return sys.stdin
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return iter(lines.get, "")


def main(argv: list[str]) -> int:
    """Answer requests until the input ends."""
    lines = _lines()
    sweep = Sweep(discovery.find("workloads", argv[0]))
    for line in lines:
        try:
            answer = sweep.run(plain_data.read(Request, json.loads(line), "request"))
        except HarnessError as error:
            answer = Answer("failed", error=str(error))
        print(json.dumps(plain_data.to_plain(answer)), flush=True)
    return 0


if __name__ == "__main__":
    keep_memory()
    sys.exit(main(sys.argv[1:]))
