"""The functions of a submission on a workload, ready to be traced, and the contract that is checked while they are.

Nothing is compiled here: tree, shapes and dtypes are looked at on abstract values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from harness.api import Algorithm, Batch, Loss, ModelState, Params, PyTree, TrainState
from harness.errors import HarnessError, SubmissionError
from harness.program.discovery import blame
from harness.program.draws import Arrays, Draw, Keys, draw_step, take_batch
from harness.program.loss import WorkloadLoss
from harness.program.manifest import MAX_RECALIBRATION_BATCHES
from harness.program.workload import Workload


def init_function(workload: Workload, algorithm: Algorithm) -> Callable[[Keys], TrainState]:
    """Return Keys -> the state before the first step."""

    def init(keys: Keys) -> TrainState:
        return initial_state(algorithm, *workload.init(keys.init), keys.algorithm)

    return init


def initial_state(algorithm: Algorithm, params: Params, model_state: ModelState, key: jax.Array) -> TrainState:
    """Return the state before the first step; `key` is that of the algorithm's stream."""
    opt_state = algorithm.init(params, jax.random.fold_in(key, 0xFFFFFFFF))
    zero = jnp.zeros((), jnp.int32)
    state: TrainState = strong(TrainState(params, opt_state, model_state, step=zero, examples=zero))
    return state


def step_function(
    workload: Workload, algorithm: Algorithm, batch_size: int, source: Path = Path("submission")
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """Return one training step: draw the batch, let the submission step, check when traced what came back, count.

    It takes (state, keys, train arrays) and, where it was made beforehand, the step's draw.
    """
    loss = WorkloadLoss(workload)

    def step(
        state: TrainState, keys: Keys, train: Arrays, draw: Draw | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        index, batch_key, key = draw or draw_step(
            keys, state.examples, state.step, batch_size,
            num_examples=workload.info.num_train_examples, candidates=algorithm.candidates,
        )  # fmt: skip
        batch = take_batch(workload.batch, train, index, batch_key)
        return take_step(loss, algorithm, state, batch, key, batch_size, source)

    return step


def take_step(
    loss: Loss, algorithm: Algorithm, state: TrainState, batch: Batch, key: jax.Array, size: int, source: Path
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Let the submission step on a batch of `size`, check what came back, and count."""
    returned = algorithm.step(loss, state, batch, key)
    pair = returned if isinstance(returned, tuple) and not isinstance(returned, TrainState) else (returned,)
    if len(pair) != 2 or not isinstance(pair[0], TrainState):
        came = ", ".join(type(part).__name__ for part in pair)
        raise SubmissionError(f"step() must return (state, metrics), a TrainState and a dict; it returned ({came})")
    new, metrics = pair
    new = strong(new._replace(step=state.step + 1, examples=state.examples + size))
    check_same(state._asdict(), new._asdict(), "step", source)
    return new, checked_metrics(metrics, source)


class blamed:
    """Turn whatever the submission's code raises while traced into a SubmissionError naming its line."""

    def __init__(self, source: Path, doing: str):
        self.source, self.doing = source, doing

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, SubmissionError) and str(self.source) not in str(error):
            raise SubmissionError(f"{self.source}/submission.py: {error}") from error
        if isinstance(error, Exception) and not isinstance(error, HarnessError | jax.errors.JaxRuntimeError):
            raise SubmissionError(blame(self.source, self.doing, error)) from error


def strong(tree: PyTree) -> PyTree:
    """Make weakly typed values (from Python numbers) ordinary arrays of their dtype, so that shapes and dtypes are
    all there is.
    """

    def strong(x: Any) -> jax.Array:
        x = jnp.asarray(x)
        return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else jax.lax.convert_element_type(x, x.dtype)

    return jax.tree.map(strong, tree)


def check_fields(algorithm: Algorithm, source: Path) -> None:
    def refuse(problem: str) -> None:
        raise SubmissionError(f"{source}/submission.py: Algorithm.{problem}")

    if not 0 <= algorithm.recalibration_batches <= MAX_RECALIBRATION_BATCHES:
        refuse(
            f"recalibration_batches must be in 0..{MAX_RECALIBRATION_BATCHES}, got {algorithm.recalibration_batches}"
        )
    if algorithm.recalibration_batches and algorithm.eval_variables is None:
        refuse("recalibration_batches is set but eval_variables is None; nothing would use the batches")
    if algorithm.candidates < 1:
        refuse(f"candidates must be at least 1, got {algorithm.candidates}")
    if any(size < 1 for size in algorithm.batch_sizes):
        refuse(f"batch_sizes must be positive, got {algorithm.batch_sizes}")


def check_arrays(opt_state: PyTree, source: Path) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(opt_state):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise SubmissionError(
                f"{source}/submission.py: init() put a random key into opt_state{jax.tree_util.keystr(path)}; "
                "state holds arrays only: use the key that step() is handed"
            )
        if re.match(r"(u?int|float)[1-7](_|$)", str(leaf.dtype)):
            raise SubmissionError(
                f"{source}/submission.py: init() put {leaf.dtype} into opt_state{jax.tree_util.keystr(path)}; "
                "a program holds numbers of whole bytes: pack several into a uint8"
            )


def check_same(before: Mapping[str, PyTree], after: Mapping[str, PyTree], function: str, source: Path) -> None:
    where = f"{source}/submission.py: {function}() changed"
    for name, old in before.items():
        new = after[name]
        old_leaves, new_leaves = (dict(_named_leaves(name, tree)) for tree in (old, new))
        if str(jax.tree.structure(old)) != str(jax.tree.structure(new)):
            odd = sorted(set(old_leaves) ^ set(new_leaves))
            detail = f"; only on one side: {', '.join(odd[:5])}" if odd else ""
            raise SubmissionError(f"{where} the tree of {name}{detail}; return the structure it was given")
        for path, leaf in old_leaves.items():
            for what in ("shape", "dtype"):
                was, came = getattr(leaf, what), getattr(new_leaves[path], what)
                if was != came:
                    raise SubmissionError(f"{where} the {what} of {path} from {was} to {came}; return {was}")


def checked_metrics(metrics: Any, source: Path) -> dict[str, jax.Array]:
    where = f"{source}/submission.py: step() must return metrics as a flat dict of float32 scalars with a 'loss' in it"
    if not isinstance(metrics, dict) or "loss" not in metrics:
        raise SubmissionError(
            f"{where}; got {sorted(metrics) if isinstance(metrics, dict) else type(metrics).__name__}"
        )
    arrays: dict[str, jax.Array] = strong(metrics)
    for name, value in arrays.items():
        if getattr(value, "shape", None) != () or value.dtype != jnp.float32:
            what = f"{value.dtype}{list(value.shape)}" if hasattr(value, "dtype") else type(value).__name__
            raise SubmissionError(f"{where}; '{name}' is {what}")
    return arrays


def _named_leaves(name: str, tree: PyTree) -> list[tuple[str, Any]]:
    return [(name + jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
