"""MARS-AdamW: Yuan et al. (2024), MARS, arXiv:2411.10438, Algorithm 2 in its approximate form (the authors' default).

The approximate form takes the last step's gradient where the exact one evaluates the new batch at the old parameters.
"""

from __future__ import annotations

import numpy as np

from .trees import Grads, Rates, Steps, Tree, zeros


def mars_adamw(
    params: Tree,
    grads: Grads,
    lr: Rates,
    *,
    weight_decay: dict[str, float],
    b1: float,
    b2: float,
    eps: float,
    gamma: float,
) -> Steps:
    x, m, v, last = dict(params), zeros(params), zeros(params), zeros(params)
    for t, (g, rate) in enumerate(zip(grads, lr, strict=True), 1):
        for k in x:
            c = g[k] + gamma * b1 / (1 - b1) * (g[k] - last[k])  # c_t; the gradient before the first is 0
            c = c / max(float(np.linalg.norm(c)), 1.0)  # c~_t: norm at most 1, each tensor by itself
            m[k] = b1 * m[k] + (1 - b1) * c
            v[k] = b2 * v[k] + (1 - b2) * c**2
            m_hat, v_hat = m[k] / (1 - b1**t), v[k] / (1 - b2**t)
            x[k] = x[k] - rate * (m_hat / (np.sqrt(v_hat) + eps) + weight_decay[k] * x[k])
            last[k] = g[k]  # the gradient, not c
        yield {"params_after": dict(x)}
