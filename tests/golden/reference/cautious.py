"""Cautious: Liang, Chen, Liu, Liu (2024), Cautious Optimizers, arXiv:2411.16085, Algorithms 1 and 2, round AdamW.

The authors divide the mask by its mean, kept above 1e-3; their first form was numel / (sum + 1).
"""

from __future__ import annotations

import numpy as np

from .trees import Grads, Rates, Steps, Tree, zeros


def cautious_adamw(
    params: Tree, grads: Grads, lr: Rates, *, weight_decay: dict[str, float], b1: float, b2: float, eps: float
) -> Steps:
    x, m, v = dict(params), zeros(params), zeros(params)
    for t, (g, rate) in enumerate(zip(grads, lr, strict=True), 1):
        for k in x:
            m[k] = b1 * m[k] + (1 - b1) * g[k]
            v[k] = b2 * v[k] + (1 - b2) * g[k] ** 2
            u = (m[k] / (1 - b1**t)) / (np.sqrt(v[k] / (1 - b2**t)) + eps)
            mask = (u * g[k] > 0).astype(u.dtype)  # phi_t: u is the step's direction down the hill, before its sign
            mask = mask / max(float(mask.mean()), 1e-3)  # over this tensor alone; the moments stay unmasked
            x[k] = x[k] * (1 - rate * weight_decay[k]) - rate * u * mask  # decay is not masked
        yield {"params_after": dict(x)}
