"""SAM: Foret et al. (2020), Sharpness-Aware Minimization, arXiv:2010.01412, eq. 2 and 3, round SGD with momentum.

And its relative, the penalty on the gradient's norm: Zhao et al. (2022), Penalizing Gradient Norm, arXiv:2202.03599.
Both need a gradient at a second point, so the loss is a function here:

    f_t(theta) = sum over all arrays of <G_t, theta> + |theta|^2 / 4 + sum(theta^4) / 4,
    its gradient G_t + theta / 2 + theta^3, with G_t the file's `grads[t-1]`.
"""

from __future__ import annotations

from .trees import Grads, Rates, Steps, Tree, norm, zeros


def gradient(linear: Tree, theta: Tree) -> Tree:
    return {k: linear[k] + 0.5 * theta[k] + theta[k] ** 3 for k in theta}


def sam(
    params: Tree,
    grads: Grads,
    lr: Rates,
    *,
    weight_decay: dict[str, float],
    rho: float,
    momentum: float,
    alpha: float = 1.0,
    eps: float = 1e-12,
) -> Steps:
    """Yield SAM's steps; with alpha below 1 the penalty's: (1 - alpha) grad(x) + alpha grad(x + rho g / |g|)."""
    x, buffer = dict(params), zeros(params)
    for linear, rate in zip(grads, lr, strict=True):
        g = gradient(linear, x)
        scale = rho / (norm(g) + eps)  # eq. 2 with p = 2: the norm over all parameters together
        there = gradient(linear, {k: x[k] + scale * g[k] for k in x})  # eq. 3: no derivative of the perturbation
        for k in x:
            u = (1 - alpha) * g[k] + alpha * there[k] + weight_decay[k] * x[k]  # decay at x, not at the second point
            buffer[k] = momentum * buffer[k] + u
            x[k] = x[k] - rate * buffer[k]
        yield {"params_after": dict(x)}
