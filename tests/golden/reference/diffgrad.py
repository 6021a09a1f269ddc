"""diffGrad: Dubey et al. (2019), diffGrad, arXiv:1909.11015; the mended code of the authors (v2)."""

from __future__ import annotations

import math

import numpy as np

from .trees import Grads, Rates, Steps, Tree, zeros


def diffgrad(params: Tree, grads: Grads, lr: Rates, *, b1: float, b2: float, eps: float) -> Steps:
    x, m, v, last = dict(params), zeros(params), zeros(params), zeros(params)
    for t, (g, rate) in enumerate(zip(grads, lr, strict=True), 1):
        for k in x:
            m[k] = b1 * m[k] + (1 - b1) * g[k]
            v[k] = b2 * v[k] + (1 - b2) * g[k] ** 2
            xi = 1 / (1 + np.exp(-np.abs(last[k] - g[k])))  # the friction coefficient, in [1/2, 1)
            # eps is added to the uncorrected root: the corrections stand in front (as in the authors' code).
            x[k] = x[k] - rate * math.sqrt(1 - b2**t) / (1 - b1**t) * xi * m[k] / (np.sqrt(v[k]) + eps)
            last[k] = g[k]
        yield {"params_after": dict(x)}
