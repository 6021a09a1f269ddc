"""AdaGrad: Duchi, Hazan, Singer (2011), Adaptive Subgradient Methods, JMLR 12, the diagonal form of eq. 1.

Two places for eps: outside the root as in torch.optim.Adagrad, or inside it (`eps_in_root`).
"""

from __future__ import annotations

import numpy as np

from .trees import Grads, Rates, Steps, Tree


def adagrad(
    params: Tree, grads: Grads, lr: Rates, *, initial_accumulator: float, eps: float, eps_in_root: bool = False
) -> Steps:
    x = dict(params)
    G = {k: np.full_like(v, initial_accumulator) for k, v in x.items()}
    for g, rate in zip(grads, lr, strict=True):
        for k in x:
            G[k] = G[k] + g[k] ** 2
            root = np.sqrt(G[k] + eps) if eps_in_root else np.sqrt(G[k]) + eps
            x[k] = x[k] - rate * np.divide(g[k], root, out=np.zeros_like(root), where=root > 0)
        yield {"params_after": dict(x)}
