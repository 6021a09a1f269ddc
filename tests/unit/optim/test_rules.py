"""What all rules of harness.optim have in common, on one tree with every kind of parameter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from harness.api import ParamInfo, ParamKind
from harness.errors import SubmissionError
from harness.optim.adagrad import adagrad
from harness.optim.adamp import adamp, sgdp
from harness.optim.apollo import apollo
from harness.optim.cautious import cautious
from harness.optim.dadapt_adam import dadapt_adam
from harness.optim.diffgrad import diffgrad
from harness.optim.dog import dog
from harness.optim.kron import kron
from harness.optim.lamb import lamb
from harness.optim.lars import lars
from harness.optim.mars import mars_adamw
from harness.optim.matrices import by_kind, is_matrix_like
from harness.optim.mechanic import mechanic
from harness.optim.muon import muon
from harness.optim.nadam import nadam
from harness.optim.nadamw import nadamw
from harness.optim.normuon import normuon
from harness.optim.prodigy import prodigy
from harness.optim.schedule_free import schedule_free_adamw, schedule_free_sgd
from harness.optim.shampoo import shampoo
from harness.optim.soap import soap

INFO = {
    "embed": ParamInfo(ParamKind.EMBEDDING, (0,), (1,)),
    "stem": ParamInfo(ParamKind.CONV, (0, 1, 2), (3,)),
    "blocks": [{"up": ParamInfo(ParamKind.MATRIX, (0,), (1,)), "down": ParamInfo(ParamKind.MATRIX, (0,), (1,))}],
    "scan": ParamInfo(ParamKind.MATRIX, (1,), (4,), ((0, "layer"), (2, "qkv"), (3, "head"))),
    "bias": ParamInfo(ParamKind.BIAS, (), (0,)),
}
SHAPES = {
    "embed": (11, 8),
    "stem": (3, 3, 2, 8),
    "blocks": [{"up": (8, 32), "down": (32, 8)}],
    "scan": (2, 8, 3, 2, 4),
    "bias": (11,),
}


def tree(seed: int, dtype: str = "float32") -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.standard_normal(shape), dtype), SHAPES, is_leaf=lambda x: isinstance(x, tuple)
    )


def rate(step: jax.Array) -> jax.Array:
    return 0.01 * (step + 1) / 10


RULES: dict[str, Callable[..., optax.GradientTransformation]] = {
    "nadamw": nadamw,
    "lamb": lamb,
    "lamb by layer": lambda lr: lamb(lr, param_info=INFO, trust_clip=10.0),
    "muon": lambda lr: muon(lr, INFO),
    "muon bfloat16": lambda lr: muon(lr, INFO, ns_dtype=jnp.bfloat16, scale="match_rms", weight_decay=0.1),
    "muon with adamw": lambda lr: by_kind(INFO, muon(lr, INFO), optax.adamw(lr)),
    "normuon": lambda lr: normuon(lr, INFO),
    "normuon with adamw": lambda lr: by_kind(INFO, normuon(lr, INFO, scale="rms", split_heads=True), optax.adamw(lr)),
    "apollo": lambda lr: apollo(lr, INFO, rank=2, update_gap=2),
    "apollo mini": lambda lr: apollo(lr, INFO, rank=1, scale=128.0, scale_type="tensor", update_gap=2),
    "apollo without limiter": lambda lr: apollo(lr, INFO, rank=4, norm_growth=None),
    "schedule_free_adamw": lambda lr: schedule_free_adamw(lr, 3, weight_decay=0.1),
    "schedule_free_sgd": lambda lr: schedule_free_sgd(lr, 3, r=1.0),
    "soap": lambda lr: soap(lr, INFO, precondition_frequency=2, max_precond_dim=20),
    "shampoo": lambda lr: shampoo(lr, INFO, precondition_frequency=2, block_size=16),
    "kron": lambda lr: kron(lr, INFO, max_size_triangular=8, update_probability=0.5),
    "adamp": lambda lr: adamp(lr, delta=3.0, weight_decay=0.1, param_info=INFO),
    "sgdp": lambda lr: sgdp(lr, delta=3.0, weight_decay=0.1),
    "cautious": lambda lr: cautious(optax.adamw(lr), param_info=INFO),
    "mars_adamw": lambda lr: mars_adamw(lr, param_info=INFO),
    "diffgrad": diffgrad,
    "lars": lambda lr: lars(lr, weight_decay=0.1, param_info=INFO),
    "nadam": nadam,
    "prodigy": lambda lr: prodigy(lr, weight_decay=0.1),
    "dadapt_adam": lambda lr: dadapt_adam(lr, weight_decay=0.1),
    "dog": lambda lr: dog(1e-4, learning_rate=lr),
    "ldog": lambda lr: dog(1e-4, learning_rate=lr, layer_wise=True, param_info=INFO),
    "mechanic": lambda lr: mechanic(optax.adamw(lr)),
    "adagrad": adagrad,
}
every_rule = pytest.mark.parametrize("name", RULES)


def kinds_of_arrays(state: Any) -> Any:
    return jax.tree.map(lambda x: (x.shape, x.dtype.name, x.weak_type), state)


@every_rule
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_types_are_stable(name, dtype):
    rule, params = RULES[name](rate), jax.eval_shape(lambda: tree(0, dtype))
    state = jax.eval_shape(rule.init, params)
    updates, after = jax.eval_shape(rule.update, params, state, params)
    assert kinds_of_arrays(updates) == kinds_of_arrays(params)
    assert kinds_of_arrays(after) == kinds_of_arrays(state)


@every_rule
def test_one_program_serves(name):
    """Five steps over a projection's refresh, a warm-up and a schedule: traced once, and nothing changes its type."""
    rule, params = RULES[name](rate), tree(0)
    state = jax.jit(rule.init)(params)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    assert not any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state))
    before, traces = kinds_of_arrays((params, state)), 0

    @jax.jit
    def step(grads, state, params):
        nonlocal traces
        traces += 1
        updates, state = rule.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for t in range(5):
        params, state = step(tree(t % 2 + 1), state, params)
    assert kinds_of_arrays((params, state)) == before
    assert traces == 1
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((params, state)))


@pytest.mark.parametrize("name", ["apollo", "schedule_free_sgd", "muon"])
def test_a_number_and_a_constant_schedule_are_the_same(name):
    params, results = tree(0), []
    for lr in (0.01, lambda step: jnp.float32(0.01)):
        rule = RULES[name](lr)
        results.append(jax.jit(rule.update)(params, rule.init(params), params)[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9), *results)


@pytest.mark.parametrize("name", ["muon", "normuon"])
def test_only_matrix_like_leaves_are_transformed(name):
    rule, params, grads = RULES[name](0.01), tree(0), tree(1)
    updates, _ = rule.update(grads, rule.init(params), params)
    same = jax.tree.map(lambda u, g: bool((u == g).all()), updates, grads)
    assert same == jax.tree.map(lambda info: not is_matrix_like(info), INFO)


@pytest.mark.parametrize("name", ["muon", "normuon", "apollo"])
def test_inside_of_a_partition_as_alone(name):
    """Leaves masked by somebody else stay masked, and the others get what they get without it."""
    rule, params, grads = RULES[name](0.01), tree(0), tree(1)
    labels = jax.tree.map(lambda info: "ours" if is_matrix_like(info) else "theirs", INFO)
    parted = optax.partition({"ours": rule, "theirs": optax.sgd(1.0)}, labels)
    alone, state, parted_state = None, rule.init(params), parted.init(params)
    for _ in range(2):
        alone, state = rule.update(grads, state, params)
        updates, parted_state = parted.update(grads, parted_state, params)
    for info, a, b, g in zip(*map(jax.tree.leaves, (INFO, alone, updates, grads)), strict=True):
        np.testing.assert_allclose(b, a if is_matrix_like(info) else -g, rtol=1e-6)


# ---- state: bytes per parameter (shapes only) ----

SQUARE = {"w": ParamInfo(ParamKind.MATRIX, (0,), (1,))}
D, F = 768, 3072
STATES = {
    "adamw": (optax.adamw(rate), 2 * D * F),
    "nadamw": (nadamw(rate), 2 * D * F),
    "lamb": (lamb(rate), 2 * D * F),
    "muon": (muon(rate, SQUARE), D * F),
    "normuon": (normuon(rate, SQUARE), D * F + F),
    "apollo": (apollo(rate, SQUARE, rank=D // 4), 2 * (D // 4) * F),
    "apollo_mini": (apollo(rate, SQUARE, rank=1, scale=128.0, scale_type="tensor"), 2 * F),
    "schedule_free_adamw": (schedule_free_adamw(rate), 2 * D * F),
    "schedule_free_sgd": (schedule_free_sgd(rate), D * F),
    "soap": (soap(rate, SQUARE), 2 * D * F + 2 * (D * D + F * F)),
    "shampoo": (shampoo(rate, SQUARE, block_size=4096), 2 * D * F + 2 * (D * D + F * F)),
    "kron": (kron(rate, SQUARE), D * F + D * D + F * F),
    "prodigy": (prodigy(rate), 4 * D * F),
}


@pytest.mark.parametrize("name", STATES)
def test_bytes_of_state(name):
    """Of a (768, 3072) kernel; up to five scalars beside it (counts, a seed, sums)."""
    rule, numbers = STATES[name]
    state = jax.eval_shape(rule.init, {"w": jax.ShapeDtypeStruct((D, F), jnp.float32)})
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert 4 * numbers <= size <= 4 * (numbers + 5)


# ---- bad input ----

NO_MATRIX = {"b": ParamInfo(ParamKind.BIAS, (), (0,)), "e": ParamInfo(ParamKind.EMBEDDING, (0,), (1,))}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: muon(0.1, NO_MATRIX), "muon: no parameter is a matrix .*kinds: bias, embedding.*AdamW"),
        (lambda: normuon(0.1, {}), "normuon: no parameter is a matrix .*kinds: none"),
        (lambda: apollo(0.1, NO_MATRIX, rank=1), "apollo: no parameter is a matrix"),
        (lambda: muon(0.1, INFO, scale="shapes"), "muon: scale: unknown value 'shapes'; did you mean 'shape'"),
        (lambda: muon(0.1, INFO, momentum=1.0), "muon: momentum: expected a number of at least 0 and below 1, got 1.0"),
        (lambda: muon(-0.1, INFO), "muon: learning_rate: expected a number of at least 0, got -0.1"),
        (lambda: muon("0.1", INFO), "muon: learning_rate: expected a number"),
        (lambda: muon(math.nan, INFO), "muon: learning_rate: expected a number of at least 0, got nan"),
        (lambda: muon(0.1, INFO, ns_steps=0), "muon: ns_steps: expected a whole number of at least 1, got 0"),
        (lambda: muon(0.1, INFO, ns_coeffs=(1.0, 2.0)), "Newton-Schulz coefficients"),
        (lambda: muon(0.1, INFO, ns_dtype="float99"), "muon: ns_dtype: .*'float99'"),
        (lambda: muon(0.1, INFO, weight_decay=-1.0), "muon: weight_decay"),
        (lambda: normuon(0.1, INFO, scale="shape"), "normuon: scale: unknown value 'shape'.*norm, rms"),
        (lambda: normuon(0.1, INFO, b2=-0.1), "normuon: b2"),
        (lambda: apollo(0.1, INFO, rank=0), "apollo: rank: expected a whole number of at least 1, got 0"),
        (lambda: apollo(0.1, INFO, rank=1.5), "apollo: rank"),
        (lambda: apollo(0.1, INFO, rank=1, scale=0.0), "apollo: scale: expected a number above 0"),
        (lambda: apollo(0.1, INFO, rank=1, scale_type="channels"), "did you mean 'channel'"),
        (lambda: apollo(0.1, INFO, rank=1, update_gap=0), "apollo: update_gap"),
        (lambda: apollo(0.1, INFO, rank=1, norm_growth=0.9), "apollo: norm_growth"),
        (lambda: lamb(0.1, b1=1.5), "lamb: b1"),
        (lambda: lamb(0.1, trust_clip=0.0), "lamb: trust_clip: expected a number above 0"),
        (lambda: schedule_free_adamw(0.1, warmup_steps=-1), "schedule_free_adamw: warmup_steps"),
        (lambda: schedule_free_adamw(0.1, b2=1.0), "schedule_free_adamw: b2"),
        (lambda: schedule_free_sgd(0.1, b1=0.0), "schedule_free_sgd: b1: expected a number above 0 and below 1"),
        (lambda: nadamw(0.1, b1=1.0), "nadamw: b1"),
        (lambda: soap(0.1, INFO, precondition_frequency=0), "soap: precondition_frequency: expected a whole number"),
        (lambda: shampoo(0.1, INFO, block_size=0), "shampoo: block_size"),
        (lambda: kron(0.1, INFO, precond_init_scale=0.0), "kron: precond_init_scale: expected a number above 0"),
        (lambda: prodigy(d0=0.0), "prodigy: d0: expected a number above 0"),
        (lambda: adamp(0.1, delta=-1.0), "adamp: delta"),
        (lambda: prodigy().update({}, prodigy().init({}), None), r"prodigy: update\(\) needs the parameters"),
    ],
)
def test_out_of_range(build, message):
    with pytest.raises(SubmissionError, match=message):
        build()


def test_traced_hyperparameters_are_let_through():
    rule = optax.inject_hyperparams(lambda learning_rate, momentum: muon(learning_rate, INFO, momentum))(0.01, 0.9)
    params, grads = tree(0), tree(1)
    updates, _ = jax.jit(rule.update)(grads, rule.init(params), params)
    expected, _ = muon(0.01, INFO, 0.9).update(grads, muon(0.01, INFO, 0.9).init(params), params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), updates, expected)
