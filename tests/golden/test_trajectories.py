"""Twenty steps of every rule beside trajectories that the references computed in float64.

The files hold matrices W_* as (out, in): here they are transposed to the (in, out) of a flax kernel and back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from harness.api import ParamInfo, ParamKind
from harness.optim.apollo import apollo
from harness.optim.lamb import lamb
from harness.optim.matrices import by_kind
from harness.optim.muon import muon
from harness.optim.nadamw import nadamw
from harness.optim.normuon import normuon
from harness.optim.schedule_free import schedule_free_adamw, schedule_free_eval_params, schedule_free_sgd

DATA = Path(__file__).resolve().parent / "data"
INDEX = {Path(f["file"]).stem: f for f in json.loads((DATA / "index.json").read_text())["files"]}
BEFORE = {"float64": {"rtol": 1e-9, "atol": 1e-10}, "float32": {"rtol": 0.0, "atol": 5e-6}}
PARAM_INFO = {
    "W_tall": ParamInfo(ParamKind.MATRIX, (0,), (1,)),
    "W_wide": ParamInfo(ParamKind.MATRIX, (0,), (1,)),
    "W_square": ParamInfo(ParamKind.MATRIX, (0,), (1,)),
    "b": ParamInfo(ParamKind.BIAS, (), (0,)),
    "E": ParamInfo(ParamKind.EMBEDDING, (0,), (1,)),
}


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


def adam_like(rule: Callable[..., Any]) -> Callable[..., Any]:
    def make(data: dict[str, Any]) -> optax.GradientTransformation:
        hp = data["hyperparameters"]
        return rule(rates(data["lr"]), b1=hp["b1"], b2=hp["b2"], eps=hp["eps"], **decay_of(data))

    return make


def muon_like(rule: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    def make(data: dict[str, Any]) -> optax.GradientTransformation:
        hp = data["hyperparameters"]
        (decay,) = {group["weight_decay"] for group in data["param_groups"] if group["rule"] == "muon"}
        matrices = rule(
            rates(data["lr"]["muon"]),
            PARAM_INFO,
            momentum=hp["momentum"],
            nesterov=hp["nesterov"],
            ns_steps=hp["ns_steps"],
            ns_coeffs=hp["ns_coeffs"],
            ns_eps=1e-7,  # added or a lower bound, as the form named by `scale` has it
            weight_decay=decay,
            **({"b2": hp["beta2"]} if "beta2" in hp else {}),
            **options,
        )
        adam = {
            kind: optax.adam(rates(data["lr"][kind]), hp["adam_b1"], hp["adam_b2"], hp["adam_eps"])
            for kind in ("embed", "scalar")
        }
        others = optax.partition(adam, {name: "embed" if name == "E" else "scalar" for name in PARAM_INFO})
        return by_kind(PARAM_INFO, matrices, others)

    return make


def apollo_like(data: dict[str, Any]) -> optax.GradientTransformation:
    hp, stored = data["hyperparameters"], data["projections"]
    (decay,) = {group["weight_decay"] for group in data["param_groups"]}
    matrices = {name: jnp.asarray([s["matrix"] for s in p["segments"]]) for name, p in stored.items()}

    def projection(name: str, refresh: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        assert shape == tuple(stored[name]["shape"])
        return matrices[name][refresh]

    return apollo(
        rates(data["lr"]),
        PARAM_INFO,
        rank=hp["rank"],
        scale=hp["scale"],
        scale_type=hp["scale_type"],
        update_gap=hp["update_proj_gap"],
        b1=hp["b1"],
        b2=hp["b2"],
        eps=hp["eps"],
        norm_growth=hp["limiter_gamma"],
        weight_decay=decay,
        projection=projection,
    )


def schedule_free_like(rule: Callable[..., Any]) -> Callable[..., Any]:
    def make(data: dict[str, Any]) -> optax.GradientTransformation:
        hp = data["hyperparameters"]
        moments = {name: hp[name] for name in ("b2", "eps") if name in hp}
        return rule(
            hp["base_lr"],
            hp["warmup_steps"],
            b1=hp.get("b1", hp.get("momentum")),
            r=hp["r"],
            weight_lr_power=hp["weight_lr_power"],
            **moments,
            **decay_of(data),
        )

    return make


def lamb_like(data: dict[str, Any]) -> optax.GradientTransformation:
    hp, decay = data["hyperparameters"], decay_of(data)
    if all(decay["mask"].values()):
        decay["mask"] = None
    return lamb(rates(data["lr"]), b1=hp["b1"], b2=hp["b2"], eps=hp["eps"], trust_clip=hp["trust_clip"], **decay)


RULES = {
    "adamw_torch": adam_like(optax.adamw),
    "nadamw_algoperf": adam_like(nadamw),
    "lamb_all_adapt": lamb_like,
    "lamb_bias_excluded": lamb_like,
    "muon_kj_float64": muon_like(muon, scale="shape"),
    "muon_torch_match_rms_float64": muon_like(muon, scale="match_rms"),
    "normuon_official_float64": muon_like(normuon, scale="norm"),
    "normuon_paper_rms_float64": muon_like(normuon, scale="rms"),
    "apollo_channel_rank2": apollo_like,
    "apollo_mini_rank1": apollo_like,
    "schedulefree_adamw": schedule_free_like(schedule_free_adamw),
    "schedulefree_sgd": schedule_free_like(schedule_free_sgd),
}


def load(name: str) -> dict[str, Any]:
    return json.loads((DATA / f"{name}.json").read_text())


def replay(data: dict[str, Any], make: Callable[..., Any], dtype: str) -> list[dict[str, dict[str, np.ndarray]]]:
    """Feed the stored gradients to the rule; return, after each step, the arrays that the file has."""
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        transform = make(data)
        params = {name: flax(name, v, dtype) for name, v in data["params_before"].items()}
        state = transform.init(params)
        update = jax.jit(transform.update)
        after = []
        for grads in data["grads"]:
            updates, state = update({name: flax(name, v, dtype) for name, v in grads.items()}, state, params)
            params = optax.apply_updates(params, updates)
            arrays = {"params_after": params}
            if "eval_params_after" in data:
                arrays |= {"eval_params_after": schedule_free_eval_params(state, params), "z_after": state.z}
            after.append({key: {n: torch(n, v) for n, v in tree.items()} for key, tree in arrays.items()})
    assert {v.dtype.name for v in after[-1]["params_after"].values()} == {dtype}
    return after


def largest_difference(data: dict[str, Any], after: list[dict[str, dict[str, np.ndarray]]]) -> float:
    return max(
        float(np.abs(ours - np.array(data[key][t][name])).max())
        for t, arrays in enumerate(after)
        for key, tree in arrays.items()
        for name, ours in tree.items()
    )


def test_every_file_is_replayed():
    assert set(RULES) == set(INDEX)
    others = {"index.json", "losses.json"}  # test_losses.py has the latter
    assert {f"{name}.json" for name in INDEX} | others == {path.name for path in DATA.iterdir()}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", RULES)
def test_trajectory_of_the_reference(name, dtype, record_property):
    data = load(name)
    tolerance = INDEX[name]["tolerance"][f"{dtype}_replay"]
    assert tolerance == BEFORE[dtype]
    after = replay(data, RULES[name], dtype)
    assert len(after) == len(data["params_after"]) == 20
    record_property("largest_difference", largest_difference(data, after))
    print(f"{name} {dtype}: largest difference {largest_difference(data, after):.2g}")
    for t, arrays in enumerate(after, 1):
        for key, tree in arrays.items():
            assert set(tree) == set(data["shapes"])
            for array, ours in tree.items():
                theirs = np.array(data[key][t - 1][array])
                np.testing.assert_allclose(ours, theirs, **tolerance, err_msg=f"{key} of {array}, step {t}")


def test_nadamw_of_optax_is_another_rule():
    """optax corrects the momentum's two parts by two powers: nobody must put it in the place of ours."""
    data = load("nadamw_algoperf")
    assert largest_difference(data, replay(data, adam_like(optax.nadamw), "float64")[:1]) > 1e-4


def test_the_form_of_the_norm_before_newton_schulz_shows():
    """Added or clamped eps parts the references by 5e-7: each `scale` has that of its own."""
    data = load("muon_torch_match_rms_float64")

    def exact(data):
        return muon_like(lambda *args, ns_eps, **kw: muon(*args, ns_eps=0.0, **kw), scale="match_rms")(data)

    assert largest_difference(data, replay(data, exact, "float64")) < 1e-10


def test_float64_does_not_leak():
    replay(load("adamw_torch"), RULES["adamw_torch"], "float64")
    assert jnp.ones(1).dtype == jnp.float32
