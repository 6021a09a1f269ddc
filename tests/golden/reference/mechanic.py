"""Mechanic: Cutkosky, Defazio, Mehta (2023), Mechanic: A Learning Rate Tuner, arXiv:2306.00144, Algorithm 1.

Round AdamW. `decay_at` says where the term of lambda looks: at x_t as in the paper, or at x_t + u_t as in the authors'
package, whose base optimizer has moved the parameters by then. `first_max` is m_0: 0 in the paper, 1e-6 in the package.
"""

from __future__ import annotations

import math

import numpy as np

from .trees import Grads, Rates, Steps, Tree, dot, norm, zeros


def mechanic_adamw(
    params: Tree,
    grads: Grads,
    lr: Rates,
    *,
    weight_decay: dict[str, float],
    b1: float,
    b2: float,
    eps: float,
    betas: tuple[float, ...],
    s_init: float,
    s_decay: float,
    mechanic_eps: float,
    first_max: float,
    decay_at: str,
) -> Steps:
    x, ref, delta = dict(params), dict(params), zeros(params)
    m, v = zeros(params), zeros(params)
    beta, n = np.array(betas), len(betas)
    s, variance, reward, largest = np.zeros(n), np.zeros(n), np.zeros(n), np.full(n, first_max)
    for t, (g, rate) in enumerate(zip(grads, lr, strict=True), 1):
        u = {}
        for k in x:  # the base optimizer's update at x_t, with its schedule and its decay
            m[k] = b1 * m[k] + (1 - b1) * g[k]
            v[k] = b2 * v[k] + (1 - b2) * g[k] ** 2
            direction = m[k] / (1 - b1**t) / (np.sqrt(v[k]) / math.sqrt(1 - b2**t) + eps)
            u[k] = -rate * (direction + weight_decay[k] * x[k])
        at = {k: x[k] + u[k] for k in x} if decay_at == "after_base" else x
        lam = s_decay * float(s.sum() * norm(g) / (norm(at) + mechanic_eps))
        h = float(dot(delta, g) + lam * dot(delta, at))  # h_t = <Delta_t, g_t + lambda (sum s) |g| x / |x|>
        delta = {k: delta[k] + u[k] for k in x}  # Delta_{t+1}: after h_t
        largest = np.maximum(beta * largest, abs(h))  # m_t
        variance = beta**2 * variance + h**2  # v_t
        reward = np.maximum(beta * reward - s * h, 0)  # r_t: h is the descent direction's, hence the minus
        wealth = s_init / n * largest + reward  # W_t
        s = wealth / (np.sqrt(variance) + mechanic_eps)
        scale = float(s.sum())
        x = {k: ref[k] + scale * delta[k] for k in x}  # x_{t+1}
        yield {"params_after": dict(x), "scale_after": scale}
