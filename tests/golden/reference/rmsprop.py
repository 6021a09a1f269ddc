"""RMSProp: Tieleman and Hinton (2012), Lecture 6.5 of Neural Networks for Machine Learning, as torch.optim.RMSprop."""

from __future__ import annotations

import numpy as np

from .trees import Grads, Rates, Steps, Tree, zeros


def rmsprop(params: Tree, grads: Grads, lr: Rates, *, decay: float, eps: float, momentum: float) -> Steps:
    x, v, buffer = dict(params), zeros(params), zeros(params)
    for g, rate in zip(grads, lr, strict=True):
        for k in x:
            v[k] = decay * v[k] + (1 - decay) * g[k] ** 2  # from 0, without bias correction
            buffer[k] = momentum * buffer[k] + g[k] / (np.sqrt(v[k]) + eps)  # eps outside the root; the rate outside
            x[k] = x[k] - rate * buffer[k]
        yield {"params_after": dict(x)}
