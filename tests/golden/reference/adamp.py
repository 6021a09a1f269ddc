"""AdamP and SGDP: Heo et al. (2021), AdamP: Slowing Down the Slowdown, arXiv:2006.08217, Algorithms 1 and 2.

Rows of a matrix are channels: (out, in). Biases are never projected.
"""

from __future__ import annotations

import math

import numpy as np

from .trees import Grads, Rates, Steps, Tree, zeros


def project(
    x: np.ndarray, g: np.ndarray, u: np.ndarray, delta: float, wd_ratio: float, eps: float
) -> tuple[np.ndarray, float, str]:
    """Return the step without its radial part where the weights look scale-invariant (eq. 11), the ratio of the decay,
    and which view it was: per channel, else the whole layer, else none.
    """
    if x.ndim < 2:
        return u, 1.0, "none"
    for view, shape in (("channel", (x.shape[0], -1)), ("layer", (1, -1))):
        xv, gv, uv = x.reshape(shape), g.reshape(shape), u.reshape(shape)
        # torch's cosine_similarity: each norm is kept above eps.
        x_norm, g_norm = np.linalg.norm(xv, axis=1), np.linalg.norm(gv, axis=1)
        cosine = np.abs(np.sum(xv * gv, axis=1) / (np.maximum(x_norm, eps) * np.maximum(g_norm, eps)))
        if cosine.max() < delta / math.sqrt(xv.shape[1]):  # of the gradient, and every channel has to pass
            unit = xv / (x_norm[:, None] + eps)
            return (uv - unit * np.sum(unit * uv, axis=1, keepdims=True)).reshape(x.shape), wd_ratio, view
    return u, 1.0, "none"


def adamp(
    params: Tree,
    grads: Grads,
    lr: Rates,
    *,
    weight_decay: dict[str, float],
    b1: float,
    b2: float,
    eps: float,
    delta: float,
    wd_ratio: float,
    nesterov: bool = False,
) -> Steps:
    x, m, v = dict(params), zeros(params), zeros(params)
    for t, (g, rate) in enumerate(zip(grads, lr, strict=True), 1):
        views = {}
        for k in x:
            m[k] = b1 * m[k] + (1 - b1) * g[k]
            v[k] = b2 * v[k] + (1 - b2) * g[k] ** 2
            top = b1 * m[k] + (1 - b1) * g[k] if nesterov else m[k]
            u = top / (np.sqrt(v[k] / (1 - b2**t)) + eps)
            u, ratio, views[k] = project(x[k], g[k], u, delta, wd_ratio, eps)
            x[k] = x[k] * (1 - rate * weight_decay[k] * ratio) - rate / (1 - b1**t) * u
        yield {"params_after": dict(x), "projections_after": views}


def sgdp(
    params: Tree,
    grads: Grads,
    lr: Rates,
    *,
    weight_decay: dict[str, float],
    momentum: float,
    eps: float,
    delta: float,
    wd_ratio: float,
    dampening: float = 0.0,
    nesterov: bool = False,
) -> Steps:
    x, m = dict(params), zeros(params)
    for g, rate in zip(grads, lr, strict=True):
        views = {}
        for k in x:
            m[k] = momentum * m[k] + (1 - dampening) * g[k]
            u = g[k] + momentum * m[k] if nesterov else m[k]
            u, ratio, views[k] = project(x[k], g[k], u, delta, wd_ratio, eps)
            # The decay is divided by 1 - momentum, so that it is as strong as one inside the gradient.
            x[k] = x[k] * (1 - rate * weight_decay[k] * ratio / (1 - momentum)) - rate * u
        yield {"params_after": dict(x), "projections_after": views}
