"""Many runs of a workload in one process, in the step domain: for searches, where no clock is needed.

    python -m harness.trial.sweep WORKLOAD < requests > answers

reads a JSON object a line, a `Request`, and answers each with an `Answer`. It trains by the same step, data order and
random streams as a trial. The hyperparameters that a search moves are arguments of the compiled step and not constants
in it, so that a submission is compiled once and not once a point, unless its `build` needs their values (the length of
a schedule, say); a trial takes ten times as long to start as a small one trains. A run ends where it is asked to and is
held in memory, so that a later request takes it further.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax

from harness.api import Algorithm, TaskView, TrainState
from harness.errors import HarnessError, SubmissionError
from harness.machine.allocator import keep_memory
from harness.machine.flags import Device
from harness.program import discovery, seeds
from harness.program.build import build_algorithm, task_view
from harness.program.trace import Keys, eval_variables_function, init_function, step_function
from harness.program.workload import Workload, next_measurement
from harness.record import plain_data
from harness.record.spec import Mode, Value, short_hash
from harness.trial.sweep_messages import Answer, Request


@dataclass
class Run:
    """A run in memory."""

    keys: Keys
    state: TrainState
    step: int = 0
    steps: list[int] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)
    seconds: float = 0.0
    diverged: bool = False


@dataclass(frozen=True)
class Compiled:
    """The jitted functions of one submission; each takes the moved hyperparameters last."""

    init: Callable[..., TrainState]
    step: Callable[..., Any]
    evaluate: Callable[..., dict[str, jax.Array]]


class Sweep:
    """A workload on the device, the programs compiled for it so far, and the runs that can go on."""

    def __init__(self, folder: discovery.Folder):
        self.workload: Workload = discovery.load_workload(folder)
        splits = self.workload.splits()
        self._train, self._slice = jax.device_put((dict(splits.train), dict(splits.validation_slice)))
        self._programs: dict[str, Compiled] = {}
        self._taken: dict[str, tuple[str, ...]] = {}
        self._runs: dict[str, Run] = {}

    def run(self, request: Request) -> Answer:
        """Take a run to the step asked for. Raises SubmissionError where the submission cannot be run so."""
        moved = {name: request.hyperparameters[name] for name in self._arguments(request)}
        programs = self._compiled(request, moved)
        run = self._runs.get(request.run)
        if run is None:
            draw = lambda name: seeds.stream(request.seed, request.study, 0, name, tuning=request.tuning)  # noqa: E731
            keys = Keys(*(draw(name) for name in ("init", "data", "algorithm", "evaluation")))
            run = self._runs[request.run] = Run(keys, programs.init(keys, moved))
        start = time.monotonic()
        info = self.workload.info
        while run.step < request.until and not run.diverged and not _met(run, request.target, info.mode):
            due = min(request.until, next_measurement(info.step_hint, run.step, info.grid))
            losses = []
            for _ in range(due - run.step):
                run.state, metrics = programs.step(run.state, run.keys, self._train, moved)
                losses.append(metrics["loss"])
            measured = programs.evaluate(run.state, run.keys, self._train, self._slice, moved)
            value = float(measured[info.metric])
            run.step = due
            run.diverged = not all(map(math.isfinite, [value, *map(float, losses)]))
            run.steps.append(due)
            run.values.append(None if run.diverged else value)
        run.seconds += time.monotonic() - start
        status = "diverged" if run.diverged else "running"
        return Answer(status, tuple(run.steps), tuple(run.values), round(run.seconds, 1))

    def _arguments(self, request: Request) -> tuple[str, ...]:
        """Return those of the moved hyperparameters that `build` takes without looking at their values."""
        which = short_hash([request.submission, request.moved])
        if which not in self._taken:
            source = discovery.find("submissions", request.submission)
            task = task_view(self.workload, self.workload.info.budget_steps, None, _platform())

            def takes(name: str) -> bool:
                def build(value: Any) -> TrainState:
                    built = build_algorithm(source, task, request.hyperparameters | {name: value})
                    return init_function(self.workload, built)(Keys(*[jax.random.key(0)] * len(Keys._fields)))

                try:
                    jax.eval_shape(build, request.hyperparameters[name])
                except (SubmissionError, TypeError, jax.errors.JAXTypeError):
                    return False
                return True

            self._taken[which] = tuple(name for name in request.moved if takes(name))
        return self._taken[which]

    def _compiled(self, request: Request, moved: Mapping[str, Value]) -> Compiled:
        fixed = {name: v for name, v in request.hyperparameters.items() if name not in moved}
        which = short_hash([request.submission, fixed, sorted(moved)])
        if which not in self._programs:
            self._programs[which] = self._compile(request.submission, fixed)
        return self._programs[which]

    def _compile(self, name: str, fixed: Mapping[str, Value]) -> Compiled:
        source, workload = discovery.find("submissions", name), self.workload
        task: TaskView = task_view(workload, workload.info.budget_steps, None, _platform())

        def algorithm(moved: Mapping[str, Any]) -> Algorithm:
            built: Algorithm = build_algorithm(source, task, {**fixed, **moved})
            if built.control is not None or built.batch_sizes:
                raise SubmissionError(f"{source.path}: control and batch sizes need whole trials, not a sweep")
            return built

        def evaluate(state: TrainState, keys: Keys, train: Any, arrays: Any, moved: Any) -> dict[str, jax.Array]:
            built = algorithm(moved)
            variables = state.params, state.model_state
            if built.eval_variables is not None:
                variables = eval_variables_function(workload, built)(state, keys, train)
            return workload.evaluate(*variables, arrays)

        def step(state: TrainState, keys: Keys, train: Any, moved: Any) -> Any:
            return step_function(workload, algorithm(moved), workload.info.batch_size, source.path)(state, keys, train)

        return Compiled(
            init=jax.jit(lambda keys, moved: init_function(workload, algorithm(moved))(keys)),
            step=jax.jit(step, donate_argnums=0),
            evaluate=jax.jit(evaluate),
        )


def _platform() -> Device:
    return "gpu" if jax.default_backend() == "gpu" else "cpu"


def _met(run: Run, target: float | None, mode: Mode) -> bool:
    found = [value for value in run.values if value is not None]
    return target is not None and any(v <= target if mode == "min" else v >= target for v in found)


def main(argv: list[str]) -> int:
    """Answer requests until the input ends."""
    sweep = Sweep(discovery.find("workloads", argv[0]))
    for line in sys.stdin:
        try:
            answer = sweep.run(plain_data.read(Request, json.loads(line), "request"))
        except HarnessError as error:
            answer = Answer("failed", error=str(error))
        print(json.dumps(plain_data.to_plain(answer)), flush=True)
    return 0


if __name__ == "__main__":
    keep_memory()
    sys.exit(main(sys.argv[1:]))
