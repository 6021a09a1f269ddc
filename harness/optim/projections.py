"""The random low-rank projections of APOLLO.

Shapes: S matrices in a stack, I fan-in, O fan-out, r rank, C = max(I, O) channels. P acts on the smaller side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from harness.api import PyTree
from harness.errors import SubmissionError

Projection: TypeAlias = Callable[[str, jax.Array, tuple[int, ...]], jax.Array]
"""(name of the parameter, number of the refresh, shape) -> P."""


def names_and_places(param_info: PyTree) -> PyTree:
    """Return the tree of (path joined with "/", place in the tree)."""
    paths, structure = jax.tree_util.tree_flatten_with_path(param_info)
    named = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    return jax.tree.unflatten(structure, [(name, place) for place, name in enumerate(named)])


def projected_shape(shape_SIO: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Return the shape of R_SrC."""
    return (shape_SIO[0], rank, max(shape_SIO[1:]))


def projection_shape(shape_SIO: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Return the shape of P: (S, r, I) where there is a channel for each output, else (S, O, r)."""
    S, I, O = shape_SIO
    return (S, rank, I) if channels_are_outputs(shape_SIO) else (S, O, rank)


def channels_are_outputs(shape_SIO: tuple[int, ...]) -> bool:
    """Return whether the fan-out is the larger side; a square matrix has a channel for each output too."""
    return shape_SIO[2] >= shape_SIO[1]


def draw(seed: jax.Array, place: int, refresh: jax.Array, shape: tuple[int, ...], rank: int) -> jax.Array:
    """Return P, float32, with independent entries N(0, 1 / r): the same at every step until the next refresh."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), place), refresh)
    return jax.random.normal(key, shape, jnp.float32) * rank**-0.5


def inject(projection: Projection, name: str, refresh: jax.Array, shape: tuple[int, ...], stacked: bool) -> jax.Array:
    """Return P of this shape (S first) from a caller's function, which is asked without S where nothing is stacked."""
    P = jnp.asarray(projection(name, refresh, shape if stacked else shape[1:]))
    if P.shape not in (shape, shape[1:]):
        raise SubmissionError(
            f"apollo: projection('{name}', ...) must return an array of shape {shape if stacked else shape[1:]}, "
            f"got {P.shape}"
        )
    return jnp.broadcast_to(P if P.ndim == 3 else P[None], shape)


def project(P: jax.Array, g_SIO: jax.Array) -> jax.Array:
    """Return R_SrC."""
    return jnp.einsum(
        "sri,sio->sro" if channels_are_outputs(g_SIO.shape) else "sor,sio->sri", P.astype(g_SIO.dtype), g_SIO
    )
