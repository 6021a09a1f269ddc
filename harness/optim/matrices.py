"""Parameters as stacks of matrices, by what the model says of their axes: never by name or rank.

Shapes: S matrices in a stack, I fan-in, O fan-out. A flax kernel is (in, out), the transpose of the (out, in) in which
papers and PyTorch write a weight: their rows are our last axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from harness.api import ParamInfo, ParamKind, PyTree
from harness.errors import SubmissionError

MATRIX_LIKE = frozenset({ParamKind.MATRIX, ParamKind.CONV})
"""The kinds to which matrix rules apply; embeddings, output layers, norms and biases go to another rule."""


@dataclass(frozen=True)
class MatrixView:
    """How one array is read as a stack of matrices.

    Attributes:
      stack_axes: axes whose every index is a matrix of its own, in their order in the array.
      in_axes, out_axes: axes flattened into fan-in and fan-out; (height, width, in) of a convolution kernel, for one.
    """

    stack_axes: tuple[int, ...]
    in_axes: tuple[int, ...]
    out_axes: tuple[int, ...]

    def split(self, x: jax.Array) -> jax.Array:
        """Return the array as x_SIO, S = 1 where nothing is stacked."""
        rows, columns = (math.prod(x.shape[axis] for axis in axes) for axes in (self.in_axes, self.out_axes))
        return jnp.transpose(x, self._order).reshape(-1, rows, columns)

    def join(self, x_SIO: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Return the array of this shape that `split` splits into x_SIO."""
        inverse = sorted(range(len(shape)), key=self._order.__getitem__)
        return jnp.transpose(x_SIO.reshape([shape[axis] for axis in self._order]), inverse)

    @property
    def _order(self) -> tuple[int, ...]:
        return self.stack_axes + self.in_axes + self.out_axes


def view(info: ParamInfo, *, split_heads: bool = False) -> MatrixView:
    """Return how a parameter is read as matrices: one for each index of its layer, qkv and expert axes.

    A head axis is merged into the nearest fan axis (the one after it, of two equally near): that of (D, heads, width)
    into the fan-out, that of (heads, width, D) into the fan-in. With `split_heads` every head is a matrix of its own.
    Raises SubmissionError for a parameter without fan-in or fan-out.
    """
    stack = stack_axes(info, split_heads=split_heads)
    fans = {axis: "in" for axis in info.in_axes} | {axis: "out" for axis in info.out_axes}
    if not info.in_axes or not info.out_axes:
        raise SubmissionError(
            f"a parameter of kind {info.kind} has no fan-in or no fan-out ({info}): it is not a matrix; "
            "give it another kind, or another update rule"
        )
    merged = {"in": list(info.in_axes), "out": list(info.out_axes)}
    for head, _ in info.stack_axes:
        if head not in stack:
            nearest = min(fans, key=lambda axis, head=head: (abs(axis - head), axis < head))  # type: ignore[misc]
            merged[fans[nearest]].append(head)
    return MatrixView(stack, tuple(sorted(merged["in"])), tuple(sorted(merged["out"])))


def stack_axes(info: ParamInfo, *, split_heads: bool = False) -> tuple[int, ...]:
    """Return the axes along which independent parameters are stacked: those of layers, qkv and experts, not heads."""
    return tuple(sorted(axis for axis, name in info.stack_axes if split_heads or name != "head"))


def is_matrix_like(info: Any) -> bool:
    """Return whether a leaf of a `param_info` tree is a matrix or a convolution kernel."""
    return isinstance(info, ParamInfo) and info.kind in MATRIX_LIKE


def expect_matrices(rule: str, param_info: PyTree) -> None:
    """Raise SubmissionError unless the tree has a matrix-like parameter and each of them has its two fans."""
    found = [info for info in jax.tree.leaves(param_info) if is_matrix_like(info)]
    if not found:
        kinds = sorted({str(getattr(info, "kind", info)) for info in jax.tree.leaves(param_info)})
        raise SubmissionError(
            f"{rule}: no parameter is a matrix or a convolution kernel (kinds: {', '.join(kinds) or 'none'}); "
            "use a rule that takes every parameter, such as AdamW"
        )
    for info in found:
        view(info)


def for_matrices(param_info: PyTree, inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return `inner` for the matrix-like leaves; the updates of all others pass through untouched, as in
    `optax.masked`, so that another rule can be chained behind, and leaves masked by `optax.partition` stay masked.
    """
    return optax.masked(inner, jax.tree.map(is_matrix_like, param_info))


def by_kind(
    param_info: PyTree, matrices: optax.GradientTransformation, others: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Return the transform that hands matrices and convolution kernels to one rule, all other parameters to the other.

    Jordan et al. (2024): Muon is for hidden matrices; embeddings, the output layer, gains and biases go to AdamW.
    """
    labels = jax.tree.map(lambda info: "matrices" if is_matrix_like(info) else "others", param_info)
    return optax.partition({"matrices": matrices, "others": others}, labels)


def map_with_info(function: Callable[..., Any], param_info: PyTree, tree: PyTree, *rest: PyTree) -> PyTree:
    """Return the tree of function(info, leaf, *leaves of rest). Masked leaves stay as they are.

    Raises SubmissionError where `param_info` has another structure.
    """

    def is_masked(node: Any) -> bool:
        return isinstance(node, optax.MaskedNode)

    def call(leaf: Any, info: Any, *others: Any) -> Any:
        return leaf if is_masked(leaf) else function(info, leaf, *others)

    try:
        return jax.tree.map(call, tree, param_info, *rest, is_leaf=is_masked)
    except ValueError as error:
        raise SubmissionError(f"param_info does not match the parameters: {error}") from error


def to_matrices(tree: PyTree, param_info: PyTree, *, split_heads: bool = False) -> PyTree:
    """Return the tree with each array as a stack of matrices x_SIO."""
    return map_with_info(lambda info, x: view(info, split_heads=split_heads).split(x), param_info, tree)


def from_matrices(matrices: PyTree, like: PyTree, param_info: PyTree, *, split_heads: bool = False) -> PyTree:
    """Return the inverse of `to_matrices`: arrays of the shapes of `like`."""
    return map_with_info(
        lambda info, x, x_SIO: view(info, split_heads=split_heads).join(x_SIO, x.shape), param_info, like, matrices
    )
