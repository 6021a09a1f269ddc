"""Newton-Schulz orthogonalisation, batched: what Muon and NorMuon spend their time on.

Shapes: n rows, m columns, n <= m after transposing; S matrices in a stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from harness.errors import SubmissionError
from harness.optim.norms import norm, precise

Coefficients: TypeAlias = tuple[float, float, float] | Sequence[tuple[float, float, float]]

JORDAN = (3.4445, -4.7750, 2.0315)
"""(a, b, c) with the steepest slope at 0: after five steps all but the smallest singular values lie within 0.68 and
1.13, which is all that Muon needs.
"""

SMALL = 2**20
"""Multiplications in a product X X^T up to which a batch is faster on a CPU too (twice as fast at 16 by 64). Above, one
matrix after the other stays in the cache and its products overlap with the next one's sums: 20% faster at 128 by 512.
"""


def orthogonalize(
    x: jax.Array,
    coeffs: Coefficients = JORDAN,
    steps: int = 5,
    dtype: Any = None,
    eps: float = 1e-7,
    *,
    clamp: bool = False,
) -> jax.Array:
    """Return approximately the nearest semi-orthogonal matrix, U V^T of the singular value decomposition U S V^T.

    With X of n <= m (transposed before and after if it is not), `steps` times:

        X <- X / (||X||_F + eps)        once, in float32 at least; X / max(||X||_F, eps) with `clamp`
        A  = X X^T
        X <- a X + (b A + c A^2) X

    A matrix of zeros stays one, with eps = 0 too. The products have the precision that jax is set to: on a GPU float32
    means TF32 unless `jax.default_matmul_precision` says otherwise.

    Args:
      x: array[..., rows, columns]; each matrix is treated on its own.
      coeffs: (a, b, c), or one such triple for each step.
      steps: number of iterations.
      dtype: of the iterations, such as bfloat16; None for that of `x`, which the result has in any case.
      eps: keeps the norm from 0.
      clamp: the norm is at least `eps` (torch.optim.Muon) instead of having it added (Jordan's code).

    Source: Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks".
    """
    triples = per_step(coeffs, steps)
    rows, columns = x.shape[-2:]
    X = x.mT if rows > columns else x
    length = jnp.maximum(norm(X, (-2, -1)), eps) if clamp else norm(X, (-2, -1)) + eps
    X = (precise(X) / jnp.where(length > 0, length, 1)).astype(dtype or x.dtype)
    for a, b, c in triples:
        A = X @ X.mT
        X = a * X + (b * A + c * (A @ A)) @ X
    return (X.mT if rows > columns else X).astype(x.dtype)


def orthogonalize_all(matrices: Sequence[jax.Array], **options: Any) -> list[jax.Array]:
    """Return the stacks x_SIO orthogonalised by `orthogonalize`, in one batched call for all that share a shape.

    A matrix and its transpose share one: an MLP's two layers, for instance. On a CPU only small matrices are batched.
    """
    groups: dict[Any, list[int]] = {}
    for i, x in enumerate(matrices):
        groups.setdefault((x.dtype, *sorted(x.shape[1:])), []).append(i)
    done: dict[int, jax.Array] = {}
    for (_, n, m), members in groups.items():
        wide = [_wide(matrices[i]) for i in members]
        at_once = partial(_at_once, options)
        if n * n * m <= SMALL:
            results = at_once(*wide)
        else:
            results = jax.lax.platform_dependent(*wide, cpu=partial(_one_by_one, options), default=at_once)
        for i, x in zip(members, results, strict=True):
            done[i] = x if x.shape == matrices[i].shape else x.mT
    return [done[i] for i in range(len(matrices))]


def _wide(x: jax.Array) -> jax.Array:
    return x.mT if x.shape[-2] > x.shape[-1] else x


def _at_once(options: dict[str, Any], *stacks: jax.Array) -> list[jax.Array]:
    whole = orthogonalize(jnp.concatenate(stacks), **options)
    ends = list(accumulate(map(len, stacks)))
    return [whole[end - len(stack) : end] for stack, end in zip(stacks, ends, strict=True)]


def _one_by_one(options: dict[str, Any], *stacks: jax.Array) -> list[jax.Array]:
    return [jnp.stack([orthogonalize(x, **options) for x in stack]) for stack in stacks]


def per_step(coeffs: Coefficients, steps: int) -> list[tuple[float, float, float]]:
    """Return (a, b, c) for each step. Raises SubmissionError for anything but one triple, or one a step."""
    try:
        table = np.asarray(coeffs, np.float64)
    except ValueError:
        table = np.empty(0)
    if table.shape == (3,):
        table = np.broadcast_to(table, (steps, 3))
    if table.shape != (steps, 3):
        raise SubmissionError(
            f"Newton-Schulz coefficients: expected (a, b, c), or {steps} such triples, one a step; got {coeffs!r}"
        )
    return [(float(a), float(b), float(c)) for a, b, c in table]
