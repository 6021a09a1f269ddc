"""LARS: You, Gitman, Ginsburg (2017), Large Batch Training of Convolutional Networks, arXiv:1708.03888.

Two places for the learning rate: inside the momentum buffer as in Algorithm 1 (`lr_inside`), or outside it as in
torch's SGD. They part when the rate changes. Where weight_decay is 0 the layer is left plain SGD.
"""

from __future__ import annotations

import numpy as np

from .trees import Grads, Rates, Steps, Tree, zeros


def lars(
    params: Tree,
    grads: Grads,
    lr: Rates,
    *,
    weight_decay: dict[str, float],
    momentum: float,
    trust_coefficient: float,
    eps: float,
    lr_inside: bool = False,
) -> Steps:
    x, buffer = dict(params), zeros(params)
    for g, rate in zip(grads, lr, strict=True):
        for k in x:
            u = g[k]
            if weight_decay[k]:
                w_norm, g_norm = np.linalg.norm(x[k]), np.linalg.norm(g[k])
                ratio = 1.0
                if w_norm > 0 and g_norm > 0:
                    # the sum of two norms, not the norm of the sum (section 4)
                    ratio = trust_coefficient * w_norm / (g_norm + weight_decay[k] * w_norm + eps)
                u = ratio * (g[k] + weight_decay[k] * x[k])
            if lr_inside:
                buffer[k] = momentum * buffer[k] + rate * u  # Alg. 1: v_{t+1}
                x[k] = x[k] - buffer[k]
            else:
                buffer[k] = momentum * buffer[k] + u
                x[k] = x[k] - rate * buffer[k]
        yield {"params_after": dict(x)}
