"""The subprocess of `harness check`: `python -m harness.check.conformance FOLDER` runs a submission on every toy workload.

What runs is what a trial runs: the programs of `harness.programs`, the checkpoints of `harness.checkpoints`. Writes a
JSON object a line, `{"begin": check, "workload": name}` and `{"end": check, "workload": name, "findings": [...]}`, so
that the parent knows what was being done when the submission took the process down.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from harness import discover, submission, tuning, worker
from harness.errors import HarnessError, SubmissionError
from harness.submission import SubmissionInfo
from harness.workload import Workload

STEPS = 20
DRAWN = 4  # points between the corners of the search space
SHOWN = 3  # points that cannot be built are told, at most


def main(argv: list[str] | None = None) -> int:
    """Examine the folder named; return 0 whatever is found."""
    (path,) = sys.argv[1:] if argv is None else argv
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the submission prints is no answer
    worker.end_with_parent()
    worker.set_flags("cpu", deterministic=True)
    worker.configure_jax(cache=True)
    folder = discover.Folder("submissions", Path(path).name, Path(path))
    info = submission.read_info(folder)
    for number, (name, place) in enumerate(toys().items()):
        reporter = Reporter(answers, name, folder.path)
        examine(folder, info, discover.load_workload(place), reporter, thorough=number == 0)
    return 0


def toys() -> dict[str, discover.Folder]:
    """Return the workloads that are not scored, by name: small ones, for tests."""
    found = discover.find_all("workloads")
    return {name: place for name, place in found.items() if not discover.workload_info(place).scored}


@dataclass(frozen=True)
class Reporter:
    """Where the findings on one workload go."""

    answers: IO[str]
    workload: str
    source: Path

    def check(self, name: str, look: Callable[[], Iterator[str]]) -> bool:
        """Report the findings that `look` yields, and what it raises as one more; return whether there were none."""
        self._write(begin=name)
        findings = []
        try:
            findings += look()
        except HarnessError as error:
            findings.append(str(error))
        except Exception as error:  # noqa: BLE001 - whatever a submission raises is a finding about it
            findings.append(worker.describe(error, self.source))
        self._write(end=name, findings=findings)
        return not findings

    def _write(self, **fields: Any) -> None:
        print(json.dumps({"workload": self.workload, **fields}), file=self.answers, flush=True)


def examine(
    folder: discover.Folder, info: SubmissionInfo, workload: Workload, report: Reporter, *, thorough: bool
) -> None:
    """Put a submission through every check on one workload; `thorough` traces a step at every point of the space."""
    import jax

    from harness import seeds
    from harness.loop import task_view
    from harness.programs import Keys

    splits = workload.splits()
    train, validation_slice = jax.device_put((dict(splits.train), dict(splits.validation_slice)))
    keys = Keys(*(seeds.stream(0, 0, 0, name) for name in ("init", "data", "algorithm", "evaluation")))
    trainer = Trainer(
        folder, info, workload, keys, train, validation_slice, task_view(workload, 2 * workload.info.step_hint)
    )
    runs: dict[str, Any] = {}

    def contract() -> Iterator[str]:
        try:
            runs["programs"] = trainer.compiled()
        except InputChanged as error:
            runs["changed"] = str(error)
        yield from ()

    def inputs() -> Iterator[str]:
        yield from [runs["changed"]] if "changed" in runs else []

    def compile_once() -> Iterator[str]:
        with counted_compilations() as compilations:
            runs["straight"], runs["metrics"] = trainer.run(runs["programs"], STEPS)
        if compilations:
            yield (
                f"{folder.path}: {len(compilations)} more programs were compiled while it trained; host callbacks that "
                "use jax do that: compute it within step"
            )

    if not report.check("build", lambda: trainer.builds(thorough=thorough)):
        return
    fits = report.check("contract", contract)
    if not (report.check("inputs", inputs) and fits):
        return
    if not report.check("compile", compile_once):
        return
    programs, straight, metrics = runs["programs"], runs["straight"], runs["metrics"]
    report.check("finite", lambda: trainer.finite(programs, straight, metrics))
    again: list[Any] = []
    report.check("determinism", lambda: trainer.determinism(programs, straight, again, thorough=thorough))
    report.check("control", lambda: trainer.control(programs, metrics))
    report.check("resume", lambda: trainer.resume(programs, (again or [programs])[0], straight))


class InputChanged(SubmissionError):
    """A submission changed in place what it was handed."""


@dataclass(frozen=True)
class Trainer:
    """A submission on a workload: what the checks do with it. Each yields its findings."""

    folder: discover.Folder
    info: SubmissionInfo
    workload: Workload
    keys: Any
    train: Any
    slice: Any
    task: Any

    @property
    def where(self) -> str:
        return f"{self.folder.path}/submission.py"

    def build(self, point: Mapping[str, Any]) -> Any:
        """Return the algorithm at a point, whose functions raise InputChanged where they change what they are given."""
        kept = snapshot((self.task.params, self.task.param_info))
        algorithm = submission.build(self.folder, self.task, point)
        if changed := difference(kept, (self.task.params, self.task.param_info)):
            raise SubmissionError(f"{self.where}: build changed task{changed} in place; make a tree of your own")
        guarded = {
            name: self._guarded(name, getattr(algorithm, name))
            for name in ("init", "step", "eval_variables")
            if callable(getattr(algorithm, name))
        }
        return replace(algorithm, **guarded)

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            kept = snapshot(args)
            returned = function(*args)
            if changed := difference(kept, args):
                raise InputChanged(
                    f"{self.where}: {name} changed its argument {changed} in place; return a new tree, as in "
                    "{**old, 'name': new}"
                )
            return returned

        return call

    def compiled(self) -> Any:
        """Return the programs of the algorithm at the defaults, built anew."""
        from harness.programs import compile_programs

        return compile_programs(
            self.workload, self.build(self.info.defaults), self.keys, self.train, self.slice,
            platform="cpu", source=self.folder.path,
        )  # fmt: skip

    def run(self, programs: Any, steps: int, state: Any = None, size: int | None = None) -> tuple[Any, list[Any]]:
        """Return the state after so many steps (from the first state, if none is given), and each step's metrics."""
        import jax

        state = programs.init(self.keys) if state is None else state
        step, metrics = programs.steps[size or self.workload.info.batch_size], []
        for _ in range(-(-steps // programs.dispatch_steps)):
            state, series = step(state, self.keys, self.train)
            metrics.append(series)
        return jax.block_until_ready(state), jax.device_get(metrics)

    def evaluated(self, programs: Any, state: Any) -> tuple[Any, Any]:
        """Return what is evaluated, and the metrics of the validation slice."""
        import jax

        variables = (state.params, state.model_state)
        if programs.eval_variables is not None:
            variables = programs.eval_variables(state, self.keys, self.train)
        return jax.block_until_ready((variables, programs.evaluate(*variables, self.slice)))

    def builds(self, *, thorough: bool) -> Iterator[str]:
        """At the defaults, the corners of the search space, points in between, and those of a list."""
        import jax

        from harness.programs import init_function, step_function

        self.build(self.info.defaults)
        corners = tuning.corner_points(self.info)
        drawn = tuning.draw_points(self.info, tuple(self.info.space), DRAWN, 0) if self.info.space else []
        points = [*corners, *drawn, *self.info.points]
        bad = 0
        for point in points if thorough else points[:1] + corners[-1:]:
            try:
                whole = submission.choose_point(self.folder, self.info, point)
                algorithm = self.build(whole)
                state = jax.eval_shape(init_function(self.workload, algorithm), self.keys)
                step = step_function(self.workload, algorithm, self.workload.info.batch_size, self.folder.path)
                jax.eval_shape(step, state, self.keys, self.train)
            except Exception as error:  # noqa: BLE001 - whatever a submission raises is a finding about it
                reason = (
                    str(error) if isinstance(error, HarnessError) else discover.blame(self.folder.path, "step", error)
                )
                moved = {name: point[name] for name in point if point[name] != self.info.defaults[name]}
                yield f"at the point {moved} of the search space: {reason}; narrow the space, or mend build"
                bad += 1
                if bad == SHOWN:
                    return

    def finite(self, programs: Any, state: Any, metrics: list[Any]) -> Iterator[str]:
        """Losses, parameters, metrics and what is evaluated, with each batch size."""
        import numpy as np

        yield from self._finite(programs, state, metrics, f"{STEPS} steps")
        variables, measured = self.evaluated(programs, state)
        if not (programs.finite(variables[0]) and all(np.isfinite(value) for value in measured.values())):
            yield f"{self.where}: NaN or infinity in what is evaluated after {STEPS} steps; look at eval_variables"
        for size in programs.steps:
            if size != self.workload.info.batch_size:
                yield from self._finite(programs, *self.run(programs, 2, size=size), f"2 steps of batch size {size}")

    def _finite(self, programs: Any, state: Any, metrics: list[Any], after: str) -> Iterator[str]:
        import numpy as np

        bad = [
            f"{name} at step {number}"
            for number, series in enumerate(metrics, 1)
            for name, value in series.items()
            if not np.isfinite(value).all()
        ]
        if bad:
            yield f"{self.where}: NaN or infinity within {after}, first in {bad[0]}; lower the default learning rate, guard divisions"
        elif not programs.finite(state.params):
            yield f"{self.where}: NaN or infinity in the parameters after {after}; guard divisions and square roots"

    def determinism(self, programs: Any, straight: Any, again: list[Any], *, thorough: bool) -> Iterator[str]:
        """The same programs, programs built anew, and those of a module imported anew, each from the same keys."""
        if changed := differing_bits(straight, self.run(programs, STEPS)[0]):
            yield f"{self.where}: run twice with the same keys, {changed} differs; draw from the key that step is handed"
            return
        if changed := differing_bits(*(self.evaluated(programs, straight)[0] for _ in range(2))):
            yield f"{self.where}: eval_variables gives other bits for the same key ({changed}); draw from that key"
        again.append(self.compiled())
        if changed := differing_bits(straight, self.run(again[0], STEPS)[0]):
            yield (
                f"{self.where}: built twice from the same hyperparameters, it trains to another {changed}; build depends "
                "on more than (task, hp): keep nothing in the module, and draw from keys"
            )
        elif thorough:
            discover.unload(self.folder)
            if changed := differing_bits(straight, self.run(self.compiled(), STEPS)[0]):
                yield (
                    f"{self.where}: imported anew, it trains to another {changed}; something is drawn or read when the "
                    "module is imported: draw from keys"
                )

    def control(self, programs: Any, metrics: list[Any]) -> Iterator[str]:
        """Asked at every point of the horizon, twice each."""
        from harness.api import Control, Progress

        algorithm, info = self.build(self.info.defaults), self.workload.info
        means = {name: float(sum(series[name].mean() for series in metrics) / len(metrics)) for name in metrics[0]}
        for call in range(26) if algorithm.control is not None else ():
            step = call * info.step_hint // 25
            progress = Progress(step, step * info.batch_size, means if call else {})
            try:
                one, other = algorithm.control(progress), algorithm.control(progress)
            except Exception as error:  # noqa: BLE001 - whatever a submission raises is a finding about it
                yield discover.blame(self.folder.path, f"control at step {step}", error)
                return
            where = f"{self.where}: control at step {step}"
            if not isinstance(one, Control | None):
                yield f"{where} returned {type(one).__name__}; return a harness.api.Control or None"
                return
            if one != other:
                yield f"{where} gave {one}, then {other}, for the same progress; its answer depends on `progress` alone"
                return
            if one is not None and one.batch_size is not None and one.batch_size not in programs.steps:
                yield f"{where} asks for batch size {one.batch_size}; add it to batch_sizes, which has {sorted(programs.steps)}"
                return

    def resume(self, programs: Any, others: Any, straight: Any) -> Iterator[str]:
        """Saved half way, and taken up by programs built anew."""
        from harness.checkpoints import Checkpoints

        state, _ = self.run(programs, STEPS // 2)
        with tempfile.TemporaryDirectory() as folder:
            checkpoints = Checkpoints(Path(folder))
            checkpoints.save(STEPS // 2, state, {})
            saved = checkpoints.load(others.init(self.keys))
            checkpoints.close()
        assert saved is not None
        if changed := differing_bits(straight, self.run(others, STEPS - STEPS // 2, saved[0])[0]):
            yield (
                f"{self.where}: stopped after {STEPS // 2} steps and taken up from its checkpoint, it trains to another "
                f"{changed}; all that a step depends on is in its state: move the rest into opt_state"
            )


class counted_compilations:
    """Collect the compilations of jax while the block runs."""

    def __enter__(self) -> list[str]:
        import jax

        self._found: list[str] = []
        jax.monitoring.register_event_duration_secs_listener(self._heard)
        return self._found

    def __exit__(self, *_: object) -> None:
        import jax

        jax.monitoring.unregister_event_duration_listener(self._heard)

    def _heard(self, event: str, duration_s: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration"):
            self._found.append(event)


def snapshot(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by their path."""
    import jax

    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def difference(kept: Mapping[str, Any], tree: Any) -> str:
    """Return the path of a leaf of `tree` that is not the one that was kept; empty where all are."""
    now = snapshot(tree)
    return next((path for path in {**kept, **now} if kept.get(path) is not now.get(path)), "")


def differing_bits(one: Any, other: Any) -> str:
    """Return the path of the first leaf in which two trees differ by a bit; empty where they are the same."""
    import numpy as np

    ones, others = snapshot(one), snapshot(other)
    for path in itertools.chain(ones, others):
        if path not in ones or path not in others:
            return path
        if np.asarray(ones[path]).tobytes() != np.asarray(others[path]).tobytes():
            return path
    return ""


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
