"""The rules that tests/golden/reference has trajectories of, called as those say: by the stem of the file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from replaying import PARAM_INFO, Port, decay_of, flax, rates

from harness.api import Algorithm, TrainState
from harness.optim.adagrad import adagrad
from harness.optim.adamp import adamp, sgdp
from harness.optim.ademamix import ademamix, warmed_alpha, warmed_b3
from harness.optim.adopt import adopt
from harness.optim.cautious import cautious
from harness.optim.cocob import cocob
from harness.optim.dadapt_adam import dadapt_adam
from harness.optim.diffgrad import diffgrad
from harness.optim.dog import dog, dog_eval_params
from harness.optim.kron import kron
from harness.optim.lars import lars
from harness.optim.lion import lion
from harness.optim.mars import mars_adamw
from harness.optim.mechanic import mechanic
from harness.optim.momo import momo, momo_adam
from harness.optim.nadam import nadam
from harness.optim.prodigy import prodigy
from harness.optim.rmsprop import rmsprop
from harness.optim.sam import gradient_norm_penalty, sam
from harness.optim.shampoo import shampoo
from harness.optim.soap import soap
from harness.optim.sophia import sophia_g

File = dict[str, Any]


def rule(function: Callable[..., Any], *names: str, **options: Any) -> Callable[[File], Any]:
    """Return the maker that calls the function with its rates, the hyperparameters of these names, and decay and mask
    where the file has a decay.
    """

    def make(data: File) -> Any:
        given = {name: data["hyperparameters"][name] for name in names}
        decay = decay_of(data)
        return function(rates(data["lr"]), **given, **(decay if decay["weight_decay"] else {}), **options)

    return make


def warmed_ademamix(data: File) -> optax.GradientTransformation:
    hp = data["hyperparameters"]
    b3, alpha = warmed_b3(hp["b1"], hp["b3"], hp["warmup"]), warmed_alpha(hp["alpha"], hp["warmup"])
    return ademamix(rates(data["lr"]), hp["b1"], hp["b2"], b3, alpha, hp["eps"], **decay_of(data))


def adamw(data: File) -> optax.GradientTransformation:
    return rule(optax.adamw, "b1", "b2", "eps")(data)


def mechanic_adamw(data: File, *, package: bool) -> optax.GradientTransformation:
    hp = data["hyperparameters"]
    return mechanic(adamw(data), hp["betas"], hp["s_init"], hp["s_decay"], hp["mechanic_eps"], package=package)


# ---- what rules are given besides gradients ----


def loss_of(data: File, t: int, state: Any) -> dict[str, Any]:
    return {"value": jnp.asarray(data["losses"][t - 1])}


def momo_like(function: Callable[..., Any], *names: str) -> Callable[[File], Any]:
    def make(data: File) -> Any:
        (group,) = data["param_groups"]
        given = {name: data["hyperparameters"][name] for name in names}
        return function(rates(data["lr"]), **given, weight_decay=group["weight_decay"])

    return make


def sophia(data: File) -> optax.GradientTransformation:
    """Return the rule with arrays in the place of its function; the estimate of t = 16, which the file lacks, is h."""
    inner = rule(sophia_g, "b1", "b2", "gamma", "eps", update_interval=5)(data)

    def update(grads: Any, state: Any, params: Any, estimate: Any) -> Any:
        return inner.update(grads, state, params, estimate=lambda: estimate)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def estimate_of(data: File, t: int, state: Any) -> dict[str, Any]:
    found = data["hessian_estimates"].get(str(t))
    return {"estimate": state.h if found is None else {n: flax(n, v, state.h[n].dtype) for n, v in found.items()}}


class Quartic:
    """The loss of sam_sgd, as `harness.api.Loss`: its gradient at p is `linear` + p / 2 + p^3."""

    def __init__(self, linear: Any):
        self.linear = linear

    def value_and_grad(self, params: Any, model_state: Any, batch: Any, key: Any) -> Any:
        return (jnp.float32(0), model_state), jax.tree.map(lambda g, p: g + p / 2 + p**3, self.linear, params)


def stepped(algorithm: Algorithm) -> optax.GradientTransformation:
    """Return an algorithm of the quartic as a transformation of its linear part."""
    key, zero = jax.random.key(0), jnp.int32(0)

    def update(linear: Any, state: Any, params: Any) -> Any:
        new, _ = algorithm.step(Quartic(linear), TrainState(params, state, {}, zero, zero), {}, key)  # type: ignore[arg-type]
        return optax.tree.sub(new.params, params), new.opt_state

    return optax.GradientTransformation(lambda params: algorithm.init(params, key), update)


def sam_sgd(data: File) -> optax.GradientTransformation:
    hp, decay = data["hyperparameters"], decay_of(data)
    sgd = optax.chain(optax.add_decayed_weights(**decay), optax.sgd(rates(data["lr"]), hp["momentum"]))
    given = {name: hp[name] for name in ("rho", "alpha") if name in hp}
    return stepped((gradient_norm_penalty if "alpha" in hp else sam)(sgd, **given))


def probed_kron(data: File) -> optax.GradientTransformation:
    probes = {name: jnp.asarray([p[name] for p in data["probes"]]) for name in PARAM_INFO}

    def probe(count: jax.Array) -> Any:
        return {name: v[count].T if name.startswith("W_") else v[count] for name, v in probes.items()}

    hp = {name: data["hyperparameters"][name] for name in ("b1", "precond_lr", "precond_init_scale")}
    return kron(rates(data["lr"]), PARAM_INFO, **hp, update_probability=1.0, probe=probe, **decay_of(data))


def with_first_bases(data: File, t: int, state: Any) -> Any:
    """Put the file's bases in the place of those that LAPACK chose in the null spaces of the first statistics."""
    if t > 1:
        return state
    found: dict[str, list[list[np.ndarray]]] = {}
    for name in sorted(data["first_eigenbases"]):
        rows, columns = map(np.array, data["first_eigenbases"][name])
        pair = [columns, rows] if name.startswith("W_") else [rows, columns]  # of the kernel, (in, out)
        found.setdefault(f"{len(pair[0])}x{len(pair[1])}", []).append(pair)
    bases = {
        n: tuple(jnp.asarray(np.stack(q), state.mu[n].dtype) for q in zip(*p, strict=True)) for n, p in found.items()
    }
    assert jax.tree.map(jnp.shape, bases) == {n: tuple(map(jnp.shape, q)) for n, q in state.bases.items() if q}
    return state._replace(bases=state.bases | bases)


ADAM = ("b1", "b2", "eps")
MATRIX = {"param_info": PARAM_INFO}
SOAP = rule(soap, *ADAM, "shampoo_beta", "precondition_frequency", "max_precond_dim", **MATRIX)
SHAMPOO = rule(
    shampoo, *ADAM, "grafting_eps", "precondition_frequency", "start_preconditioning_step", "block_size", **MATRIX
)
D = (("d_after", lambda state, params: state.d),)
SCALE = (("scale_after", lambda state, params: state.s.sum()),)
AVERAGE = (("eval_params_after", dog_eval_params),)


def distance(data: File, **options: Any) -> optax.GradientTransformation:
    hp = data["hyperparameters"]
    return dog(hp["reps_rel"], hp["eps"], **options)


def adaptive(function: Callable[..., Any]) -> Port:
    return Port(rule(function, *ADAM, "d0", "use_bias_correction"), others=D)


PORTS = {
    "adagrad": Port(rule(adagrad, "initial_accumulator", "eps")),
    "adagrad_eps_in_root": Port(rule(adagrad, "initial_accumulator", "eps", eps_in_root=True)),
    "adamp": Port(rule(adamp, *ADAM, "delta", "wd_ratio", **MATRIX)),
    "ademamix": Port(rule(ademamix, *ADAM, "b3", "alpha")),
    "ademamix_warmup": Port(warmed_ademamix),
    "adopt": Port(rule(adopt, *ADAM, "clip")),
    "adopt_unclipped": Port(rule(adopt, *ADAM, "clip")),
    "cautious_adamw": Port(lambda data: cautious(adamw(data))),
    "cocob": Port(lambda data: cocob(**data["hyperparameters"])),
    "dadapt_adam": adaptive(dadapt_adam),
    "dadapt_adam_uncorrected": adaptive(dadapt_adam),
    "diffgrad": Port(rule(diffgrad, *ADAM)),
    "dog": Port(distance, others=AVERAGE),
    "gradient_norm_penalty": Port(sam_sgd),
    "kron": Port(probed_kron),
    "lars": Port(rule(lars, "momentum", "trust_coefficient", "eps")),
    "lars_paper": Port(rule(lars, "momentum", "trust_coefficient", "eps", lr_inside=True)),
    "ldog": Port(partial(distance, layer_wise=True), others=AVERAGE),
    "lion": Port(rule(lion, "b1", "b2")),
    "mars_adamw": Port(rule(mars_adamw, *ADAM, "gamma")),
    "mechanic_adamw": Port(partial(mechanic_adamw, package=False), others=SCALE),
    "mechanic_adamw_package": Port(partial(mechanic_adamw, package=True), others=SCALE),
    "momo": Port(momo_like(momo, "beta", "lb"), loss_of),
    "momo_adam": Port(momo_like(momo_adam, *ADAM, "lb"), loss_of),
    "nadam": Port(rule(nadam, *ADAM, "psi")),
    "prodigy": adaptive(prodigy),
    "prodigy_uncorrected": adaptive(prodigy),
    "rmsprop": Port(rule(rmsprop, "decay", "eps", "momentum")),
    "sam_sgd": Port(sam_sgd),
    "sgdp": Port(rule(sgdp, "momentum", "eps", "delta", "wd_ratio", **MATRIX)),
    "shampoo": Port(SHAMPOO),
    "shampoo_blocks": Port(SHAMPOO),
    "soap": Port(SOAP),
    "soap_two_sided": Port(SOAP, then=with_first_bases),
    "sophia_g": Port(sophia, estimate_of),
}
