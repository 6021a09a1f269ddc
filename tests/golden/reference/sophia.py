"""Sophia: Liu et al. (2023), Sophia, arXiv:2305.14342, Algorithm 3; the estimates of the Hessian's diagonal are given.

Sophia-G's are those of Gauss-Newton-Bartlett (Algorithm 2): B g^ g^, where g^ is the mini-batch gradient of the loss at
labels sampled from the model and B the batch size. `hessian_estimates[t]`, for steps t that have one, is that value.
"""

from __future__ import annotations

import numpy as np

from .trees import Grads, Rates, Steps, Tree, zeros


def sophia(
    params: Tree,
    grads: Grads,
    lr: Rates,
    *,
    hessian_estimates: dict[int, Tree],
    weight_decay: dict[str, float],
    b1: float,
    b2: float,
    gamma: float,
    eps: float,
) -> Steps:
    x, m, h = dict(params), zeros(params), zeros(params)
    for t, (g, rate) in enumerate(zip(grads, lr, strict=True), 1):
        for k in x:
            m[k] = b1 * m[k] + (1 - b1) * g[k]  # line 6; no bias correction
            if t in hessian_estimates:  # lines 7 to 9: the first at t = 1, used in the same step
                h[k] = b2 * h[k] + (1 - b2) * hessian_estimates[t][k]
            x[k] = x[k] - rate * weight_decay[k] * x[k]  # line 12
            x[k] = x[k] - rate * np.clip(m[k] / np.maximum(gamma * h[k], eps), -1, 1)  # line 13
        yield {"params_after": dict(x)}
