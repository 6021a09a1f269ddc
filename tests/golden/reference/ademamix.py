"""AdEMAMix: Pagliardini, Ablin, Grangier (2024), The AdEMAMix Optimizer, arXiv:2409.03137, Algorithm 1."""

from __future__ import annotations

import math

import numpy as np

from .trees import Grads, Rates, Steps, Tree, zeros


def alpha_at(t: int, alpha: float, warmup: int | None) -> float:
    """Return alpha of step t = 1, 2, ...: linear from 0, alpha from step `warmup` on (f_alpha)."""
    return alpha if warmup is None else min(t * alpha / warmup, alpha)


def b3_at(t: int, b1: float, b3: float, warmup: int | None) -> float:
    """Return b3 of step t: from b1 to b3, linear in the half-life (f_beta3)."""
    if warmup is None or t >= warmup:
        return b3
    done = t / warmup
    return min(math.exp(math.log(b1) * math.log(b3) / ((1 - done) * math.log(b3) + done * math.log(b1))), b3)


def ademamix(
    params: Tree,
    grads: Grads,
    lr: Rates,
    *,
    weight_decay: dict[str, float],
    b1: float,
    b2: float,
    b3: float,
    alpha: float,
    eps: float,
    warmup: int | None = None,
) -> Steps:
    x, m1, m2, nu = dict(params), zeros(params), zeros(params), zeros(params)
    for t, (g, rate) in enumerate(zip(grads, lr, strict=True), 1):
        a, slow = alpha_at(t, alpha, warmup), b3_at(t, b1, b3, warmup)
        for k in x:
            m1[k] = b1 * m1[k] + (1 - b1) * g[k]
            m2[k] = slow * m2[k] + (1 - slow) * g[k]
            nu[k] = b2 * nu[k] + (1 - b2) * g[k] ** 2
            m1_hat, nu_hat = m1[k] / (1 - b1**t), nu[k] / (1 - b2**t)  # the slow average has no correction
            x[k] = x[k] - rate * ((m1_hat + a * m2[k]) / (np.sqrt(nu_hat) + eps) + weight_decay[k] * x[k])
        yield {"params_after": dict(x)}
