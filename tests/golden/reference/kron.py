"""Kron, PSGD with a Kronecker-factored preconditioner: Li (2018), Preconditioned Stochastic Gradient Descent, TNNLS,
arXiv:1512.04202, and Pooladzandi and Li (2024), arXiv:2402.04553 (triangular factors, dQ = E Q); the steps are those of
Walters' Kron. The probe vectors V are given, so are the steps that balance the factors.
"""

from __future__ import annotations

import math

import numpy as np

from .trees import Grads, Rates, Steps, Tree, zeros

DAMPING = math.sqrt(float(np.finfo(np.float32).eps))  # of float32 in all precisions


def apply(factors: list[np.ndarray], array: np.ndarray, transpose: bool = False) -> np.ndarray:
    """Return the array with each dimension multiplied by its factor; a vector stands for a diagonal."""
    for axis, Q in enumerate(factors):
        full = np.diag(Q) if Q.ndim == 1 else Q
        array = np.moveaxis(np.tensordot(full.T if transpose else full, array, axes=(1, axis)), 0, axis)
    return array


def gram(array: np.ndarray, axis: int, diagonal: bool) -> np.ndarray:
    rest = [a for a in range(array.ndim) if a != axis]
    full = np.tensordot(array, array, axes=(rest, rest))
    return np.diag(full).copy() if diagonal else full


def spectral_bound(A: np.ndarray) -> float:
    """Return a lower bound of a symmetric matrix's largest singular value: one step from its longest column."""
    largest = np.abs(A).max()
    A = A / largest
    x = A[:, np.argmax(np.sum(A * A, axis=0))] @ A
    return float(np.linalg.norm(A @ (x / np.linalg.norm(x))) * largest)


def updated(factors: list[np.ndarray], g: np.ndarray, V: np.ndarray, step: float) -> list[np.ndarray]:
    """Return the factors after one step on the pair (V, g + damping V)."""
    g = g + DAMPING * np.abs(g).mean() * V
    A = apply(factors, g)  # A = Q g
    inverses = [1 / Q if Q.ndim == 1 else np.linalg.inv(Q) for Q in factors]
    B = apply(inverses, V, transpose=True)  # B = Q^-T V
    new = []
    for axis, Q in enumerate(factors):
        diagonal = Q.ndim == 1
        a, b = gram(A, axis, diagonal), gram(B, axis, diagonal)
        if diagonal:
            new.append(Q - step * (a - b) * Q / np.abs(a + b).max())
        else:
            new.append(Q - step * np.triu(a - b) / spectral_bound(a + b) @ Q)
    return new


def kron(
    params: Tree,
    grads: Grads,
    lr: Rates,
    *,
    probes: list[Tree],
    balance_steps: list[int],
    weight_decay: dict[str, float],
    b1: float,
    precond_lr: float,
    precond_init_scale: float,
    update_every: int = 1,
) -> Steps:
    x, m = dict(params), zeros(params)
    Q: dict[str, list[np.ndarray]] = {}
    for k, p in x.items():
        scale = precond_init_scale ** (1 / p.ndim)
        # A vector has a diagonal factor (min_ndim_triangular = 2).
        Q[k] = [scale * (np.eye(n, dtype=p.dtype) if p.ndim > 1 else np.ones(n, p.dtype)) for n in p.shape]
    for t, (g, rate) in enumerate(zip(grads, lr, strict=True), 1):
        for k in x:
            m[k] = b1 * m[k] + (1 - b1) * g[k]
            momentum = m[k] / (1 - b1**t)
            if t in balance_steps and x[k].ndim > 1:  # before the update: equal largest entries, the same product
                largest = [float(np.abs(q).max()) for q in Q[k]]
                mean = math.exp(sum(map(math.log, largest)) / len(largest))
                Q[k] = [q * (mean / size) for q, size in zip(Q[k], largest, strict=True)]
            if t % update_every == 0:
                Q[k] = updated(Q[k], momentum, probes[t - 1][k], precond_lr)  # of the momentum, not of the gradient
            u = apply(Q[k], apply(Q[k], momentum), transpose=True)  # P g = Q^T Q g, by the factors just updated
            u = u * min(1.0, 1.1 / (float(np.sqrt(np.mean(u**2))) + 1e-12))  # the step's RMS is at most 1.1
            x[k] = x[k] - rate * (u + weight_decay[k] * x[k])
        yield {"params_after": dict(x)}
