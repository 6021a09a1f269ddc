"""Blocks: every entry of every parameter is in one place of one stack, and comes back; layers stay apart."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from harness.api import ParamInfo, ParamKind
from harness.optim.blocks import along, from_blocks, gram, to_blocks
from harness.optim.kron import kron
from harness.optim.layers import map_layers
from harness.optim.shampoo import shampoo
from harness.optim.soap import soap

INFO = {
    "bias": ParamInfo(ParamKind.BIAS, (), (0,)),
    "biases": ParamInfo(ParamKind.BIAS, (), (1,), ((0, "layer"),)),
    "conv": ParamInfo(ParamKind.CONV, (0, 1, 2), (3,)),
    "matrix": ParamInfo(ParamKind.MATRIX, (0,), (1,)),
    "qkv": ParamInfo(ParamKind.MATRIX, (0,), (2,), ((1, "qkv"),)),
}
SHAPES = {"bias": (5,), "biases": (2, 5), "conv": (1, 2, 2, 3), "matrix": (4, 3), "qkv": (4, 3, 3)}


def draw(seed: int = 0):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.standard_normal(shape), jnp.float32) for name, shape in SHAPES.items()}


def test_blocks_of_one_shape_are_one_stack():
    tree = draw()
    blocks = to_blocks(INFO, tree)
    assert jax.tree.map(jnp.shape, blocks) == {"5": (3, 5), "4x3": (1 + 1 + 3, 4, 3)}
    np.testing.assert_array_equal(blocks["5"], jnp.stack([tree["bias"], *tree["biases"]]))
    np.testing.assert_array_equal(blocks["4x3"][0], tree["conv"].reshape(4, 3))
    np.testing.assert_array_equal(blocks["4x3"][2:], jnp.moveaxis(tree["qkv"], 1, 0))


def test_sides_are_cut_and_the_last_piece_is_shorter():
    x = jnp.arange(12.0).reshape(4, 3)
    blocks = to_blocks({"matrix": INFO["matrix"]}, {"matrix": x}, 2)
    assert jax.tree.map(jnp.shape, blocks) == {"2x2": (2, 2, 2), "2x1": (2, 2, 1)}
    np.testing.assert_array_equal(blocks["2x2"], jnp.stack([x[:2, :2], x[2:, :2]]))
    np.testing.assert_array_equal(blocks["2x1"], jnp.stack([x[:2, 2:], x[2:, 2:]]))


@pytest.mark.parametrize("size", [None, 1, 2, 3, 100])
def test_blocks_come_back(size):
    tree = draw()
    back = from_blocks(INFO, to_blocks(INFO, tree, size), tree, size)
    jax.tree.map(np.testing.assert_array_equal, back, tree)


def test_sides():
    x, A, B = jnp.ones((2, 3, 4)), jnp.ones((2, 3, 3)), jnp.ones((2, 4, 4))
    assert [gram(x, 0).shape, gram(x, 1).shape, gram(x[..., 0], 0).shape] == [(2, 3, 3), (2, 4, 4), (2, 3, 3)]
    triangle = jnp.broadcast_to(jnp.triu(jnp.ones((4, 4))), B.shape)
    np.testing.assert_array_equal(along(triangle, x, 1)[0, 0], [4, 3, 2, 1], "X A^T")
    np.testing.assert_array_equal(along(A, x, 0), 3 * x)
    np.testing.assert_array_equal(along(A, x[..., 0], 0), 3 * x[..., 0])


RULES = {
    "soap": lambda info: soap(0.1, info, precondition_frequency=2),
    "shampoo": lambda info: shampoo(0.1, info, precondition_frequency=2),
    "kron": lambda info: kron(0.1, info),
}


@pytest.mark.parametrize("name", ["soap", "shampoo"])
def test_layers_in_one_array_go_as_alone(name):
    """Query, key and value in one kernel move as three kernels do: statistics, norms and bases are of each."""
    whole, parts = draw(), [{"matrix": draw()["qkv"][:, i]} for i in range(3)]
    rule, alone = RULES[name](INFO), RULES[name]({"matrix": INFO["matrix"]})
    state, states = rule.init(whole), [alone.init(p) for p in parts]
    for t in range(4):
        grads = draw(t + 1)
        updates, state = rule.update(grads, state, whole)
        for i, p in enumerate(parts):
            separate, states[i] = alone.update({"matrix": grads["qkv"][:, i]}, states[i], p)
            np.testing.assert_allclose(updates["qkv"][:, i], separate["matrix"], rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_masked_leaves_stay_masked(name):
    params = draw()
    labels = {name: "ours" if name in ("matrix", "bias") else "theirs" for name in params}
    rule = optax.partition({"ours": RULES[name](INFO), "theirs": optax.sgd(1.0)}, labels)
    updates, _ = rule.update(params, rule.init(params), params)
    np.testing.assert_array_equal(updates["conv"], -params["conv"])


def test_axes_of_a_layer():
    tree = draw()
    axes = {}
    map_layers(lambda of, x: axes.setdefault(x.shape, of), INFO, tree)
    assert axes == {(5,): (0,), (2, 5): (1,), (1, 2, 2, 3): (0, 1, 2, 3), (4, 3): (0, 1), (4, 3, 3): (0, 2)}
    map_layers(lambda of, x: axes.update({x.shape: of}), None, tree)
    assert axes[(4, 3, 3)] == (0, 1, 2)


def test_first_bases_of_soap_do_not_hang_on_rounding():
    """A gradient of 24 by 8 leaves a null space of 16 directions, of which every basis is one of eigenvectors."""
    rng = np.random.default_rng(0)
    G = rng.standard_normal((24, 8)).astype(np.float32)
    off = (G * (1 + 2.0**-23 * rng.choice([-1, 1], G.shape))).astype(np.float32)
    rule = soap(0.1, {"matrix": INFO["matrix"]})
    begun = jax.jit(lambda g: rule.update({"matrix": g}, rule.init({"matrix": G}), {"matrix": G})[1])
    Q, other = (begun(jnp.asarray(g)).bases["24x8"][0][0] for g in (G, off))
    np.testing.assert_allclose(Q.T @ Q, np.eye(24), atol=1e-5)
    np.testing.assert_allclose(np.abs(jnp.sum(Q * other, axis=0)), 1, atol=1e-4, err_msg="the same but for the sign")
    values = jnp.sum(Q * ((G @ G.T) @ Q), axis=0)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(G @ G.T)[::-1], atol=1e-3)
