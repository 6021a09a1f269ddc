"""COCOB: Orabona and Tommasi (2017), Training Deep Networks without Learning Rates, arXiv:1705.07795, Algorithm 2

(COCOB-Backprop).
"""

from __future__ import annotations

import numpy as np

from .trees import Grads, Steps, Tree, zeros


def cocob(params: Tree, grads: Grads, *, alpha: float, eps: float) -> Steps:
    x, x1 = dict(params), dict(params)
    L = {k: np.full_like(v, eps) for k, v in x.items()}
    G, reward, theta = zeros(params), zeros(params), zeros(params)
    for g in grads:
        for k in x:
            L[k] = np.maximum(L[k], np.abs(g[k]))
            G[k] = G[k] + np.abs(g[k])
            reward[k] = np.maximum(reward[k] - (x[k] - x1[k]) * g[k], 0)  # the paper's g is the negative gradient
            theta[k] = theta[k] - g[k]
            fraction = theta[k] / (L[k] * np.maximum(G[k] + L[k], alpha * L[k]))
            x[k] = x1[k] + fraction * (L[k] + reward[k])  # from the first parameters, not from the last
        yield {"params_after": dict(x)}
