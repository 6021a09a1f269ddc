"""D-Adapt Adam: Defazio and Mishchenko (2023), Learning-Rate-Free Learning by D-Adaptation, arXiv:2301.07733.

The Adam form, as in dadaptation.DAdaptAdam with decoupled decay.
"""

from __future__ import annotations

import math

import numpy as np

from .trees import Grads, Rates, Steps, Tree, zeros


def dadapt_adam(
    params: Tree,
    grads: Grads,
    lr: Rates,
    *,
    weight_decay: dict[str, float],
    b1: float,
    b2: float,
    eps: float,
    d0: float,
    use_bias_correction: bool,
) -> Steps:
    x, m, v, s = dict(params), zeros(params), zeros(params), zeros(params)
    d, r, root_b2 = d0, 0.0, math.sqrt(b2)
    for t, (g, rate) in enumerate(zip(grads, lr, strict=True), 1):
        gamma = rate * (math.sqrt(1 - b2**t) / (1 - b1**t) if use_bias_correction else 1.0)
        step = d * gamma
        # <g, s> in the norm of the denominators of before: s and v do not hold this gradient yet.
        product = step * sum(np.sum(g[k] * s[k] / (np.sqrt(v[k]) + eps)) for k in x)
        for k in x:
            m[k] = b1 * m[k] + (1 - b1) * step * g[k]  # the rate is inside the average
            v[k] = b2 * v[k] + (1 - b2) * g[k] ** 2
            s[k] = root_b2 * s[k] + (1 - root_b2) * step * g[k]
        r = root_b2 * r + (1 - root_b2) * product
        d_hat = r / ((1 - root_b2) * sum(np.abs(s[k]).sum() for k in s))
        d = max(d, d_hat)
        for k in x:
            x[k] = x[k] * (1 - step * weight_decay[k]) - m[k] / (np.sqrt(v[k]) + eps)
        yield {"params_after": dict(x), "d_after": float(d)}
