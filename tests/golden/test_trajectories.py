"""Twenty steps of every rule beside trajectories that the references computed in float64."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ports import PORTS
from replaying import DATA, INDEX, PARAM_INFO, Port, decay_of, largest_difference, load, rates, replay, stored

from harness.optim.apollo import apollo
from harness.optim.lamb import lamb
from harness.optim.matrices import by_kind
from harness.optim.muon import muon
from harness.optim.nadamw import nadamw
from harness.optim.normuon import normuon
from harness.optim.schedule_free import schedule_free_adamw, schedule_free_eval_params, schedule_free_sgd

BEFORE = {"float64": {"rtol": 1e-9, "atol": 1e-10}, "float32": {"rtol": 0.0, "atol": 5e-6}}
SCALAR = {"float64": {"rtol": 1e-9}, "float32": {"rtol": 1e-5}}  # of what a rule adapts, which may be large


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


AVERAGED = (("eval_params_after", schedule_free_eval_params), ("z_after", lambda state, params: state.z))
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
TRAJECTORIES = {f"{name}_reference": port for name, port in PORTS.items()} | {
    name: Port(make, others=AVERAGED if name.startswith("schedulefree") else ()) for name, make in RULES.items()
}


def test_every_file_is_replayed():
    assert set(TRAJECTORIES) == set(INDEX)
    others = {"index.json", "losses.json"}  # test_losses.py has the latter
    assert {f"{name}.json" for name in INDEX} | others == {path.name for path in DATA.iterdir()}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", TRAJECTORIES)
def test_trajectory_of_the_reference(name, dtype, record_property):
    data = load(name)
    tolerance = INDEX[name]["tolerance"][f"{dtype}_replay"]
    assert tolerance == BEFORE[dtype]
    after = replay(data, TRAJECTORIES[name], dtype)
    assert len(after) == len(data["params_after"]) == 20
    record_property("largest_difference", largest_difference(data, after))
    print(f"{name} {dtype}: largest difference {largest_difference(data, after):.2g}")
    for t, arrays in enumerate(after, 1):
        for key, tree in arrays.items():
            assert set(tree) in (set(data["shapes"]), {""})
            for array, ours in tree.items():
                theirs = stored(data, key, t - 1)[array]
                near = tolerance if array else SCALAR[dtype]
                np.testing.assert_allclose(ours, theirs, **near, err_msg=f"{key} of {array}, step {t}")


def test_nadamw_of_optax_is_another_rule():
    """optax corrects the momentum's two parts by two powers: nobody must put it in the place of ours."""
    data = load("nadamw_algoperf")
    assert largest_difference(data, replay(data, Port(adam_like(optax.nadamw)), "float64")[:1]) > 1e-4


def test_the_form_of_the_norm_before_newton_schulz_shows():
    """Added or clamped eps parts the references by 5e-7: each `scale` has that of its own."""
    data = load("muon_torch_match_rms_float64")

    def exact(data):
        return muon_like(lambda *args, ns_eps, **kw: muon(*args, ns_eps=0.0, **kw), scale="match_rms")(data)

    assert largest_difference(data, replay(data, Port(exact), "float64")) < 1e-10


def test_float64_does_not_leak():
    replay(load("adamw_torch"), TRAJECTORIES["adamw_torch"], "float64")
    assert jnp.ones(1).dtype == jnp.float32
