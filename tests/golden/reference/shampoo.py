"""Shampoo: Gupta, Koren, Singer (2018), arXiv:1802.09568, Algorithm 1, with grafting to Adam as in AlgoPerf's winning
submission: Shi et al. (2023), Distributed Shampoo, arXiv:2309.06497.

Each block is a tensor of its own: own statistics, own norm for the grafting. Small dimensions are not merged here.
"""

from __future__ import annotations

import numpy as np

from .soap import outer
from .trees import Grads, Rates, Steps, Tree


def blocks(shape: tuple[int, ...], size: int) -> list[tuple[slice, ...]]:
    """Return the slices that cut each dimension into pieces of `size`; the last may be shorter."""
    cuts: list[tuple[slice, ...]] = [()]
    for n in shape:
        cuts = [(*c, slice(i, min(i + size, n))) for c in cuts for i in range(0, n, size)]
    return cuts


def inverse_root(matrix: np.ndarray, root: int, eps: float) -> np.ndarray:
    """Return (A + eps I)^(-1/root), negative eigenvalues lifted to zero first."""
    values, vectors = np.linalg.eigh(matrix)
    values = values - min(values.min(), 0) + eps
    return (vectors * values ** (-1 / root)) @ vectors.T


def shampoo(
    params: Tree,
    grads: Grads,
    lr: Rates,
    *,
    weight_decay: dict[str, float],
    b1: float,
    b2: float,
    eps: float,
    grafting_eps: float,
    precondition_frequency: int,
    start_preconditioning_step: int,
    block_size: int,
) -> Steps:
    x = {k: p.copy() for k, p in params.items()}
    state: dict[tuple[str, int], dict] = {}
    for t, (g, rate) in enumerate(zip(grads, lr, strict=True), 1):
        for k in x:
            for i, cut in enumerate(blocks(x[k].shape, block_size)):
                p, gb = x[k][cut], g[k][cut]
                s = state.setdefault(
                    (k, i), {"m": 0 * gb, "v": 0 * gb, "L": [0 * outer(gb, a) for a in range(gb.ndim)]}
                )
                s["L"] = [b2 * L + (1 - b2) * outer(gb, a) for a, L in enumerate(s["L"])]
                s["v"] = b2 * s["v"] + (1 - b2) * gb**2  # Adam's, for the grafting
                refresh = t % precondition_frequency == 0 and t > start_preconditioning_step
                if refresh or t == start_preconditioning_step:  # this step's gradient is in it already
                    root = 2 * gb.ndim  # -1/4 on each side of a matrix; -1/2 for a vector
                    s["P"] = [inverse_root(L / (1 - b2**t), root, eps) for L in s["L"]]
                s["m"] = b1 * s["m"] + (1 - b1) * gb
                m = s["m"] / (1 - b1**t)
                u = m / (np.sqrt(s["v"] / (1 - b2**t)) + grafting_eps)  # the Adam step: alone until the start
                if t >= start_preconditioning_step:
                    size, u = np.linalg.norm(u), m
                    for a, P in enumerate(s["P"]):
                        u = np.moveaxis(np.tensordot(P, u, axes=(1, a)), 0, a)
                    u = u * (size / (np.linalg.norm(u) + 1e-16))  # Shampoo's direction, Adam's length
                x[k][cut] = p - rate * (u + weight_decay[k] * p)
        yield {"params_after": {k: p.copy() for k, p in x.items()}}
