"""Parameters read as matrices, and rules that take some of the leaves only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from harness.api import ParamInfo, ParamKind
from harness.errors import SubmissionError
from harness.optim.matrices import by_kind, for_matrices, from_matrices, to_matrices, view

MATRIX = ParamInfo(ParamKind.MATRIX, (0,), (1,))
CONV = ParamInfo(ParamKind.CONV, (0, 1, 2), (3,))
QKV = ParamInfo(ParamKind.MATRIX, (1,), (4,), ((0, "layer"), (2, "qkv"), (3, "head")))  # (L, D, 3, H, K)
OUT = ParamInfo(ParamKind.MATRIX, (2,), (3,), ((0, "layer"), (1, "head")))  # (L, H, K, D)
EXPERT = ParamInfo(ParamKind.MATRIX, (2,), (1,), ((0, "expert"),))  # (experts, out, in)
BIAS = ParamInfo(ParamKind.BIAS, (), (0,))


def numbered(*shape: int) -> jax.Array:
    return jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape)


def test_a_kernel_is_one_matrix():
    x = numbered(4, 3)
    np.testing.assert_array_equal(view(MATRIX).split(x), x[None])


def test_a_convolution_is_its_flattened_matrix():
    x = numbered(3, 3, 2, 5)
    np.testing.assert_array_equal(view(CONV).split(x), x.reshape(1, 18, 5))


def test_layers_and_qkv_are_apart_and_heads_together():
    x = numbered(2, 6, 3, 4, 5)
    x_SIO = view(QKV).split(x)
    assert x_SIO.shape == (2 * 3, 6, 4 * 5)
    for layer in range(2):
        for which in range(3):
            np.testing.assert_array_equal(x_SIO[3 * layer + which], x[layer, :, which].reshape(6, 20))


def test_a_head_goes_to_its_neighbour():
    assert view(ParamInfo(ParamKind.MATRIX, (0,), (2,), ((1, "head"),))).out_axes == (1, 2)  # (D, H, K)
    assert view(OUT).in_axes == (1, 2)


def test_split_heads():
    x = numbered(2, 6, 3, 4, 5)
    x_SIO = view(QKV, split_heads=True).split(x)
    assert x_SIO.shape == (2 * 3 * 4, 6, 5)
    np.testing.assert_array_equal(x_SIO[(1 * 3 + 2) * 4 + 3], x[1, :, 2, 3])


def test_the_order_of_the_axes_does_not_matter():
    x = numbered(3, 4, 5)
    np.testing.assert_array_equal(view(EXPERT).split(x), x.swapaxes(1, 2))


@pytest.mark.parametrize("split_heads", [False, True])
def test_join_is_the_inverse(split_heads):
    info = {"matrix": MATRIX, "conv": CONV, "qkv": QKV, "out": OUT, "expert": EXPERT}
    tree = {
        "matrix": numbered(4, 3), "conv": numbered(3, 3, 2, 5), "qkv": numbered(2, 6, 3, 4, 5),
        "out": numbered(2, 4, 5, 6), "expert": numbered(3, 4, 5),
    }  # fmt: skip
    matrices = to_matrices(tree, info, split_heads=split_heads)
    assert all(x.ndim == 3 for x in jax.tree.leaves(matrices))
    back = from_matrices(matrices, tree, info, split_heads=split_heads)
    jax.tree.map(np.testing.assert_array_equal, back, tree)


def test_a_matrix_without_fan_in_is_refused():
    with pytest.raises(SubmissionError, match="no fan-in"):
        view(ParamInfo(ParamKind.MATRIX, (), (0,)))


INFO = {"layer": {"kernel": MATRIX, "bias": BIAS}, "conv": CONV, "head": ParamInfo(ParamKind.HEAD, (0,), (1,))}
PARAMS = {
    "layer": {"kernel": numbered(4, 3), "bias": numbered(3)},
    "conv": numbered(2, 2, 1, 3),
    "head": numbered(3, 2),
}


def test_kinds_decide_not_names_or_rank():
    """The head is of rank 2 and goes to the others; the convolution is of rank 4 and does not."""
    rule = by_kind(INFO, optax.sgd(1.0), optax.sgd(100.0))
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    updates, _ = rule.update(grads, rule.init(PARAMS), PARAMS)
    rates = jax.tree.map(lambda u: -float(u.mean()), updates)
    assert rates == {"layer": {"kernel": 1.0, "bias": 100.0}, "conv": 1.0, "head": 100.0}


def test_other_leaves_pass_through():
    rule = for_matrices(INFO, optax.sgd(1.0, momentum=0.9))
    state = rule.init(PARAMS)
    assert sum(x.size for x in jax.tree.leaves(state)) == PARAMS["layer"]["kernel"].size + PARAMS["conv"].size
    updates, _ = rule.update(PARAMS, state, PARAMS)
    np.testing.assert_array_equal(updates["head"], PARAMS["head"])
    np.testing.assert_array_equal(updates["layer"]["bias"], PARAMS["layer"]["bias"])
    np.testing.assert_array_equal(updates["conv"], -PARAMS["conv"])


def test_a_tree_of_another_structure_is_refused():
    with pytest.raises(SubmissionError, match="param_info does not match the parameters"):
        to_matrices({"a": numbered(2, 2)}, {"b": MATRIX})
