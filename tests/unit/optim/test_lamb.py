"""LAMB beside numbers worked by hand. With b1 = b2 = eps = 0 the direction of Adam is the gradient's sign."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.api import ParamInfo, ParamKind
from harness.optim.lamb import lamb

SIGN = {"b1": 0.0, "b2": 0.0, "eps": 0.0}
P, G = jnp.array([3.0, 4.0]), jnp.array([7.0, -0.1])


def first(params, grads, **options):
    rule = lamb(1.0, **(SIGN | options))
    return jax.tree.map(jnp.negative, rule.update(grads, rule.init(params), params)[0])


def test_trust_ratio_by_hand():
    """||p|| = 5, u = (1, -1) + 0.5 p = (2.5, 1), so phi = 5 / sqrt(7.25)."""
    np.testing.assert_allclose(first(P, G, weight_decay=0.5), 5 / 7.25**0.5 * np.array([2.5, 1.0]), rtol=1e-6)


def test_two_steps_by_hand():
    """b1 = 1/2, b2 = 3/4, gradients 2 and 4: m = 2.5, v = 4.75; phi u is as long as p."""
    rule, p = lamb(0.1, b1=0.5, b2=0.75, eps=1.0, weight_decay=0.0), jnp.array([10.0, 0.0])
    state = rule.init(p)
    _, state = rule.update(jnp.array([2.0, 0.0]), state, p)
    updates, _ = rule.update(jnp.array([4.0, 0.0]), state, p)
    np.testing.assert_allclose(updates, [-0.1 * 10.0, 0.0], rtol=1e-6)
    # without adaptation, u itself shows
    rule = lamb(0.1, b1=0.5, b2=0.75, eps=1.0, weight_decay=0.0, mask=False)
    state = rule.init(p)
    _, state = rule.update(jnp.array([2.0, 0.0]), state, p)
    updates, _ = rule.update(jnp.array([4.0, 0.0]), state, p)
    np.testing.assert_allclose(updates[0], -0.1 * (2.5 / 0.75) / ((4.75 / 0.4375) ** 0.5 + 1), rtol=1e-6)


@pytest.mark.parametrize(("clip", "phi"), [(None, 5 / 2**0.5), (1.0, 1.0), (10.0, 5 / 2**0.5)])
def test_trust_clip(clip, phi):
    np.testing.assert_allclose(first(P, G, weight_decay=0.0, trust_clip=clip), phi * np.array([1.0, -1.0]), rtol=1e-6)


def test_ratio_is_one_where_a_norm_is_zero():
    np.testing.assert_allclose(first(jnp.zeros(2), G), [1.0, -1.0])
    np.testing.assert_allclose(first(P, jnp.zeros(2), weight_decay=0.0, eps=1.0), [0.0, 0.0])


def test_mask_governs_decay_and_adaptation():
    p, g = {"w": P, "b": P}, {"w": G, "b": G}
    got = first(p, g, weight_decay=0.5, mask={"w": True, "b": False})
    np.testing.assert_allclose(got["b"], [1.0, -1.0])
    np.testing.assert_allclose(got["w"], first(P, G, weight_decay=0.5))
    by_function = first(p, g, weight_decay=0.5, mask=lambda tree: {"w": True, "b": False})
    jax.tree.map(np.testing.assert_array_equal, by_function, got)


@pytest.mark.parametrize(
    ("kind", "ins", "outs", "stack"),
    [
        (ParamKind.MATRIX, (1,), (3,), ((0, "layer"), (2, "qkv"))),
        (ParamKind.BIAS, (), (1, 3), ((0, "layer"), (2, "expert"))),
    ],
)
def test_one_ratio_for_each_stacked_layer(kind, ins, outs, stack):
    info = {"w": ParamInfo(kind, ins, outs, stack)}
    p, g = (jax.random.normal(jax.random.key(k), (2, 4, 3, 5)) for k in range(2))
    scales = jnp.arange(1.0, 7.0).reshape(2, 1, 3, 1)
    got = first({"w": p * scales}, {"w": g}, param_info=info)["w"]
    for layer in range(2):
        for which in range(3):
            alone = first(p[layer, :, which] * scales[layer, 0, which, 0], g[layer, :, which])
            np.testing.assert_allclose(got[layer, :, which], alone, rtol=1e-5)
    shared = first(p * scales, g)
    assert float(jnp.abs(shared - got).max()) > 0.1


def test_heads_share_a_ratio():
    info = {"w": ParamInfo(ParamKind.MATRIX, (0,), (2,), ((1, "head"),))}
    p, g = (jax.random.normal(jax.random.key(k), (4, 3, 5)) for k in range(2))
    np.testing.assert_allclose(first({"w": p}, {"w": g}, param_info=info)["w"], first(p, g), rtol=1e-6)
