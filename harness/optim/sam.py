"""SAM and the penalty on the gradient's norm: two gradients a step, the second one uphill."""

from __future__ import annotations

import jax
import optax

from harness.api import Algorithm, Batch, Key, Loss, Metrics, OptState, Params, TrainState
from harness.optim.checks import expect


def sam(inner: optax.GradientTransformation, rho: float = 0.05) -> Algorithm:
    """Return sharpness-aware minimisation: `inner`, an optimizer, on the gradient at a point uphill.

        g <- gradient at p + rho g / (||g|| + 1e-12)     of the same batch; the norm over all parameters

    `inner` sees the parameters p, and decays those. Running statistics are those of the first gradient.

    Raises SubmissionError for hyperparameters out of range.

    Source: Foret et al. (2021), arXiv:2010.01412, eq. 2 and 3, without the derivative of the perturbation.
    """
    return gradient_norm_penalty(inner, rho, 1.0)


def gradient_norm_penalty(inner: optax.GradientTransformation, rho: float = 0.05, alpha: float = 0.7) -> Algorithm:
    """Return `inner` on the loss plus alpha rho times the norm of its gradient, to first order.

        g <- (1 - alpha) g + alpha (gradient at p + rho g / (||g|| + 1e-12))

    alpha = 1 is `sam`.

    Raises SubmissionError for hyperparameters out of range.

    Source: Zhao, Zhang and Hu (2022), arXiv:2202.03599, Algorithm 1.
    """
    expect("sam: rho", rho, 0)
    expect("gradient_norm_penalty: alpha", alpha, 0)
    inner = optax.with_extra_args_support(inner)

    def init(params: Params, key: Key) -> OptState:
        return inner.init(params)

    def step(loss: Loss, state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        (value, model_state), grads = loss.value_and_grad(state.params, state.model_state, batch, key)
        scale = rho / (optax.tree.norm(grads) + 1e-12)
        uphill = jax.tree.map(lambda p, g: (p + scale * g).astype(p.dtype), state.params, grads)
        _, there = loss.value_and_grad(uphill, state.model_state, batch, key)
        mixed = jax.tree.map(lambda g, h: ((1 - alpha) * g + alpha * h).astype(g.dtype), grads, there)
        updates, opt_state = inner.update(mixed, state.opt_state, state.params, value=value)
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, opt_state=opt_state, model_state=model_state), {"loss": value}

    return Algorithm(init=init, step=step)
