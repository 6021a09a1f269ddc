"""What replays a trajectory: the files, their arrays as a flax model has them, and twenty steps of a rule.

The files hold matrices W_* as (out, in): here they are transposed to the (in, out) of a flax kernel and back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from harness.api import ParamInfo, ParamKind

DATA = Path(__file__).resolve().parent / "data"
INDEX = {Path(f["file"]).stem: f for f in json.loads((DATA / "index.json").read_text())["files"]}
PARAM_INFO = {
    "W_tall": ParamInfo(ParamKind.MATRIX, (0,), (1,)),
    "W_wide": ParamInfo(ParamKind.MATRIX, (0,), (1,)),
    "W_square": ParamInfo(ParamKind.MATRIX, (0,), (1,)),
    "b": ParamInfo(ParamKind.BIAS, (), (0,)),
    "E": ParamInfo(ParamKind.EMBEDDING, (0,), (1,)),
}


@dataclass(frozen=True)
class Port:
    """A rule as a file wants it.

    Attributes:
      make: (the file) -> the transformation.
      extra: (the file, step counted from 1, state) -> what `update` takes besides.
      then: (the file, step, state) -> the state to go on with.
      others: by key of the file, beside the parameters: (state, parameters) -> its value after a step.
    """

    make: Callable[[dict[str, Any]], Any]
    extra: Callable[[dict[str, Any], int, Any], dict[str, Any]] = lambda data, t, state: {}
    then: Callable[[dict[str, Any], int, Any], Any] = lambda data, t, state: state
    others: tuple[tuple[str, Callable[[Any, Any], Any]], ...] = ()


def load(name: str) -> dict[str, Any]:
    return json.loads((DATA / f"{name}.json").read_text())


def flax(name: str, values: Any, dtype: str) -> jax.Array:
    array = jnp.asarray(values, dtype)
    return array.T if name.startswith("W_") else array


def torch(name: str, array: jax.Array) -> np.ndarray:
    return np.asarray(array.T if name.startswith("W_") else array)


def rates(values: list[float]) -> optax.Schedule:
    table = jnp.asarray(values)
    return lambda t: table[t]


def decay_of(data: dict[str, Any]) -> dict[str, Any]:
    """Return weight_decay and mask, as the parameter groups say."""
    by_name = {name: group["weight_decay"] for group in data["param_groups"] for name in group["params"]}
    (decay,) = {d for d in by_name.values() if d} or {0.0}
    return {"weight_decay": decay, "mask": {name: d > 0 for name, d in by_name.items()}}


def replay(data: dict[str, Any], port: Port, dtype: str) -> list[dict[str, Any]]:
    """Feed the stored gradients to the rule; return, after each step, what the file has."""
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        transform = port.make(data)
        params = {name: flax(name, v, dtype) for name, v in data["params_before"].items()}
        state = transform.init(params)
        quick = {"xla_backend_optimization_level": 0}  # to compile: twenty steps take no time
        update = jax.jit(lambda g, s, p, extra: transform.update(g, s, p, **extra), compiler_options=quick)
        after = []
        for t, grads in enumerate(data["grads"], 1):
            grads = {name: flax(name, v, dtype) for name, v in grads.items()}
            updates, state = update(grads, state, params, port.extra(data, t, state))
            params, state = optax.apply_updates(params, updates), port.then(data, t, state)
            found = {"params_after": params} | {key: of(state, params) for key, of in port.others}
            after.append({key: _plain(value) for key, value in found.items()})
    assert {v.dtype.name for v in after[-1]["params_after"].values()} == {dtype}
    return after


def _plain(value: Any) -> Any:
    return {n: torch(n, v) for n, v in value.items()} if isinstance(value, dict) else {"": np.asarray(value)}


def stored(data: dict[str, Any], key: str, step: int) -> dict[str, np.ndarray]:
    """Return what the file has after a step counted from 0."""
    value = data[key][step]
    return {n: np.array(v) for n, v in value.items()} if isinstance(value, dict) else {"": np.array(value)}


def largest_difference(data: dict[str, Any], after: list[dict[str, Any]]) -> float:
    return max(
        float(np.abs(ours - stored(data, key, t)[name]).max())
        for t, arrays in enumerate(after)
        for key, tree in arrays.items()
        for name, ours in tree.items()
    )
