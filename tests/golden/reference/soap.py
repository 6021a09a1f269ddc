"""SOAP: Vyas et al. (2024), SOAP: Improving and Stabilizing Shampoo using Adam, arXiv:2409.11321, Algorithms 3 and 4.

In the order of the authors' code: the first gradient only starts the statistics and moves nothing; each later step goes
by the bases of the step before and updates them last.
"""

from __future__ import annotations

import math

import numpy as np

from .trees import Grads, Rates, Steps, Tree, zeros

Bases = list[np.ndarray | None]  # one a dimension; None: this dimension is not rotated


def eigenbasis(matrix: np.ndarray) -> np.ndarray:
    """Return the eigenvectors as columns, of the largest eigenvalue first."""
    return np.linalg.eigh(matrix)[1][:, ::-1]


def rotate(array: np.ndarray, bases: Bases, back: bool = False) -> np.ndarray:
    """Return Q_L^T A Q_R, or Q_L A Q_R^T on the way back."""
    for axis, Q in enumerate(bases):
        if Q is not None:
            array = np.moveaxis(np.tensordot(Q, array, axes=(1 if back else 0, axis)), 0, axis)
    return array


def outer(g: np.ndarray, axis: int) -> np.ndarray:
    rest = [a for a in range(g.ndim) if a != axis]
    return np.tensordot(g, g, axes=(rest, rest))


def soap(
    params: Tree,
    grads: Grads,
    lr: Rates,
    *,
    weight_decay: dict[str, float],
    b1: float,
    b2: float,
    shampoo_beta: float,
    eps: float,
    precondition_frequency: int,
    max_precond_dim: int,
    first_eigenbases: dict[str, Bases] | None = None,
) -> Steps:
    """Yield SOAP's steps. `first_eigenbases` stands in for the eigenvectors of the first gradient's statistics: a tall
    gradient leaves a null space there, where any basis is one.
    """
    x, m, v = dict(params), zeros(params), zeros(params)
    # Dimensions that have statistics; a vector has none (precondition_1d is off by default).
    sides = {k: [a for a in range(p.ndim) if p.ndim > 1 and p.shape[a] <= max_precond_dim] for k, p in x.items()}
    L: dict[str, Bases] = {k: [None] * p.ndim for k, p in x.items()}
    Q: dict[str, Bases] = {k: [None] * p.ndim for k, p in x.items()}
    for step, (g, rate) in enumerate(zip(grads, lr, strict=True)):
        for k in x:
            if step == 0:
                for a in sides[k]:
                    L[k][a] = (1 - shampoo_beta) * outer(g[k], a)  # from 0
                    Q[k][a] = first_eigenbases[k][a] if first_eigenbases else eigenbasis(L[k][a])
                continue
            rotated = rotate(g[k], Q[k])  # Alg. 3, line 3
            m[k] = b1 * m[k] + (1 - b1) * g[k]  # kept unrotated, so no change of basis touches it
            v[k] = b2 * v[k] + (1 - b2) * rotated**2  # kept in the basis, and not rotated when that changes
            corrected = rate * math.sqrt(1 - b2**step) / (1 - b1**step)  # step counts from the second gradient
            u = rotate(rotate(m[k], Q[k]) / (np.sqrt(v[k]) + eps), Q[k], back=True)
            x[k] = x[k] - corrected * u
            x[k] = x[k] - rate * weight_decay[k] * x[k]  # decay at the new parameter, by the plain rate
            for a in sides[k]:
                L[k][a] = shampoo_beta * L[k][a] + (1 - shampoo_beta) * outer(g[k], a)
                if step % precondition_frequency == 0:  # Alg. 4: one power iteration, sorted first
                    power = L[k][a] @ Q[k][a]
                    order = np.argsort(-np.sum(Q[k][a] * power, axis=0), kind="stable")
                    v[k] = np.take(v[k], order, axis=a)  # v goes with its eigenvector
                    Q[k][a] = np.linalg.qr(power[:, order])[0]
        yield {"params_after": dict(x)}
