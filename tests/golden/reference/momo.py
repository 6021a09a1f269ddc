"""MoMo and MoMo-Adam: Schaipp et al. (2023), MoMo: Momentum Models for Adaptive Learning Rates, arXiv:2305.07583.

Algorithms 1 (MoMo) and 2 (MoMo-Adam). Both are given the loss of each step at the parameters before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .trees import Grads, Rates, Steps, Tree, dot, zeros


def momo(
    params: Tree, grads: Grads, lr: Rates, *, losses: Sequence[float], weight_decay: float, beta: float, lb: float
) -> Steps:
    """Yield MoMo's steps: averages that start at the first value, as the package has them (no bias correction)."""
    x, d = dict(params), dict(grads[0])
    f_bar, gamma = losses[0], dot(grads[0], params)
    for g, f, rate in zip(grads, losses, lr, strict=True):
        f_bar = beta * f_bar + (1 - beta) * f
        gamma = beta * gamma + (1 - beta) * dot(g, x)
        d = {k: beta * d[k] + (1 - beta) * g[k] for k in x}
        shrink = 1 + rate * weight_decay
        h = shrink * (f_bar - lb) + dot(d, x) - shrink * gamma  # the model at x, above the bound
        tau = min(rate, max(h, 0.0) / dot(d, d))
        x = {k: (x[k] - tau * d[k]) / shrink for k in x}  # decay in proximal form, by the rate and not by tau
        yield {"params_after": dict(x), "step_size_after": float(tau)}


def momo_adam(
    params: Tree,
    grads: Grads,
    lr: Rates,
    *,
    losses: Sequence[float],
    weight_decay: float,
    b1: float,
    b2: float,
    eps: float,
    lb: float,
) -> Steps:
    """Yield MoMo-Adam's steps: averages that start at zero, whose bias rho = 1 - b1^t stays in them."""
    x, d, v = dict(params), zeros(params), zeros(params)
    f_bar = gamma = 0.0
    for t, (g, f, rate) in enumerate(zip(grads, losses, lr, strict=True), 1):
        rho, shrink = 1 - b1**t, 1 + rate * weight_decay
        f_bar = b1 * f_bar + (1 - b1) * f
        gamma = b1 * gamma + (1 - b1) * dot(g, x)
        d = {k: b1 * d[k] + (1 - b1) * g[k] for k in x}
        v = {k: b2 * v[k] + (1 - b2) * g[k] ** 2 for k in x}
        D = {k: np.sqrt(v[k] / (1 - b2**t)) + eps for k in x}
        h = shrink * (f_bar - rho * lb) + dot(d, x) - shrink * gamma
        tau = min(rate / rho, max(h, 0.0) / sum(np.sum(d[k] ** 2 / D[k]) for k in x))
        x = {k: (x[k] - tau * d[k] / D[k]) / shrink for k in x}
        yield {"params_after": dict(x), "step_size_after": float(tau)}
