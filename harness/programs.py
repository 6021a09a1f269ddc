"""The compiled programs of one trial: everything the loop runs on the device, compiled ahead of time for its real
shapes.

The loop calls the compiled objects themselves, so a changed shape or dtype is an error and never a silent recompile.
The contract of a submission's functions (tree, shapes, dtypes) is checked on abstract values before anything is
compiled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from harness.api import Algorithm, Batch, ModelState, Params, PyTree, TrainState
from harness.data.order import batch_indices
from harness.discover import blame
from harness.errors import HarnessError, SubmissionError
from harness.loss import StepCost, WorkloadLoss, cost_of
from harness.workload import Workload

MAX_RECALIBRATION_BATCHES = 20
QUICK_COMPILE = {"xla_backend_optimization_level": 1}
"""For what runs once on a CPU: half the time to compile, and the same bits. Drawing each parameter's numbers makes the
initial state the dearest program to compile but the step.
"""

MAX_CHUNK_STEPS = 100  # between two looks at the clock

Arrays = Mapping[str, jax.Array]


class Keys(NamedTuple):
    """The typed keys of one trial's streams (`harness.seeds`)."""

    init: jax.Array
    data: jax.Array
    algorithm: jax.Array
    evaluation: jax.Array


class Draw(NamedTuple):
    """What chance decides of one step, but for what the workload's loss draws.

    Attributes:
      examples: int32[batch size], their numbers.
      batch_key: of their augmentation.
      key: what the submission's `step` is handed.
    """

    examples: jax.Array
    batch_key: jax.Array
    key: jax.Array


class Order(NamedTuple):
    """The draws of a chunk.

    Attributes:
      first: int32, the examples seen before the first of its steps.
      draws: with leading axes [calls, steps in a call]; enough for MAX_CHUNK_STEPS.
    """

    first: jax.Array
    draws: Draw


@dataclass(frozen=True)
class Step:
    """One dispatch of training steps, compiled, as a function; and what draws the order of a chunk of them.

    Examples and keys are drawn by a program of their own, once a chunk. Within the step they are some hundred tiny
    operations, which upset the order in which XLA's CPU scheduler runs the large ones: up to a fifth of a step; and a
    call between any two steps costs 3% of one of 9 ms.
    """

    compiled: Callable[..., tuple[TrainState, dict[str, jax.Array]]]
    drawing: Callable[[jax.Array, jax.Array, Keys], Order]

    def order(self, state: TrainState, keys: Keys) -> Order:
        """Return the order of the chunk that begins at `state`."""
        return self.drawing(state.examples, state.step, keys)

    def __call__(
        self, state: TrainState, keys: Keys, train: Arrays, order: Order | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Train; donates the state. `order` is that of the chunk which these steps are part of, or of them alone."""
        return self.compiled(state, keys, train, order or self.order(state, keys))


@dataclass(frozen=True)
class Programs:
    """Compiled programs.

    Attributes:
      init: Keys -> TrainState.
      steps: by batch size: (state, keys, train arrays, order) -> (state, metrics stacked over the dispatch).
      dispatch_steps: steps in one call of a step program.
      eval_variables: (state, keys, train arrays) -> (params, model_state); None where the state's own are evaluated.
      evaluate: (params, model_state, slice arrays) -> metrics.
      finite: params -> bool.
      cost: by batch size, what one step asks of the model.
      compile_s: seconds by program.
    """

    init: Callable[[Keys], TrainState]
    steps: dict[int, Step]
    dispatch_steps: int
    eval_variables: Callable[[TrainState, Keys, Arrays], tuple[Params, ModelState]] | None
    evaluate: Callable[[Params, ModelState, Arrays], dict[str, jax.Array]]
    finite: Callable[[Params], jax.Array]
    cost: dict[int, StepCost]
    compile_s: dict[str, float]


def compile_programs(
    workload: Workload,
    algorithm: Algorithm,
    keys: Keys,
    train: Arrays,
    validation_slice: Arrays,
    *,
    platform: str,
    source: Path,
) -> Programs:
    """Check the algorithm's contract on shapes, then compile all its programs.

    Raises SubmissionError naming file and cause; `source` is the submission's folder.
    """
    dispatch = workload.info.dispatch_steps.get(platform, 1)
    sizes = sorted({workload.info.batch_size, *algorithm.batch_sizes})
    _check_fields(algorithm, source)
    seconds: dict[str, float] = {}

    def compiled(
        name: str, function: Callable[..., Any], *args: Any, donate: tuple[int, ...] = (), options: Any = None
    ) -> tuple[Any, Any]:
        start = time.perf_counter()
        traced = jax.jit(function, donate_argnums=donate).trace(*args)
        executable = traced.lower().compile(options)
        seconds[name] = time.perf_counter() - start
        return executable, traced.jaxpr

    with _blamed(source, "init"):
        init = init_function(workload, algorithm)
        state = jax.eval_shape(init, keys)
        _check_arrays(state.opt_state, source)
    steps, cost = {}, {}
    for size in sizes:
        with _blamed(source, "step"):
            steps[size], compile_s, traced = compile_step(
                workload, algorithm, size, dispatch, state, keys, train, source
            )
            seconds[f"step_{size}"] = compile_s
            cost[size] = cost_of(traced, dispatch)
    eval_variables = None
    variables = {"params": state.params, "model_state": state.model_state}
    if algorithm.eval_variables is not None:
        with _blamed(source, "eval_variables"):
            function = eval_variables_function(workload, algorithm)
            given = dict(zip(variables, jax.eval_shape(function, state, keys, train), strict=True))
            _check_same(variables, given, "eval_variables", source)
            eval_variables, traced = compiled("eval_variables", function, state, keys, train)
            if cost_of(traced).gradient_calls:
                raise SubmissionError(f"{source}: eval_variables takes a gradient; it may only run the loss forward")
    return Programs(
        init=compiled("init", init, keys, options=QUICK_COMPILE if platform == "cpu" else None)[0],
        steps=steps,
        dispatch_steps=dispatch,
        eval_variables=eval_variables,
        evaluate=compiled("evaluate", workload.evaluate, *variables.values(), validation_slice)[0],
        finite=compiled("finite", all_finite, state.params)[0],
        cost=cost,
        compile_s=seconds,
    )


def init_function(workload: Workload, algorithm: Algorithm) -> Callable[[Keys], TrainState]:
    """Return Keys -> the state before the first step."""

    def init(keys: Keys) -> TrainState:
        return initial_state(algorithm, *workload.init(keys.init), keys.algorithm)

    return init


def initial_state(algorithm: Algorithm, params: Params, model_state: ModelState, key: jax.Array) -> TrainState:
    """Return the state before the first step; `key` is that of the algorithm's stream."""
    opt_state = algorithm.init(params, jax.random.fold_in(key, 0xFFFFFFFF))
    zero = jnp.zeros((), jnp.int32)
    state: TrainState = _strong(TrainState(params, opt_state, model_state, step=zero, examples=zero))
    return state


def compile_step(
    workload: Workload, algorithm: Algorithm, size: int, dispatch: int, state: TrainState, keys: Keys, train: Arrays,
    source: Path = Path("submission"),
) -> tuple[Step, float, Any]:  # fmt: skip
    """Return (one dispatch of `dispatch` steps, seconds of compiling, its jaxpr)."""
    start = time.perf_counter()
    calls = -(-MAX_CHUNK_STEPS // dispatch)

    def draw(examples: jax.Array, step: jax.Array, keys: Keys) -> Order:
        number = jnp.arange(calls * dispatch, dtype=examples.dtype).reshape(calls, dispatch)
        each = examples + size * number
        drawn = lambda seen, step: draw_step(workload, algorithm, size, keys, seen, step)  # noqa: E731
        return Order(each[0, 0], jax.vmap(jax.vmap(drawn))(each, step + number))

    def call(state: TrainState, keys: Keys, train: Arrays, order: Order) -> Any:
        step = step_function(workload, algorithm, size, source)
        number = (state.examples - order.first) // (size * dispatch)
        draws = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, number, keepdims=False), order.draws)
        if dispatch == 1:
            state, metrics = step(state, keys, train, jax.tree.map(lambda x: x[0], draws))
            return state, jax.tree.map(lambda m: m[None], metrics)
        return jax.lax.scan(lambda s, draw: step(s, keys, train, draw), state, draws)

    position = state.examples, state.step, keys
    drawing = jax.jit(draw).lower(*position).compile()
    traced = jax.jit(call, donate_argnums=0).trace(state, keys, train, jax.eval_shape(draw, *position))
    return Step(traced.lower().compile(), drawing), time.perf_counter() - start, traced.jaxpr


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
        index, batch_key, key = draw or draw_step(workload, algorithm, batch_size, keys, state.examples, state.step)
        batch = workload.batch(train, index, batch_key) | {"index": index}
        returned = algorithm.step(loss, state, batch, key)
        pair = returned if isinstance(returned, tuple) and not isinstance(returned, TrainState) else (returned,)
        if len(pair) != 2 or not isinstance(pair[0], TrainState):
            came = ", ".join(type(part).__name__ for part in pair)
            raise SubmissionError(f"step() must return (state, metrics), a TrainState and a dict; it returned ({came})")
        new, metrics = pair
        new = _strong(new._replace(step=state.step + 1, examples=state.examples + batch_size))
        _check_same(state._asdict(), new._asdict(), "step", source)
        return new, _checked_metrics(metrics, source)

    return step


def draw_step(
    workload: Workload, algorithm: Algorithm, size: int, keys: Keys, examples: jax.Array, step: jax.Array
) -> Draw:
    """Return the draw of the step that comes after so many examples and steps."""
    seen, count = examples * algorithm.candidates, size * algorithm.candidates
    return Draw(*draw_examples(workload, keys.data, seen, count), jax.random.fold_in(keys.algorithm, step))


def draw_examples(workload: Workload, key: jax.Array, seen: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Return (int32[size], key): the examples at a position of the data stream, and the key of their augmentation."""
    order_key, batch_key = jax.random.split(key)
    index = batch_indices(order_key, seen, size, workload.info.num_train_examples)
    return index, jax.random.fold_in(batch_key, seen)


def draw_batch(workload: Workload, key: jax.Array, examples_seen: jax.Array, size: int, train: Arrays) -> Batch:
    """Return the batch at a position of the data stream: a pure function of (key, examples seen, size)."""
    index, batch_key = draw_examples(workload, key, examples_seen, size)
    return workload.batch(train, index, batch_key) | {"index": index}


def eval_variables_function(
    workload: Workload, algorithm: Algorithm
) -> Callable[[TrainState, Keys, Arrays], tuple[Params, ModelState]]:
    """Return the submission's `eval_variables` with its recalibration batches drawn."""
    loss = WorkloadLoss(workload, gradients=False)
    count, size = algorithm.recalibration_batches, workload.info.batch_size
    function = algorithm.eval_variables
    assert function is not None

    def eval_variables(state: TrainState, keys: Keys, train: Arrays) -> tuple[Params, ModelState]:
        data_key, key = jax.random.split(jax.random.fold_in(keys.evaluation, state.step))
        batches = None
        if count:
            drawn = [draw_batch(workload, data_key, jnp.int32(i * size), size, train) for i in range(count)]
            batches = jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)
        return _strong(function(loss, state, batches, key))

    return eval_variables


def all_finite(params: Params) -> jax.Array:
    """Return whether every value of every array is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)]))


class _blamed:
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


def _strong(tree: PyTree) -> PyTree:
    """Make weakly typed values (from Python numbers) ordinary arrays of their dtype, so that shapes and dtypes are
    all there is.
    """

    def strong(x: Any) -> jax.Array:
        x = jnp.asarray(x)
        return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else jax.lax.convert_element_type(x, x.dtype)

    return jax.tree.map(strong, tree)


def _check_fields(algorithm: Algorithm, source: Path) -> None:
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


def _check_arrays(opt_state: PyTree, source: Path) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(opt_state):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise SubmissionError(
                f"{source}/submission.py: init() put a random key into opt_state{jax.tree_util.keystr(path)}; "
                "state holds arrays only: use the key that step() is handed"
            )


def _check_same(before: Mapping[str, PyTree], after: Mapping[str, PyTree], function: str, source: Path) -> None:
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


def _checked_metrics(metrics: Any, source: Path) -> dict[str, jax.Array]:
    where = f"{source}/submission.py: step() must return metrics as a flat dict of float32 scalars with a 'loss' in it"
    if not isinstance(metrics, dict) or "loss" not in metrics:
        raise SubmissionError(
            f"{where}; got {sorted(metrics) if isinstance(metrics, dict) else type(metrics).__name__}"
        )
    arrays: dict[str, jax.Array] = _strong(metrics)
    for name, value in arrays.items():
        if getattr(value, "shape", None) != () or value.dtype != jnp.float32:
            what = f"{value.dtype}{list(value.shape)}" if hasattr(value, "dtype") else type(value).__name__
            raise SubmissionError(f"{where}; '{name}' is {what}")
    return arrays


def _named_leaves(name: str, tree: PyTree) -> list[tuple[str, Any]]:
    return [(name + jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
