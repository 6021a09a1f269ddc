"""A submission's program on a toy, as `harness check` looks at it: compiled, run, stopped and taken up."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from harness.api import Control, Progress
from harness.errors import HarnessError
from harness.program import discovery, seeds, store
from harness.program.draws import Arrays, Keys
from harness.program.requests import Job
from harness.program.store import Program
from harness.program.workload import WorkloadInfo
from harness.trial.checkpoints import Checkpoints
from harness.trial.controller import Controller
from harness.trial.programs import Inputs, Programs, compile_programs, named, unnamed

if TYPE_CHECKING:
    from harness.trial.conformance import Reporter, Request, Toy

STEPS = 20
CONTROL_CALLS = 26  # before the first step, and after every 4% of the horizon


def examine(report: Reporter, request: Request, toy: Toy) -> None:
    """Put a program through every check."""
    made: dict[str, Any] = {}

    def training() -> Iterator[str]:
        made["trainer"] = trainer = prepared(request, toy)
        made["state"], made["metrics"] = trainer.run(STEPS)
        yield from trainer.finite(made["state"], made["metrics"])

    if not report.check("training", training):
        return
    trainer, state = made["trainer"], made["state"]
    if report.check("determinism", lambda: trainer.determinism(state)):
        report.check("resume", lambda: trainer.resume(state))
    report.check("control", lambda: trainer.control(made["metrics"]))


def prepared(request: Request, toy: Toy) -> Trainer:
    """Load and compile the program. Raises HarnessError where the store lacks it."""
    own, program = store.read(toy.own), store.read(toy.program)
    if own is None or program is None:
        raise HarnessError(f"the programs of {request.submission} are gone from {store.root()}; check it again")
    path = Path(toy.workload)
    data = discovery.load_data(discovery.Folder("workloads", path.name, path))
    splits = data.load()
    train, validation_slice = jax.device_put((dict(splits.train), dict(splits.validation_slice)))
    keys = Keys(*(seeds.stream(0, 0, 0, name) for name in ("init", "data", "algorithm", "evaluation")))
    arguments = program.manifest.contract.arguments
    inputs = Inputs(keys, tuple(jnp.float32(request.hyperparameters[name]) for name in arguments))
    programs = compile_programs(data, own, program, train, validation_slice, platform="cpu")
    job = Job("", toy.workload, None, "cpu", dict(request.hyperparameters), data.info.budget_steps)
    return Trainer(Path(request.submission), job, program, programs, data.info, inputs, train, validation_slice)


@dataclass(frozen=True)
class Trainer:
    """A program, compiled: what the checks do with it. Each yields its findings."""

    source: Path
    job: Job
    program: Program
    programs: Programs
    info: WorkloadInfo
    inputs: Inputs
    train: Arrays
    slice: Arrays

    @property
    def where(self) -> str:
        return f"{self.source}/submission.py"

    def run(self, steps: int, state: Any = None, size: int | None = None) -> tuple[Any, list[Any]]:
        """Return the state after so many steps (from the first state, if none is given), and each step's metrics."""
        state = self.programs.init(self.inputs) if state is None else state
        step, metrics = self.programs.steps[size or self.info.batch_size], []
        for _ in range(-(-steps // self.programs.dispatch_steps)):
            state, series = jax.block_until_ready(step(state, self.inputs, self.train))
            metrics.append(series)
        return state, jax.device_get(metrics)

    def variables(self, state: Any) -> tuple[Any, Any]:
        """Return what is evaluated."""
        if self.programs.eval_variables is None:
            return state.params, state.model_state
        return self.programs.eval_variables(state, self.inputs, self.train)

    def differing(self, one: Any, other: Any) -> str:
        """Return the name of the first array in which two states differ by a bit; empty where they are the same."""
        ones, others = (
            {name: np.asarray(x).tobytes() for name, x in named(self.programs.contract, state).items()}
            for state in (one, other)
        )
        return next((name for name in ones if ones[name] != others[name]), "")

    def finite(self, state: Any, metrics: list[Any]) -> Iterator[str]:
        """Losses, parameters, metrics and what is evaluated, with each batch size."""
        yield from self._finite(state, metrics, f"{STEPS} steps")
        variables = self.variables(state)
        measured = self.programs.evaluate(*variables, self.slice)
        if not (self.programs.finite(variables[0]) and all(np.isfinite(value) for value in measured.values())):
            yield f"{self.where}: NaN or infinity in what is evaluated after {STEPS} steps; look at eval_variables"
        for size in self.programs.steps:
            if size != self.info.batch_size:
                yield from self._finite(*self.run(2, size=size), f"2 steps of batch size {size}")

    def _finite(self, state: Any, metrics: list[Any], after: str) -> Iterator[str]:
        bad = [
            f"{name} at step {number}"
            for number, series in enumerate(metrics, 1)
            for name, value in series.items()
            if not np.isfinite(value).all()
        ]
        if bad:
            yield (
                f"{self.where}: NaN or infinity within {after}, first in {bad[0]}; lower the default learning rate, or "
                "guard a division"
            )
        elif not self.programs.finite(state.params):
            yield f"{self.where}: NaN or infinity in the parameters after {after}; guard divisions and square roots"

    def determinism(self, straight: Any) -> Iterator[str]:
        """The same program twice from the same keys."""
        if changed := self.differing(straight, self.run(STEPS)[0]):
            yield f"{self.where}: run twice with the same keys, {changed} differs; draw from the key of step"
            return
        given = [
            straight._replace(params=params, model_state=kept)
            for params, kept in (self.variables(straight) for _ in range(2))
        ]
        if changed := self.differing(*given):
            yield f"{self.where}: eval_variables gives other bits for the same key ({changed}); draw from that key"

    def resume(self, straight: Any) -> Iterator[str]:
        """Saved half way, and taken up."""
        contract = self.programs.contract
        state, _ = self.run(STEPS // 2)
        with tempfile.TemporaryDirectory() as folder:
            checkpoints = Checkpoints(Path(folder))
            checkpoints.save(STEPS // 2, named(contract, state), {})
            saved = checkpoints.load(named(contract, self.programs.init(self.inputs)))
            checkpoints.close()
        assert saved is not None
        if changed := self.differing(straight, self.run(STEPS - STEPS // 2, unnamed(contract, saved[0]))[0]):
            yield (
                f"{self.where}: stopped after {STEPS // 2} steps and taken up from its checkpoint, {changed} "
                "differs from a run without the stop; all that a step depends on belongs in opt_state"
            )

    def control(self, metrics: list[Any]) -> Iterator[str]:
        """Asked at every point of the horizon, twice each."""
        if not self.programs.contract.control:
            return
        means = {name: float(np.mean([series[name].mean() for series in metrics])) for name in metrics[0]}
        controller = Controller(self.source, self.job, self.program.manifest)
        try:
            for call in range(CONTROL_CALLS):
                step = call * self.info.step_hint // (CONTROL_CALLS - 1)
                progress = Progress(step, step * self.info.batch_size, means if call else {})
                if problem := self._answer(*(controller.ask(progress) for _ in range(2))):
                    yield f"{self.where}: control at step {step} {problem}"
                    return
        finally:
            controller.close()

    def _answer(self, one: Control | None, other: Control | None) -> str:
        """Return what is wrong with two answers to the same question; empty where nothing is."""
        if one != other:
            return f"gave {one}, then {other}, for the same progress; its answer depends on `progress` alone"
        sizes = sorted(self.programs.steps)
        if one is not None and one.batch_size is not None and one.batch_size not in sizes:
            return f"asks for batch size {one.batch_size}; add it to batch_sizes, which has {sizes}"
        return ""
