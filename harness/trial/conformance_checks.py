"""A submission on a workload, as `harness check` looks at it: built, exported, compiled and run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from harness.api import Algorithm, Control, Progress, TaskView
from harness.errors import HarnessError, SubmissionError
from harness.program import discovery, search_space, submission
from harness.program.build import build_algorithm
from harness.program.derive import derive
from harness.program.draws import Arrays
from harness.program.export import no_devices, writer
from harness.program.exporting import export_submission
from harness.program.requests import DeriveRequest, Job
from harness.program.store import Program
from harness.program.submission import SubmissionInfo
from harness.program.trace import init_function, step_function
from harness.program.workload import Data, Workload
from harness.record import plain_data
from harness.trial.checkpoints import Checkpoints
from harness.trial.compare import difference, differing_bits, snapshot
from harness.trial.programs import Inputs, Programs, compile_programs, named, unnamed

STEPS = 20
DRAWN = 4  # points between the corners of the search space
ARGUMENTS = {
    "init": ("params", "key"),
    "step": ("loss", "state", "batch", "key"),
    "eval_variables": ("loss", "state", "batches", "key"),
}
SHOWN = 3  # points that cannot be built are told, at most


class InputChanged(SubmissionError):
    """A submission changed in place what it was handed."""


@dataclass(frozen=True)
class Trainer:
    """A submission on a workload: what the checks do with it. Each yields its findings."""

    folder: discovery.Folder
    info: SubmissionInfo
    workload: Workload
    data: Data
    own: Program
    inputs: Inputs
    train: Arrays
    slice: Arrays
    task: TaskView

    @property
    def where(self) -> str:
        return f"{self.folder.path}/submission.py"

    def build(self, point: Mapping[str, Any], task: TaskView | None = None) -> Algorithm:
        """Return the algorithm at a point, whose functions raise InputChanged where they change what they are given."""
        told = task or self.task

        def build() -> Algorithm:
            with no_devices(self.folder.path):
                return build_algorithm(self.folder, told, point)

        trees = {"task.params": told.params, "task.param_info": told.param_info}
        algorithm: Algorithm = self._unchanged("build", build, trees)
        functions = {name: (getattr(algorithm, name), names) for name, names in ARGUMENTS.items()}
        guarded: dict[str, Any] = {
            name: self._guarded(name, *pair) for name, pair in functions.items() if callable(pair[0])
        }
        return replace(algorithm, **guarded)

    def _guarded(self, name: str, function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            return self._unchanged(name, lambda: function(*args), dict(zip(names, args, strict=True)))

        return call

    def _unchanged(self, name: str, function: Callable[[], Any], trees: Mapping[str, Any]) -> Any:
        """Call the function; raise InputChanged where a leaf of one of the trees is another then."""
        kept = {tree: snapshot(value) for tree, value in trees.items()}
        returned = function()
        for tree, value in trees.items():
            if changed := difference(kept[tree], value):
                mend = "make a new tree, as in {**old, 'name': new}"
                raise InputChanged(f"{self.where}: {name} changed {tree}{changed} in place; {mend}")
        return returned

    @cached_property
    def again(self) -> Programs:
        """The programs of a second build."""
        return self.compiled()

    def compiled(self) -> Programs:
        """Return the programs of the algorithm at the defaults, built anew."""
        budget_steps = self.workload.info.budget_steps
        with tempfile.TemporaryDirectory() as scratch:
            job = Job(scratch, "", None, "cpu", dict(self.info.defaults), budget_steps, arguments=())
            with no_devices(self.folder.path):
                declared = export_submission(
                    self.workload, self.folder, job, "cpu", writer(scratch), lambda task, point: self.build(point, task)
                )
            (Path(scratch) / "declared.json").write_text(json.dumps(plain_data.to_plain(declared)))
            sources = {"submission": self.folder.source_hash}
            request = DeriveRequest(scratch, self.own.manifest.id, "cpu", sources)
            try:
                manifest = derive(Path(scratch), self.own, request)
            except SubmissionError as error:
                raise SubmissionError(f"{self.where}: {error}") from None
            functions = {name: (Path(scratch) / f"{name}.mlir").read_bytes() for name in manifest.functions}
        program = Program(manifest, functions)
        return compile_programs(self.data, self.own, program, self.train, self.slice, platform="cpu")

    def run(self, programs: Programs, steps: int, state: Any = None, size: int | None = None) -> tuple[Any, list[Any]]:
        """Return the state after so many steps (from the first state, if none is given), and each step's metrics."""
        state = programs.init(self.inputs) if state is None else state
        step, metrics = programs.steps[size or self.workload.info.batch_size], []
        for _ in range(-(-steps // programs.dispatch_steps)):
            state, series = jax.block_until_ready(step(state, self.inputs, self.train))
            metrics.append(series)
        return state, jax.device_get(metrics)

    def evaluated(self, programs: Programs, state: Any) -> tuple[Any, Any]:
        """Return what is evaluated, and the metrics of the validation slice."""
        variables = (state.params, state.model_state)
        if programs.eval_variables is not None:
            variables = programs.eval_variables(state, self.inputs, self.train)
        return jax.block_until_ready((variables, programs.evaluate(*variables, self.slice)))

    def differing(self, programs: Programs, one: Any, other: Any) -> str:
        """Return the name of the first array in which two states differ by a bit; empty where they are the same."""
        ones, others = (named(programs.contract, state) for state in (one, other))
        return next((name for name in ones if differing_bits([ones[name]], [others[name]])), "")

    def space(self, *, thorough: bool) -> Iterator[str]:
        """At the corners of the search space, at points in between, and at those of a list; else at two corners."""
        corners = search_space.corner_points(self.info)
        drawn = search_space.draw_points(self.info, tuple(self.info.space), DRAWN, 0) if self.info.space else []
        bad = 0
        for point in [*corners, *drawn, *self.info.points] if thorough else [corners[0], corners[-1]]:
            try:
                algorithm = self.build(submission.choose_point(self.folder, self.info, point))
                state = jax.eval_shape(init_function(self.workload, algorithm), self.inputs.keys)
                step = step_function(self.workload, algorithm, self.workload.info.batch_size, self.folder.path)
                jax.eval_shape(step, state, self.inputs.keys, self.train)
            except Exception as error:  # noqa: BLE001 - whatever a submission raises is a finding about it
                known = isinstance(error, HarnessError)
                reason = str(error) if known else discovery.blame(self.folder.path, "step", error)
                moved = {name: value for name, value in point.items() if value != self.info.defaults.get(name)}
                yield f"at {moved}: {reason}; narrow the search space, or mend build"
                bad += 1
                if bad == SHOWN:
                    return

    def finite(self, programs: Programs, state: Any, metrics: list[Any]) -> Iterator[str]:
        """Losses, parameters, metrics and what is evaluated, with each batch size."""
        yield from self._finite(programs, state, metrics, f"{STEPS} steps")
        variables, measured = self.evaluated(programs, state)
        if not (programs.finite(variables[0]) and all(np.isfinite(value) for value in measured.values())):
            yield f"{self.where}: NaN or infinity in what is evaluated after {STEPS} steps; look at eval_variables"
        for size in programs.steps:
            if size != self.workload.info.batch_size:
                yield from self._finite(programs, *self.run(programs, 2, size=size), f"2 steps of batch size {size}")

    def _finite(self, programs: Programs, state: Any, metrics: list[Any], after: str) -> Iterator[str]:
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
        elif not programs.finite(state.params):
            yield f"{self.where}: NaN or infinity in the parameters after {after}; guard divisions and square roots"

    def determinism(self, programs: Programs, straight: Any, *, thorough: bool) -> Iterator[str]:
        """The same programs, programs built anew, and those of a module imported anew, each from the same keys."""
        if changed := self.differing(programs, straight, self.run(programs, STEPS)[0]):
            yield f"{self.where}: run twice with the same keys, {changed} differs; draw from the key of step"
            return
        evaluated = [self.evaluated(programs, straight)[0] for _ in range(2)]
        given = [straight._replace(params=params, model_state=kept) for params, kept in evaluated]
        if changed := self.differing(programs, *given):
            yield f"{self.where}: eval_variables gives other bits for the same key ({changed}); draw from that key"
        if changed := self.differing(programs, straight, self.run(self.again, STEPS)[0]):
            yield (
                f"{self.where}: built twice from the same hyperparameters, {changed} differs after {STEPS} steps; "
                "build depends on more than (task, hp): keep nothing in the module, and draw from keys"
            )
        elif thorough:
            discovery.unload(self.folder)
            if changed := self.differing(programs, straight, self.run(self.compiled(), STEPS)[0]):
                yield (
                    f"{self.where}: imported anew, {changed} differs after {STEPS} steps; something is drawn or "
                    "read when the module is imported: draw from keys"
                )

    def control(self, programs: Programs, metrics: list[Any]) -> Iterator[str]:
        """Asked at every point of the horizon, twice each."""
        ask, info = self.build(self.info.defaults).control, self.workload.info
        if ask is None:
            return
        means = {name: float(sum(series[name].mean() for series in metrics) / len(metrics)) for name in metrics[0]}
        for call in range(26):
            step = call * info.step_hint // 25
            progress = Progress(step, step * info.batch_size, means if call else {})
            try:
                one, other = ask(progress), ask(progress)
            except Exception as error:  # noqa: BLE001 - whatever a submission raises is a finding about it
                yield discovery.blame(self.folder.path, f"control at step {step}", error)
                return
            where = f"{self.where}: control at step {step}"
            if not isinstance(one, Control | None):
                yield f"{where} returned {type(one).__name__}; return a harness.api.Control or None"
                return
            if one != other:
                yield f"{where} gave {one}, then {other}, for the same progress; its answer depends on `progress` alone"
                return
            if one is not None and one.batch_size is not None and one.batch_size not in programs.steps:
                known = sorted(programs.steps)
                yield f"{where} asks for batch size {one.batch_size}; add it to batch_sizes, which has {known}"
                return

    def resume(self, programs: Programs, straight: Any) -> Iterator[str]:
        """Saved half way, and taken up by programs built anew."""
        state, _ = self.run(programs, STEPS // 2)
        with tempfile.TemporaryDirectory() as folder:
            checkpoints = Checkpoints(Path(folder))
            checkpoints.save(STEPS // 2, named(programs.contract, state), {})
            saved = checkpoints.load(named(programs.contract, self.again.init(self.inputs)))
            checkpoints.close()
        assert saved is not None
        state = unnamed(programs.contract, saved[0])
        if changed := self.differing(programs, straight, self.run(self.again, STEPS - STEPS // 2, state)[0]):
            yield (
                f"{self.where}: stopped after {STEPS // 2} steps and taken up from its checkpoint, {changed} "
                "differs from a run without the stop; all that a step depends on belongs in opt_state"
            )
