"""The largest eigenvalue of a symmetric matrix that is known by its products with vectors alone.

Lanczos' method with full reorthogonalisation: each new vector of the basis is made orthogonal to all before it, twice,
which is enough (Parlett 1998, The Symmetric Eigenvalue Problem, 6.9 and 13.8). Without it, float32 loses the
orthogonality as soon as an eigenvalue is found, and finds it again.

Shapes: N the size of the matrix, K products.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import eigh_tridiagonal

ENDED = 1e-6
"""A vector that is so much shorter than its image is rounding: the basis spans all that can be reached from it."""


@dataclass(frozen=True)
class Found:
    """What came of it.

    Attributes:
      value: the largest eigenvalue.
      error: the norm of the residual, and no less than float32 rounds: so near to `value` lies an eigenvalue.
    """

    value: float
    error: float


def largest(product: Callable[[jax.Array], jax.Array], start: jax.Array, products: int) -> Found:
    """Return the largest eigenvalue from so many products with vectors float32[N] at most, the first with `start`.

    The basis takes K N floats of the device's memory. Where a product is not finite, neither value nor error is.
    """
    basis_KN = jnp.zeros((min(products, start.size), start.size), jnp.float32)
    vector, diagonal, beside = start / jnp.linalg.norm(start), list[float](), list[float]()
    for k in range(len(basis_KN)):
        image = product(vector)
        basis_KN, along, rest, length = _orthogonal(basis_KN, k, vector, image)
        diagonal.append(float(along))
        beside.append(float(length))
        if not np.isfinite(diagonal[-1]) or beside[-1] <= ENDED * float(jnp.linalg.norm(image)):
            break
        vector = rest / length
    if not np.isfinite([*diagonal, *beside]).all():
        return Found(math.nan, math.nan)
    values, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside[:-1]))
    residual, rounding = beside[-1] * abs(vectors[-1, -1]), np.finfo(np.float32).eps * abs(values).max()
    return Found(float(values[-1]), float(max(residual, rounding)))


@functools.partial(jax.jit, donate_argnums=0)
def _orthogonal(
    basis_KN: jax.Array, k: int, vector: jax.Array, image: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return the basis with `vector` in row k, how far its image goes along it, what of the image is orthogonal to the
    whole basis, and the length of that.
    """
    basis_KN = basis_KN.at[k].set(vector)
    rest = image
    for _ in range(2):
        rest = rest - basis_KN.T @ (basis_KN @ rest)
    return basis_KN, vector @ image, rest, jnp.linalg.norm(rest)
