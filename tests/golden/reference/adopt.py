"""ADOPT: Taniguchi et al. (2024), ADOPT, arXiv:2411.02853, Algorithm 1 (no clip) and 2 (the clip at t^0.25).

The second is the authors' default since their second release ("v2"): `clip=0.25`. The first is `clip=None`.
"""

from __future__ import annotations

import numpy as np

from .trees import Grads, Rates, Steps, Tree, zeros


def adopt(
    params: Tree,
    grads: Grads,
    lr: Rates,
    *,
    weight_decay: dict[str, float],
    b1: float,
    b2: float,
    eps: float,
    clip: float | None,
) -> Steps:
    x, m, v = dict(params), zeros(params), zeros(params)
    for step, (g, rate) in enumerate(zip(grads, lr, strict=True)):
        for k in x:
            if step == 0:
                v[k] = g[k] ** 2  # v_0 = g_0^2: the first gradient moves nothing, and nothing decays
                continue
            u = g[k] / np.maximum(np.sqrt(v[k]), eps)  # by the v of the step before; a maximum, not a sum
            if clip is not None:
                u = np.clip(u, -(step**clip), step**clip)  # Alg. 2: c_t = t^(1/4), t = 1 at the second gradient
            m[k] = b1 * m[k] + (1 - b1) * u
            x[k] = x[k] * (1 - rate * weight_decay[k]) - rate * m[k]  # no bias correction; decay before the step
            v[k] = b2 * v[k] + (1 - b2) * g[k] ** 2
        yield {"params_after": dict(x)}
