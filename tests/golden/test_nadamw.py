"""Twenty steps of NadamW and AdamW beside trajectories that the references computed in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from harness.optim.nadamw import nadamw

DATA = Path(__file__).resolve().parent / "data"
TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-10}, "float32": {"rtol": 0.0, "atol": 5e-6}}


def load(name: str) -> dict[str, Any]:
    return json.loads((DATA / f"{name}.json").read_text())


def make(data: dict[str, Any], rule):
    """Return `rule` with the hyperparameters of the file; its schedule is the list of rates."""
    decayed = {name: g["weight_decay"] > 0 for g in data["param_groups"] for name in g["params"]}
    (decay,) = {g["weight_decay"] for g in data["param_groups"] if g["weight_decay"]}
    rates = jnp.asarray(data["lr"])
    hp = data["hyperparameters"]
    return rule(lambda t: rates[t], b1=hp["b1"], b2=hp["b2"], eps=hp["eps"], weight_decay=decay, mask=decayed)


def replay(data: dict[str, Any], rule, dtype: str) -> list[dict[str, np.ndarray]]:
    """Feed the stored gradients to the rule; return the parameters after each step."""
    with jax.enable_x64(dtype == "float64"):
        arrays = lambda tree: {name: jnp.asarray(v, dtype) for name, v in tree.items()}  # noqa: E731
        transform = make(data, rule)
        params = arrays(data["params_before"])
        state = transform.init(params)
        after = []
        for grads in data["grads"]:
            updates, state = transform.update(arrays(grads), state, params)
            params = optax.apply_updates(params, updates)
            after.append({name: np.asarray(v) for name, v in params.items()})
    assert {v.dtype.name for v in after[-1].values()} == {dtype}
    return after


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "rule"), [("nadamw_algoperf", nadamw), ("adamw_torch", optax.adamw)])
def test_trajectory_of_the_reference(name, rule, dtype):
    data = load(name)
    after = replay(data, rule, dtype)
    assert len(after) == len(data["params_after"]) == 20
    for t, (ours, theirs) in enumerate(zip(after, data["params_after"], strict=True), 1):
        assert set(ours) == set(theirs) == set(data["shapes"])
        for array, values in theirs.items():
            np.testing.assert_allclose(ours[array], np.array(values), **TOLERANCE[dtype], err_msg=f"{array}, step {t}")


def test_nadamw_of_optax_is_another_rule():
    """optax corrects the momentum's two parts by two powers: nobody must put it in the place of ours."""
    data = load("nadamw_algoperf")
    first = replay(data, optax.nadamw, "float64")[0]
    difference = max(np.abs(first[name] - np.array(v)).max() for name, v in data["params_after"][0].items())
    assert difference > 1e-4


def test_float64_does_not_leak():
    replay(load("adamw_torch"), optax.adamw, "float64")
    assert jnp.ones(1).dtype == jnp.float32
