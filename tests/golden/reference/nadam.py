"""NAdam: Dozat (2016), Incorporating Nesterov Momentum into Adam (ICLR workshop), with the schedule

mu_t = b1 (1 - 0.96^(t psi) / 2), psi = 0.004, and decoupled decay, as torch.optim.NAdam has them.
"""

from __future__ import annotations

import numpy as np

from .trees import Grads, Rates, Steps, Tree, zeros


def nadam(
    params: Tree,
    grads: Grads,
    lr: Rates,
    *,
    weight_decay: dict[str, float],
    b1: float,
    b2: float,
    eps: float,
    psi: float,
) -> Steps:
    x, m, n = dict(params), zeros(params), zeros(params)
    product = 1.0  # mu_1 mu_2 ... mu_t
    for t, (g, rate) in enumerate(zip(grads, lr, strict=True), 1):
        mu, mu_next = (b1 * (1 - 0.5 * 0.96 ** (s * psi)) for s in (t, t + 1))
        product *= mu
        for k in x:
            m[k] = b1 * m[k] + (1 - b1) * g[k]  # torch and Dozat's note average by b1, not by mu_t
            n[k] = b2 * n[k] + (1 - b2) * g[k] ** 2
            m_bar = (1 - mu) * g[k] / (1 - product) + mu_next * m[k] / (1 - product * mu_next)
            x[k] = x[k] * (1 - rate * weight_decay[k]) - rate * m_bar / (np.sqrt(n[k] / (1 - b2**t)) + eps)
        yield {"params_after": dict(x)}
