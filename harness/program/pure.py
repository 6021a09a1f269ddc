"""Whether a submission's functions are pure, as far as tracing them tells. Nothing is compiled.

Tracing runs a function's Python once, and the program repeats what was recorded then: a counter, a list of gradients or
an average that Python keeps stands still at its first value. So each function is traced twice. The second trace must
leave what Python holds as the first one left it, and record the same program. A cache that the first one fills is fine.
"""

from __future__ import annotations

import functools
import re
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from harness.api import Algorithm, Batch, TrainState
from harness.errors import SubmissionError
from harness.program.loss import WorkloadLoss, inner_jaxprs
from harness.program.trace import blamed, check_arrays, strong, take_step
from harness.program.workload import Workload

PLAIN = (bool, int, float, complex, str, bytes, type(None))
DEEPEST = 12  # containers within containers that are looked into

_ABSENT = object()
_PUT = (
    "keep the value in the optimizer's state, which `init` and each step return; an Algorithm's step also has "
    "state.step and the key"
)


def check_pure(workload: Workload, algorithm: Algorithm, batch: Any, batches: Any, source: Path) -> None:
    """Trace `init`, `step` and `eval_variables` twice, on shapes: `batch` is that of a step, `batches` those to
    recalibrate on. The model is the workload's but for its loss, which takes long to trace and is not the submission's.

    Raises SubmissionError naming what Python keeps, or the line that calls back to the host.
    """
    loss = WorkloadLoss(replace(workload, loss=_sum_of_squares))
    key, zero = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((), jnp.int32)
    params, model_state = jax.eval_shape(workload.init, key)

    def init(params: Any, key: Any) -> Any:
        return strong(algorithm.init(params, key))

    def step(state: TrainState, batch: Batch, key: Any) -> Any:
        return take_step(loss, algorithm, state, batch, key, workload.info.batch_size, source)

    def eval_variables(state: TrainState, batches: Batch, key: Any) -> Any:
        assert algorithm.eval_variables is not None
        return algorithm.eval_variables(replace(loss, gradients=False), state, batches or None, key)

    opt_state = _traced_twice(init, (params, key), algorithm, source)
    check_arrays(opt_state, source)
    state = TrainState(params, opt_state, model_state, step=zero, examples=zero)  # type: ignore[arg-type]
    _traced_twice(step, (state, batch, key), algorithm, source)
    if algorithm.eval_variables is not None:
        _traced_twice(eval_variables, (state, batches, key), algorithm, source)


def _sum_of_squares(params: Any, model_state: Any, batch: Batch, *_: Any, **__: Any) -> Any:
    value = sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params))
    return jnp.broadcast_to(value, batch["index"].shape), model_state


def _traced_twice(function: Callable[..., Any], args: tuple[Any, ...], algorithm: Algorithm, source: Path) -> Any:
    """Trace `function(*args)` two times, and return the shapes of what it returns."""
    name = function.__name__
    where = f"{source}/submission.py: {name}()"
    try:
        with blamed(source, name):
            one, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
            _refuse_kept_arrays(one)
            _refuse_callbacks(one.jaxpr, source)
            first = _held(algorithm, source)
            jax.clear_caches()  # or what is jitted or scanned within it would not be traced again
            other = jax.make_jaxpr(function)(*args)
            _refuse_kept_arrays(other)
            second = _held(algorithm, source)
    except SubmissionError as error:
        if not isinstance(error.__cause__, jax.errors.UnexpectedTracerError):
            raise
        raise SubmissionError(
            f"{where} uses an array that Python kept from an earlier call, in a list, a closure or an attribute; a "
            f"function is traced once, so that it would stay as it is: {_PUT}"
        ) from None
    for path in {**first, **second}:
        if first.get(path, _ABSENT) != second.get(path, _ABSENT):
            raise SubmissionError(
                f"{where} changes {path} when it is traced; it is traced once, and the program that comes out keeps "
                f"the first value for ever: {_PUT}"
            )
    if _printed(one) != _printed(other):
        raise SubmissionError(
            f"{where} is another program when it is traced again: something in Python counts, draws or tells the time, "
            f"and the program that comes out keeps its first value for ever: {_PUT}"
        )
    return shapes


def _refuse_kept_arrays(closed: Any) -> None:
    """Raise jax's own error for a traced array that outlived its trace; jax takes it for a constant here."""
    for constant in closed.consts:
        if isinstance(constant, jax.core.Tracer):
            raise jax.errors.UnexpectedTracerError("an array of an earlier trace")


def _refuse_callbacks(jaxpr: Any, source: Path) -> None:
    """Raise SubmissionError naming the line of the first callback to the host."""
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if "callback" in name or name == "debug_print":
            frames = eqn.source_info.traceback.frames if eqn.source_info.traceback else []
            own = [f"{f.file_name}:{f.line_num}" for f in frames if _is_below(source, f.file_name)]
            raise SubmissionError(
                f"{own[0] if own else source}: a callback to the host (jax.debug.print, jax.pure_callback) cannot be "
                "part of a program; return what you want to see as a metric, or run `harness check NAME --debug`, "
                "where prints appear"
            )
        for inner in inner_jaxprs(eqn.params):
            _refuse_callbacks(inner, source)


def _printed(closed: Any) -> tuple[str, list[bytes]]:
    """Return a traced program as text without addresses, and the bytes of its constants."""
    plain = [jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in closed.consts]
    return re.sub(r" at 0x[0-9a-f]+", "", str(closed)), [np.asarray(x).tobytes() for x in plain]


def _held(algorithm: Algorithm, source: Path) -> dict[str, Any]:
    """Return the numbers and texts, and the lengths of containers, that the algorithm's functions and the submission's
    modules hold, by a name that its author knows.
    """
    found: dict[str, Any] = {}
    seen: set[int] = set()

    def look(value: Any, path: str, depth: int) -> None:
        if isinstance(value, PLAIN):
            found[path] = value
        elif isinstance(value, np.ndarray):
            found[path] = value.tolist() if value.size <= 8 else value.tobytes()
        elif id(value) not in seen and depth < DEEPEST:
            seen.add(id(value))
            if type(value).__module__ == "itertools":
                found[path] = repr(value)
            for name, inner in _within(value, path):
                look(inner, name, depth + 1)

    for module in [m for m in sys.modules.values() if _is_below(source, getattr(m, "__file__", None))]:
        for name, value in vars(module).items():
            if not name.startswith("__"):
                look(value, name, 0)
    for name in ("init", "step", "eval_variables"):
        look(getattr(algorithm, name), name, 0)
    return found


def _within(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what a value holds, each with a name."""
    if isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        for default in (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()):
            yield f"a default of {value.__name__}", default
    elif isinstance(value, types.MethodType):
        yield "self", value.__self__
    elif isinstance(value, functools.partial):
        yield from ((path, inner) for inner in (value.func, value.args, value.keywords))
    elif isinstance(value, Mapping):
        yield f"len({path})", len(value)
        yield from ((f"{path}[{key!r}]", inner) for key, inner in value.items())
    elif isinstance(value, list | tuple | deque):
        yield f"len({path})", len(value)
        yield from ((f"{path}[{number}]", inner) for number, inner in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield f"len({path})", len(value)
    if not isinstance(value, type | types.ModuleType) and not type(value).__module__.startswith(("jax", "numpy")):
        yield from ((f"{path}.{name}", inner) for name, inner in getattr(value, "__dict__", {}).items())
    elif hasattr(value, "__wrapped__"):  # what jax.jit makes of a function
        yield path, value.__wrapped__


def _is_below(source: Path, file: str | None) -> bool:
    return file is not None and Path(file).is_relative_to(source)
