"""APOLLO beside numbers worked by hand, its projections, its limiter, and its stacks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.api import ParamInfo, ParamKind
from harness.errors import SubmissionError
from harness.optim.apollo import apollo

MATRIX = ParamInfo(ParamKind.MATRIX, (0,), (1,))
BIAS = ParamInfo(ParamKind.BIAS, (), (0,))
# The bias corrections cancel at t = 1: sqrt(1 - 3/4) / (1 - 1/2) = 1.
HAND = {"rank": 1, "b1": 0.5, "b2": 0.75, "eps": 0.0}


def fixed(*matrices):
    """Return a projection function that hands these matrices out, one a refresh, as they are."""
    table = jnp.asarray(matrices)
    return lambda name, refresh, shape: table[refresh].reshape(shape)


def run(rule, params, *gradients):
    """Return the updates of each step, the parameters held fixed, and the last state."""
    state, all_updates = rule.init(params), []
    for grads in gradients:
        updates, state = rule.update(grads, state, params)
        all_updates.append(updates)
    return all_updates, state


def first(grads, info, **options):
    rule = apollo(1.0, info, **options)
    return jax.tree.map(jnp.negative, rule.update(grads, rule.init(grads), jax.tree.map(jnp.zeros_like, grads))[0])


def draw(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("shape", [(1, 2), (2, 1)])
def test_channel_by_hand(shape):
    """G = (3, 4), P = 2: R = (6, 8), m = v^(1/2) = R / 2, Rt = (1, 1), s = (1/6, 1/8), U = (1/2, 1/2); then decay."""
    w, g = {"w": jnp.full(shape, 8.0)}, {"w": jnp.array([3.0, 4.0]).reshape(shape)}
    rule = apollo(0.1, {"w": MATRIX}, scale=4.0, projection=fixed([[2.0]]), weight_decay=0.01, **HAND)
    (updates,), _ = run(rule, w, g)
    left = 8 - 0.1 * 2 * 0.5  # sqrt(scale) = 2
    np.testing.assert_allclose(updates["w"], np.full(shape, left - 0.1 * 0.01 * left - 8), rtol=1e-5)


def test_tensor_by_hand():
    """As above, but s = ||(1, 1)|| / ||(6, 8)|| = sqrt(2) / 10 for the whole matrix."""
    got = first({"w": jnp.array([[3.0, 4.0]])}, {"w": MATRIX}, scale_type="tensor", projection=fixed([[2.0]]), **HAND)
    np.testing.assert_allclose(got["w"], [[3 * 2**0.5 / 10, 4 * 2**0.5 / 10]], rtol=1e-6)


def test_second_step_keeps_moments_and_corrects_the_bias():
    """b1 = 1/2, b2 = 3/4, P = 1, gradients 2 and 4: m = 2.5, v = 4.75, U = Rt, times sqrt(1 - 9/16) / (1 - 1/4)."""
    rule = apollo(1.0, {"w": MATRIX}, projection=fixed([[1.0]]), norm_growth=None, **HAND)
    updates, _ = run(rule, {"w": jnp.zeros((1, 1))}, {"w": jnp.array([[2.0]])}, {"w": jnp.array([[4.0]])})
    np.testing.assert_allclose(updates[1]["w"], -(2.5 / 4.75**0.5) * (7 / 16) ** 0.5 / 0.75, rtol=1e-6)


def test_square_matrices_have_a_channel_for_each_output():
    """The projection acts on the inputs: P is (r, in), and R = P G has one column for each output."""
    g, P = draw(3, 3), draw(2, 3, seed=1)
    shapes = []

    def projection(name, refresh, shape):
        shapes.append((name, shape))
        return P

    got = first({"a": {"w": g}}, {"a": {"w": MATRIX}}, rank=2, b1=0.0, b2=0.0, eps=0.0, projection=projection)["a"]["w"]
    assert set(shapes) == {("a/w", (2, 3))}
    # Rt is the sign of R: sqrt(2) long in each channel
    np.testing.assert_allclose(got, g * 2**0.5 / jnp.linalg.norm(P @ g, axis=0)[None], rtol=1e-5)


def test_wide_in_the_papers_sense():
    """Three inputs, two outputs: P is (out, r), R = G P, one channel for each input."""
    g, P = draw(3, 2), draw(2, 1, seed=1)
    options = {"rank": 1, "b1": 0.0, "b2": 0.0, "eps": 0.0, "projection": lambda name, refresh, shape: P.reshape(shape)}
    got = first({"w": g}, {"w": MATRIX}, **options)["w"]
    np.testing.assert_allclose(got, g / jnp.abs(g @ P), rtol=1e-5)


def test_limiter_by_hand():
    """P = 2, then 1: with b1 = b2 = 0, U = 1/2, then 1, which is more than 1.01 times as long: U = 1.01 / 2."""
    rule = apollo(1.0, {"w": MATRIX}, rank=1, b1=0.0, b2=0.0, eps=0.0, update_gap=1, projection=fixed([[2.0]], [[1.0]]))
    updates, state = run(rule, {"w": jnp.zeros((1, 1))}, {"w": jnp.array([[3.0]])}, {"w": jnp.array([[5.0]])})
    np.testing.assert_allclose([float(u["w"][0, 0]) for u in updates], [-0.5, -0.505], rtol=1e-5)
    np.testing.assert_allclose(state.length["w"], [0.505], rtol=1e-5)
    free = apollo(
        1.0, {"w": MATRIX}, rank=1, b1=0.0, b2=0.0, eps=0.0, update_gap=1, projection=fixed([[2.0]], [[1.0]]),
        norm_growth=None,
    )  # fmt: skip
    updates, state = run(free, {"w": jnp.zeros((1, 1))}, {"w": jnp.array([[3.0]])}, {"w": jnp.array([[5.0]])})
    np.testing.assert_allclose(float(updates[1]["w"][0, 0]), -1.0, rtol=1e-5)
    assert not jax.tree.leaves(state.length)


def test_length_is_before_scale_and_rate():
    rule = apollo(0.01, {"w": MATRIX}, scale=100.0, scale_type="tensor", projection=fixed([[2.0]]), **HAND)
    _, state = run(rule, {"w": jnp.zeros((1, 2))}, {"w": jnp.array([[3.0, 4.0]])})
    np.testing.assert_allclose(state.length["w"], [2**0.5 / 2], rtol=1e-6)


def test_a_zero_first_gradient_does_not_hold_the_matrix():
    rule = apollo(1.0, {"w": MATRIX}, projection=fixed([[1.0]]), **HAND)
    updates, _ = run(rule, {"w": jnp.zeros((1, 1))}, {"w": jnp.zeros((1, 1))}, {"w": jnp.ones((1, 1))})
    assert float(jnp.abs(updates[1]["w"]).max()) > 0.1


def test_other_parameters_take_the_adam_of_the_same_code():
    """eps is added to sqrt(v), not to sqrt(v / (1 - b2^t)): it acts as eps / sqrt(1 - b2^t)."""
    rule = apollo(0.1, {"w": MATRIX, "b": BIAS}, rank=1, scale=100.0, b1=0.5, b2=0.75, eps=1.0, weight_decay=0.01)
    params, grads = {"w": jnp.zeros((2, 3)), "b": jnp.array([8.0])}, {"w": jnp.ones((2, 3)), "b": jnp.array([2.0])}
    (updates,), _ = run(rule, params, grads)
    left = 8 - 0.1 * 1 / (1 + 1)  # m = sqrt(v) = 1
    np.testing.assert_allclose(updates["b"], [left - 0.1 * 0.01 * left - 8], rtol=1e-5)


@pytest.mark.parametrize("mask", [{"w": True, "b": False}, lambda params: {"w": True, "b": False}])
def test_mask_governs_decay(mask):
    rule = apollo(0.1, {"w": MATRIX, "b": BIAS}, rank=1, weight_decay=0.01, mask=mask)
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    (updates,), _ = run(rule, params, jax.tree.map(jnp.zeros_like, params))
    np.testing.assert_allclose(updates["w"], -0.001, rtol=1e-5)
    np.testing.assert_array_equal(updates["b"], 0)


@pytest.mark.parametrize("scale_type", ["channel", "tensor"])
def test_stacked_layers_are_separate_matrices(scale_type):
    info = ParamInfo(ParamKind.MATRIX, (1,), (3,), ((0, "layer"), (2, "qkv")))
    g, P = draw(2, 6, 3, 8), draw(6, 2, 6, seed=1)  # S, r, in
    options = {"rank": 2, "scale_type": scale_type}

    def second(grads, info, projection):
        rule = apollo(1.0, info, projection=projection, **options)
        zeros = jax.tree.map(jnp.zeros_like, grads)
        return run(rule, zeros, grads, jax.tree.map(lambda g: 2 * g, grads))[0][1]

    got = second({"w": g}, {"w": info}, lambda name, refresh, shape: P.reshape(shape))["w"]
    for layer in range(2):
        for which in range(3):
            one = P[3 * layer + which]
            alone = second({"w": g[layer, :, which]}, {"w": MATRIX}, lambda n, r, shape, one=one: one.reshape(shape))
            np.testing.assert_allclose(got[layer, :, which], alone["w"], rtol=1e-4)


def test_a_convolution_is_its_flattened_matrix():
    g, P = draw(3, 3, 2, 5), draw(5, 2, seed=1)  # 18 inputs, 5 outputs
    options = {"rank": 2, "projection": lambda name, refresh, shape: P.reshape(shape)}
    conv = first({"w": g}, {"w": ParamInfo(ParamKind.CONV, (0, 1, 2), (3,))}, **options)["w"]
    flat = first({"w": g.reshape(18, 5)}, {"w": MATRIX}, **options)["w"]
    np.testing.assert_allclose(conv.reshape(18, 5), flat, rtol=1e-5)


def drawn(rule, grads, steps):
    """Return R of each step (b1 = 0, so it is m)."""
    state, seen = rule.init(grads), []
    update = jax.jit(rule.update)
    for _ in range(steps):
        _, state = update(grads, state, grads)
        seen.append(jax.tree.map(np.asarray, state.mu))
    return seen


def test_projections_are_drawn_anew_at_each_refresh_only():
    grads = {"a": draw(6, 8), "b": draw(6, 8)}
    R = drawn(apollo(1.0, {"a": MATRIX, "b": MATRIX}, rank=2, b1=0.0, update_gap=3), grads, 7)
    same = [bool(np.array_equal(R[t]["a"], R[t + 1]["a"])) for t in range(6)]
    assert same == [True, True, False, True, True, False]
    assert not np.array_equal(R[0]["a"] / R[0]["b"], np.ones((1, 2, 8))), "a projection for each parameter"


def test_projections_depend_on_the_seed_in_the_state():
    rule, grads = apollo(1.0, {"a": MATRIX}, rank=2, b1=0.0), {"a": draw(6, 8)}
    one = rule.init(grads)
    moments = [rule.update(grads, one._replace(seed=jnp.uint32(s)), grads)[1].mu["a"] for s in (0, 0, 1)]
    np.testing.assert_array_equal(moments[0], moments[1])
    assert float(jnp.abs(moments[0] - moments[2]).max()) > 0.01


def test_entries_are_normal_with_variance_one_over_rank():
    """R of the identity is P."""
    rule, grads = apollo(1.0, {"a": MATRIX}, rank=16, b1=0.0), {"a": jnp.eye(400)}
    _, state = rule.update(grads, rule.init(grads), grads)
    P = np.asarray(state.mu["a"])
    assert P.shape == (1, 16, 400)
    assert float(P.mean()) == pytest.approx(0, abs=4 * (1 / 16 / P.size) ** 0.5)
    assert float(P.var()) == pytest.approx(1 / 16, rel=4 * (2 / P.size) ** 0.5)


def test_injected_projection_of_the_wrong_shape():
    rule = apollo(1.0, {"w": MATRIX}, rank=2, projection=lambda name, refresh, shape: jnp.ones((3, 3)))
    with pytest.raises(SubmissionError, match=r"projection\('w', ...\) must return an array of shape \(2, 4\)"):
        rule.update({"w": jnp.ones((4, 5))}, rule.init({"w": jnp.ones((4, 5))}), {"w": jnp.ones((4, 5))})
