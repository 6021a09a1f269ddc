"""DoG: Ivgi, Hinder, Carmon (2023), DoG is SGD's Best Friend, arXiv:2302.12022, eq. 1, and its layer-wise form L-DoG.

`eval_params_after` is the polynomial-decay average of Shamir and Zhang (2013) with gamma = 8, which is to be evaluated.
"""

from __future__ import annotations

import numpy as np

from .trees import Grads, Rates, Steps, Tree


def dog(
    params: Tree, grads: Grads, lr: Rates, *, reps_rel: float, eps: float, layer_wise: bool = False, gamma: float = 8.0
) -> Steps:
    x, x0, average = dict(params), dict(params), dict(params)
    groups = [[k] for k in x] if layer_wise else [list(x)]
    r_bar: list[float] = []
    G: list[float] = []
    for t, (g, rate) in enumerate(zip(grads, lr, strict=True), 1):
        for i, names in enumerate(groups):
            squares = sum(np.sum(g[k] ** 2) for k in names)
            if t == 1:
                r_bar.append(reps_rel * (1 + np.sqrt(sum(np.sum(x[k] ** 2) for k in names))))  # r_eps
                G.append(squares + eps)  # eps once, and inside the root
            else:
                r_bar[i] = max(r_bar[i], np.sqrt(sum(np.sum((x[k] - x0[k]) ** 2) for k in names)))
                G[i] = G[i] + squares
            for k in names:
                x[k] = x[k] - rate * r_bar[i] / np.sqrt(G[i]) * g[k]  # eq. 1
        weight = (1 + gamma) / (t + gamma)  # 1 at t = 1: the average starts at x_1, not at x_0
        average = {k: (1 - weight) * average[k] + weight * x[k] for k in x}
        yield {"params_after": dict(x), "eval_params_after": average}
