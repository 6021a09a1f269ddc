"""The compiled programs of one trial: everything the loop runs on the device, compiled ahead of time for its real
shapes.

The loop calls the compiled objects themselves, so a changed shape or dtype is an error and never a silent recompile.
The contract of a submission's functions (tree, shapes, dtypes) is checked on abstract values before anything is
compiled.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from harness.api import Algorithm, ModelState, Params, TrainState
from harness.errors import SubmissionError
from harness.program.loss import StepCost, cost_of
from harness.program.trace import (
    Arrays,
    Keys,
    Order,
    all_finite,
    blamed,
    check_arrays,
    check_fields,
    check_same,
    draw_step,
    eval_variables_function,
    init_function,
    step_function,
)
from harness.program.workload import Workload

QUICK_COMPILE = {"xla_backend_optimization_level": 1}
"""For what runs once on a CPU: half the time to compile, and the same bits. Drawing each parameter's numbers makes the
initial state the dearest program to compile but the step.
"""

MAX_CHUNK_STEPS = 100  # between two looks at the clock


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
    check_fields(algorithm, source)
    seconds: dict[str, float] = {}

    def compiled(
        name: str, function: Callable[..., Any], *args: Any, donate: tuple[int, ...] = (), options: Any = None
    ) -> tuple[Any, Any]:
        start = time.perf_counter()
        traced = jax.jit(function, donate_argnums=donate).trace(*args)
        executable = traced.lower().compile(options)
        seconds[name] = time.perf_counter() - start
        return executable, traced.jaxpr

    with blamed(source, "init"):
        init = init_function(workload, algorithm)
        state = jax.eval_shape(init, keys)
        check_arrays(state.opt_state, source)
    steps, cost = {}, {}
    for size in sizes:
        with blamed(source, "step"):
            steps[size], compile_s, traced = compile_step(
                workload, algorithm, size, dispatch, state, keys, train, source
            )
            seconds[f"step_{size}"] = compile_s
            cost[size] = cost_of(traced, dispatch)
    eval_variables = None
    variables = {"params": state.params, "model_state": state.model_state}
    if algorithm.eval_variables is not None:
        with blamed(source, "eval_variables"):
            function = eval_variables_function(workload, algorithm)
            given = dict(zip(variables, jax.eval_shape(function, state, keys, train), strict=True))
            check_same(variables, given, "eval_variables", source)
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
