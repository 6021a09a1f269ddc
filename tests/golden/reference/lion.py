"""Lion: Chen et al. (2023), Symbolic Discovery of Optimization Algorithms, arXiv:2302.06675, Algorithm 2."""

from __future__ import annotations

import numpy as np

from .trees import Grads, Rates, Steps, Tree, zeros


def lion(params: Tree, grads: Grads, lr: Rates, *, weight_decay: dict[str, float], b1: float, b2: float) -> Steps:
    x, m = dict(params), zeros(params)
    for g, rate in zip(grads, lr, strict=True):
        for k in x:
            c = b1 * m[k] + (1 - b1) * g[k]  # Alg. 2: c_t
            x[k] = x[k] - rate * (np.sign(c) + weight_decay[k] * x[k])  # Alg. 2: theta_t, decay at the old parameter
            m[k] = b2 * m[k] + (1 - b2) * g[k]  # Alg. 2: m_t comes last, and by b2
        yield {"params_after": dict(x)}
