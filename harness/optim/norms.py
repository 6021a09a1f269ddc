"""Euclidean norms with float32 sums at least, whatever the arrays' own precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def precise(x: jax.Array) -> jax.Array:
    """Return the array in float32, or as it is where it has more."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def norm(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Return the norm over these axes, which stay as axes of length 1."""
    return jnp.sqrt(jnp.sum(precise(x) ** 2, axis=axes, keepdims=True))
