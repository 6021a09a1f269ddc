"""Programs of the store, compiled for the real shapes: everything the loop runs on the device.

Nothing here imports a submission or a model. The loop calls the compiled objects themselves, so a changed shape or
dtype is an error and never a silent recompile. Keys and argument hyperparameters are arguments of what is compiled, so
that it serves every seed and point.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import export

from harness.api import Batch, TrainState
from harness.machine.flags import Device
from harness.program.draws import (
    Arrays,
    Draw,
    Keys,
    draw_recalibration,
    draw_step,
    recalibration_batches,
    take_batch,
)
from harness.program.manifest import Contract, Way
from harness.program.store import Program
from harness.program.workload import Data
from harness.trial.mesh import Layout

QUICK_COMPILE: dict[str, Any] = {"xla_backend_optimization_level": 1}
"""For what runs once on a CPU: half the time to compile, and the same bits. Drawing each parameter's numbers makes the
initial state the dearest program to compile but the step.
"""

MAX_CHUNK_STEPS = 100  # between two looks at the clock

Leaves = list[jax.Array]
Variables = tuple[Leaves, Leaves]
"""What is evaluated: parameters and model state."""


class Inputs(NamedTuple):
    """What a trial hands to the programs, which other seeds and points of it differ in.

    Attributes:
      keys: of its random streams.
      hyperparameters: float32 scalars, in the order of the contract's arguments.
    """

    keys: Keys
    hyperparameters: tuple[jax.Array, ...] = ()


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

    compiled: jax.stages.Compiled
    drawing: Callable[[jax.Array, jax.Array, Keys], Order]

    def order(self, state: TrainState, inputs: Inputs) -> Order:
        """Return the order of the chunk that begins at `state`."""
        return self.drawing(state.examples, state.step, inputs.keys)

    def __call__(
        self, state: TrainState, inputs: Inputs, train: Arrays, order: Order | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Train; donates the state. `order` is that of the chunk which these steps are part of, or of them alone."""
        state, (metrics, _) = self.compiled(state, inputs.hyperparameters, train, order or self.order(state, inputs))
        return state, metrics


@dataclass(frozen=True)
class EvalVariables:
    """A submission's `eval_variables`, compiled, as a function; and what draws its batches.

    They are drawn by a program of their own, as those of a step are: within it, LLVM under jax 0.11 may vectorize a
    chain of many integers for hours.
    """

    compiled: jax.stages.Compiled
    drawing: Callable[[jax.Array, jax.Array], Draw | jax.Array]

    def __call__(self, state: TrainState, inputs: Inputs, train: Arrays) -> Variables:
        """Return what is to be evaluated."""
        drawn = self.drawing(state.step, inputs.keys.evaluation)
        params, model_state = self.compiled(state, inputs.hyperparameters, train, drawn)
        return params, model_state


@dataclass(frozen=True)
class Programs:
    """Compiled programs. A state is a `TrainState` of lists of arrays, in the order of the contract's leaves.

    Attributes:
      contract: of the submission's program.
      init: Inputs -> the state before the first step.
      steps: by batch size: (state, inputs, train arrays, order) -> (state, metrics stacked over the dispatch).
      dispatch_steps: steps in one call of a step program.
      eval_variables: None where the state's own are evaluated.
      evaluate: (params, model_state, slice arrays) -> metrics, of the validation slice.
      full: the same for the full splits, by name, to be compiled.
      finite: params -> bool.
      compile_s: seconds by program.
      memory_bytes: what the largest step takes: arguments, the training arrays among them, outputs and temporaries;
        None where XLA does not tell.
    """

    contract: Contract
    init: Callable[[Inputs], TrainState]
    steps: dict[int, Step]
    dispatch_steps: int
    eval_variables: EvalVariables | None
    evaluate: Callable[[Leaves, Leaves, Arrays], dict[str, jax.Array]]
    full: Mapping[str, Any]
    finite: Callable[[Leaves], jax.Array]
    compile_s: dict[str, float]
    memory_bytes: int | None


def compile_programs(
    data: Data, own: Program, submission: Program, train: Arrays, validation_slice: Arrays, *, platform: Device,
    way: Way = "xla", dispatch_steps: int | None = None, sharding: Any = None, layout: Layout | None = None,
    threads: int = 2,
) -> Programs:  # fmt: skip
    """Compile all programs of a submission on a workload; of the arrays only the shapes count, and where they lie.

    `own` is the workload's program, `way` that of attention; `dispatch_steps` stands in for the workload's own number,
    `sharding` for the device of this process, `layout` for both where there are several devices. So many `threads`
    compile at a time.
    """
    contract, info = submission.manifest.contract, data.info
    dispatch = dispatch_steps or info.dispatch_steps.get(platform, 1)
    whole = layout.whole if layout else None
    sharding = whole or sharding
    key = jax.ShapeDtypeStruct((), jax.eval_shape(lambda: jax.random.key(0)).dtype, sharding=sharding)
    inputs = Inputs(
        Keys(*[key] * len(Keys._fields)),  # type: ignore[arg-type]
        tuple(jax.ShapeDtypeStruct((), jnp.float32, sharding=sharding) for _ in contract.arguments),  # type: ignore[misc]
    )
    state = shapes_of(contract, sharding, layout)
    placed = layout.state(contract) if layout else None
    variables = state.params, state.model_state
    quick = QUICK_COMPILE if platform == "cpu" else None

    def step_of(size: int) -> Callable[[], Step]:
        function = call_of(submission, f"step_{size}", way)
        return lambda: compile_step(function, data, contract, size, dispatch, state, inputs, train, layout)

    jobs: dict[str, Callable[[], Any]] = {f"step_{size}": step_of(size) for size in contract.batch_sizes}
    begin = jax.jit(init_function(own, submission, way), out_shardings=placed)
    jobs["init"] = lambda: begin.lower(inputs).compile(quick)
    if "eval_variables" in submission.functions:
        function = call_of(submission, "eval_variables", way)
        jobs["eval_variables"] = lambda: compile_eval_variables(function, data, contract, state, inputs, train, layout)

    def evaluation(split: str) -> Any:
        function = call_of(own, f"evaluate_{split}", way)
        return jax.jit(layout.evaluate(function) if layout else function, out_shardings=whole)

    evaluated = evaluation("validation_slice")
    jobs["evaluate"] = lambda: evaluated.lower(*variables, validation_slice).compile()
    jobs["finite"] = lambda: jax.jit(all_finite, out_shardings=whole).lower(state.params).compile()
    made, seconds = all_of(jobs, threads)
    steps = {size: made[f"step_{size}"] for size in contract.batch_sizes}
    return Programs(
        contract=contract,
        init=made["init"],
        steps=steps,
        dispatch_steps=dispatch,
        eval_variables=made.get("eval_variables"),
        evaluate=made["evaluate"],
        full={split: evaluation(split) for split in ("validation", "test")},
        finite=made["finite"],
        compile_s=seconds,
        memory_bytes=max(filter(None, map(step_bytes, steps.values())), default=None),
    )


def step_bytes(step: Step) -> int | None:
    """Return the bytes that a call of a step takes; None where XLA does not tell."""
    m = step.compiled.memory_analysis()
    if m is None:
        return None
    held = m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes
    return int(held + m.temp_size_in_bytes)


def all_of(jobs: Mapping[str, Callable[[], Any]], threads: int) -> tuple[dict[str, Any], dict[str, float]]:
    """Return what each job makes, and its seconds. XLA compiles with one thread for the most part of it, so that two at
    a time make use of two cores.
    """
    seconds: dict[str, float] = {}

    def timed(name: str) -> Any:
        start = time.perf_counter()
        made = jobs[name]()
        seconds[name] = time.perf_counter() - start
        return made

    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(jobs, pool.map(timed, jobs), strict=True)), seconds


def compile_yardstick(
    own: Program, data: Data, train: Arrays, *, platform: Device, way: Way = "xla", layout: Layout | None = None
) -> tuple[Callable[[Leaves, Leaves], TrainState], Step]:
    """Return (parameters, model state -> state; compiled step) of the yardstick at the workload's batch size."""
    contract = own.manifest.contract
    size, dispatch = data.info.batch_size, data.info.dispatch_steps.get(platform, 1)
    start = call_of(own, "yardstick_init", way)
    begin = jax.jit(
        lambda params, model_state: _initial(params, start(params), model_state),
        out_shardings=layout.state(contract) if layout else None,
    )
    step, key = call_of(own, "yardstick_step", way), jax.eval_shape(lambda: jax.random.key(0))
    key = layout.shapes(key) if layout else key
    inputs = Inputs(Keys(*[key] * len(Keys._fields)))

    def yardstick(*args: Any) -> Any:
        return step(*args[:-1])  # it has no hyperparameters

    state = shapes_of(contract, None, layout)
    return begin, compile_step(yardstick, data, contract, size, dispatch, state, inputs, train, layout)


def compile_step(
    function: Callable[..., Any], data: Data, contract: Contract, size: int, dispatch: int, state: TrainState,
    inputs: Inputs, train: Arrays, layout: Layout | None = None,
) -> Step:  # fmt: skip
    """Compile one dispatch of `dispatch` steps of a program's step function, and what draws its order."""
    function = layout.step(function) if layout else function
    calls = -(-MAX_CHUNK_STEPS // dispatch)
    count = data.info.num_train_examples

    def draw(examples: jax.Array, step: jax.Array, keys: Keys) -> Order:
        number = jnp.arange(calls * dispatch, dtype=examples.dtype).reshape(calls, dispatch)
        each = examples + size * number

        def drawn(seen: jax.Array, step: jax.Array) -> Draw:
            return draw_step(keys, seen, step, size, num_examples=count, candidates=contract.candidates)

        return Order(each[0, 0], jax.vmap(jax.vmap(drawn))(each, step + number))

    def call(state: TrainState, hyperparameters: tuple[jax.Array, ...], train: Arrays, order: Order) -> Any:
        def step(state: TrainState, draw: Draw) -> tuple[TrainState, dict[str, jax.Array]]:
            batch = take_batch(data.batch, train, draw.examples, draw.batch_key)
            key = jax.random.key_data(draw.key)
            *new, metrics = function(*state, batch, key, list(hyperparameters))
            params, opt_state, model_state = new
            return TrainState(params, opt_state, model_state, state.step + 1, state.examples + size), metrics

        number = (state.examples - order.first) // (size * dispatch)
        draws = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, number, keepdims=False), order.draws)
        if dispatch == 1:
            state, metrics = step(state, jax.tree.map(lambda x: x[0], draws))
            # A second use of the examples, which nobody reads: on a CPU a short step is up to 5% faster with it, under
            # XLA's backend there (harness/README.md, How fast).
            return state, (jax.tree.map(lambda m: m[None], metrics), draws.examples.sum())
        state, metrics = jax.lax.scan(step, state, draws)
        return state, (metrics, ())

    position = state.examples, state.step, inputs.keys
    drawn, placed = jax.eval_shape(draw, *position), None
    if layout:
        drawn, placed = layout.shapes(drawn), (layout.state(contract), layout.whole)
    drawing = jax.jit(draw, out_shardings=layout.whole if layout else None).lower(*position).compile()
    compiled = jax.jit(call, donate_argnums=0, out_shardings=placed)
    return Step(compiled.lower(state, inputs.hyperparameters, train, drawn).compile(), drawing)


def compile_eval_variables(
    function: Callable[..., Any], data: Data, contract: Contract, state: TrainState, inputs: Inputs, train: Arrays,
    layout: Layout | None = None,
) -> EvalVariables:  # fmt: skip
    """Compile a program's `eval_variables`, and what draws its recalibration batches."""
    function = layout.eval_variables(function) if layout else function
    number, size, count = data.info.num_train_examples, data.info.batch_size, contract.recalibration_batches

    def draw(step: jax.Array, key: jax.Array) -> Draw | jax.Array:
        if count:
            return draw_recalibration(key, step, count, size, num_examples=number)
        return jax.random.split(jax.random.fold_in(key, step))[1]

    def call(state: TrainState, hyperparameters: tuple[jax.Array, ...], train: Arrays, drawn: Draw | jax.Array) -> Any:
        batches: Batch = {}
        if isinstance(drawn, Draw):
            batches, drawn = recalibration_batches(data.batch, train, drawn), drawn.key
        return function(*state, batches, jax.random.key_data(drawn), list(hyperparameters))

    position = state.step, inputs.keys.evaluation
    drawn, placed = jax.eval_shape(draw, *position), None
    if layout:
        leaves = layout.state(contract)
        drawn, placed = layout.shapes(drawn), (leaves.params, leaves.model_state)
    drawing = jax.jit(draw, out_shardings=layout.whole if layout else None).lower(*position).compile()
    compiled = jax.jit(call, out_shardings=placed)
    return EvalVariables(compiled.lower(state, inputs.hyperparameters, train, drawn).compile(), drawing)


def variables_function(own: Program, way: Way = "xla") -> Callable[[jax.Array], Variables]:
    """Return key -> the workload's parameters and model state before the first step."""
    init, count = call_of(own, "init", way), len(own.manifest.contract.params)

    def variables(key: jax.Array) -> Variables:
        leaves = init(jax.random.key_data(key))
        return leaves[:count], leaves[count:]

    return variables


def init_function(own: Program, submission: Program, way: Way = "xla") -> Callable[[Inputs], TrainState]:
    """Return Inputs -> the state before the first step: the workload's parameters, the submission's state."""
    variables, init_opt = variables_function(own, way), call_of(submission, "init_opt", way)

    def init(inputs: Inputs) -> TrainState:
        params, model_state = variables(inputs.keys.init)
        opt_state = init_opt(params, jax.random.key_data(inputs.keys.algorithm), list(inputs.hyperparameters))
        return _initial(params, opt_state, model_state)

    return init


def call_of(program: Program, name: str, way: Way = "xla") -> Callable[..., Any]:
    """Return a function of a program, by a way of attention, to be traced into what is compiled."""
    held = program.functions[name if way == "xla" else f"{name}.{way}"]
    call: Callable[..., Any] = export.deserialize(bytearray(held)).call
    return call


def shapes_of(contract: Contract, sharding: Any = None, layout: Layout | None = None) -> TrainState:
    """Return the shapes of a state, on a device or over several."""

    def shaped(shape: tuple[int, ...], dtype: str) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype), sharding=layout.of(shape) if layout else sharding)

    parts = contract.params, contract.opt_state, contract.model_state
    params, opt_state, model_state = ([shaped(leaf.shape, leaf.dtype) for leaf in part] for part in parts)
    return TrainState(params, opt_state, model_state, shaped((), "int32"), shaped((), "int32"))


def named(contract: Contract, state: TrainState) -> dict[str, jax.Array]:
    """Return the arrays of a state by their names in the contract."""
    parts = contract.params, contract.opt_state, contract.model_state
    flat = {
        leaf.name: array
        for leaves, arrays in zip(parts, state, strict=False)
        for leaf, array in zip(leaves, arrays, strict=True)
    }
    return flat | {"step": state.step, "examples": state.examples}


def unnamed(contract: Contract, arrays: Mapping[str, jax.Array]) -> TrainState:
    """Return the state whose arrays have these names."""
    parts = contract.params, contract.opt_state, contract.model_state
    params, opt_state, model_state = ([arrays[leaf.name] for leaf in leaves] for leaves in parts)
    return TrainState(params, opt_state, model_state, arrays["step"], arrays["examples"])


def all_finite(params: Leaves) -> jax.Array:
    """Return whether every value of every array is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in params]))


def _initial(params: Leaves, opt_state: Leaves, model_state: Leaves) -> TrainState:
    zero = jnp.zeros((), jnp.int32)
    return TrainState(params, opt_state, model_state, step=zero, examples=zero)
