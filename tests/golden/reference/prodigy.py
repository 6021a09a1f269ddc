"""Prodigy: Mishchenko and Defazio (2023), Prodigy, arXiv:2306.06101, the Adam form, as in prodigyopt.

The paper's d is shared by all parameters. prodigyopt's `d / d0` in numerator and denominator cancels: it is left out.
"""

from __future__ import annotations

import math

import numpy as np

from .trees import Grads, Rates, Steps, Tree, dot, subtract, zeros


def prodigy(
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
    x, x0, m, v, s = dict(params), dict(params), zeros(params), zeros(params), zeros(params)
    d, d_max, r, b3 = d0, d0, 0.0, math.sqrt(b2)
    for t, (g, rate) in enumerate(zip(grads, lr, strict=True), 1):
        gamma = rate * (math.sqrt(1 - b2**t) / (1 - b1**t) if use_bias_correction else 1.0)
        step = d * gamma  # all of this step is by the d of before
        r = b3 * r + d * step * dot(g, subtract(x0, x))  # the numerator, without the paper's (1 - b3): it cancels
        for k in x:
            m[k] = b1 * m[k] + (1 - b1) * d * g[k]
            v[k] = b2 * v[k] + (1 - b2) * (d * g[k]) ** 2
            s[k] = b3 * s[k] + d * step * g[k]
        d_hat = r / sum(np.abs(s[k]).sum() for k in s)
        if d == d0:
            d = max(d, d_hat)  # matters with a bound on growth alone; kept as the authors have it
        d_max = max(d_max, d_hat)
        d = d_max
        for k in x:
            x[k] = x[k] * (1 - step * weight_decay[k])
            x[k] = x[k] - step * m[k] / (np.sqrt(v[k]) + d * eps)  # the old d in front, the new one at eps
        yield {"params_after": dict(x), "d_after": float(d)}
