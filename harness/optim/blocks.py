"""Parameters as stacks of blocks, all of one shape in one array: what SOAP, Shampoo and Kron precondition by side.

Shapes: N blocks in a stack, I rows (fan-in), O columns (fan-out); blocks of vectors have rows alone. A side is 0 for
rows or 1 for columns.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp

from harness.api import ParamInfo, PyTree
from harness.optim.matrices import map_with_info, stack_axes, view

Blocks: TypeAlias = dict[str, jax.Array]
"""Stacks by the shape of their blocks: {"64x128": x_NIO, "64": x_NI}."""


def to_blocks(param_info: PyTree, tree: PyTree, size: int | None = None) -> Blocks:
    """Return the blocks of all parameters, those of one shape in one stack.

    A parameter with fan-in and fan-out is a stack of matrices (`harness.optim.matrices.view`), embeddings and output
    layers too; any other is a vector, or one for each index of its stacked axes. Sides longer than `size` are cut at
    its multiples, and the last piece is shorter.
    """
    found: dict[tuple[int, ...], list[jax.Array]] = {}

    def collect(info: ParamInfo, x: jax.Array) -> None:
        pieces = [_stack(info, x)]
        for axis in range(1, pieces[0].ndim):
            pieces = [cut for piece in pieces for cut in _cut(piece, axis, size)]
        for piece in pieces:
            found.setdefault(piece.shape[1:], []).append(piece)

    map_with_info(collect, param_info, tree)
    return {"x".join(map(str, shape)): jnp.concatenate(pieces) for shape, pieces in found.items()}


def from_blocks(param_info: PyTree, blocks: Blocks, like: PyTree, size: int | None = None) -> PyTree:
    """Return the tree of which `to_blocks` makes these blocks: cutting moves entries, so its transpose undoes it."""
    (tree,) = jax.linear_transpose(partial(to_blocks, param_info, size=size), like)(blocks)
    return tree


def sides(x: jax.Array) -> range:
    """Return the sides of the blocks in a stack: rows and columns, or rows alone."""
    return range(x.ndim - 1)


def gram(x: jax.Array, side: int) -> jax.Array:
    """Return X X^T of each block for its rows, X^T X for its columns."""
    x = x if x.ndim == 3 else x[..., None]
    return x.mT @ x if side else x @ x.mT


def along(A: jax.Array, x: jax.Array, side: int) -> jax.Array:
    """Return A X for each block, with a matrix for its rows, or X A^T with one for its columns."""
    if x.ndim == 2:
        return (A @ x[..., None])[..., 0]
    return x @ A.mT if side else A @ x


def block_norm(x: jax.Array) -> jax.Array:
    """Return the norm of each block, with axes of length 1 for its own."""
    return jnp.sqrt(jnp.sum(x * x, axis=tuple(range(1, x.ndim)), keepdims=True))


def _stack(info: ParamInfo, x: jax.Array) -> jax.Array:
    if info.in_axes and info.out_axes:
        return view(info).split(x)
    stack = stack_axes(info)
    rest = tuple(axis for axis in range(x.ndim) if axis not in stack)
    return jnp.transpose(x, stack + rest).reshape(math.prod(x.shape[axis] for axis in stack), -1)


def _cut(x: jax.Array, axis: int, size: int | None) -> list[jax.Array]:
    """Return the stack of all pieces of length `size`, and that of the shorter last ones."""
    n = x.shape[axis]
    if size is None or n <= size:
        return [x]
    whole, last = jnp.split(x, [n - n % size], axis)
    apart = jnp.moveaxis(whole.reshape(*x.shape[:axis], n // size, size, *x.shape[axis + 1 :]), axis, 0)
    pieces = [apart.reshape(-1, *apart.shape[2:])]
    return pieces if n % size == 0 else [*pieces, last]
