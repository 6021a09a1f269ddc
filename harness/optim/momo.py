"""MoMo and MoMo-Adam: momentum with a Polyak step from a model of the loss. Both need the loss of each step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import PyTree
from harness.optim.checks import expect, expect_rate
from harness.optim.rates import expect_adam, rate_at, scalar, with_params


class MomoState(NamedTuple):
    """Scalars are float32 at least, arrays like the parameters.

    Attributes:
      count: steps done, int32.
      value: average of the losses.
      gamma: average of <g, x>.
      mu: average of the gradients.
      nu: average of their squares; empty in MoMo.
    """

    count: jax.Array  # type: ignore[assignment]
    value: jax.Array
    gamma: jax.Array
    mu: PyTree
    nu: PyTree


def momo(
    learning_rate: optax.ScalarOrSchedule = 1.0, beta: float = 0.9, lb: float = 0.0, weight_decay: float = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Return MoMo; call `update(grads, state, params, value=loss)`, as harness.optim.optax_adapter does.

    With the gradient g and the loss f at x, averages that start at their first values, and products over all
    parameters:

        f_bar <- beta f_bar + (1 - beta) f
        gamma <- beta gamma + (1 - beta) <g, x>
        d     <- beta d + (1 - beta) g
        h      = (1 + lr weight_decay) (f_bar - lb - gamma) + <d, x>         the model at x above the lower bound
        tau    = min(lr, max(h, 0) / ||d||^2)
        x     <- (x - tau d) / (1 + lr weight_decay)                         decay by lr, not by tau

    optax's `momo` does not divide tau d. State: d, one number per parameter.

    Args:
      learning_rate: the largest step: a number, or a schedule called with the step counted from 0.
      lb: lower bound of the loss.

    Raises SubmissionError for hyperparameters out of range.

    Source: Schaipp et al. (2023), arXiv:2305.07583, Algorithm 1.
    """
    expect_rate("momo", learning_rate)
    expect("momo: beta", beta, 0, 1)
    expect("momo: weight_decay", weight_decay, 0)

    def init(params: PyTree) -> MomoState:
        zero, mu = scalar(0.0, params), optax.tree.zeros_like(params)
        return MomoState(jnp.zeros((), jnp.int32), zero, jnp.zeros_like(zero), mu, ())

    def update(
        grads: PyTree, state: MomoState, params: PyTree = None, *, value: jax.Array, **extra: Any
    ) -> tuple[PyTree, MomoState]:
        b = jnp.where(state.count == 0, 0.0, beta)
        f, gamma, mu = _averages(b, state, grads, with_params("momo", params), value)
        lr = rate_at(learning_rate, state.count)
        shrink = 1 + lr * weight_decay
        h = shrink * (f - lb - gamma) + optax.tree.vdot(mu, params)
        tau = jnp.minimum(lr, _over(h, optax.tree.vdot(mu, mu)))
        updates = jax.tree.map(lambda p, d: ((p - tau * d) / shrink - p).astype(p.dtype), params, mu)
        return updates, MomoState(state.count + 1, f, gamma, mu, ())

    return optax.GradientTransformationExtraArgs(init, update)


def momo_adam(
    learning_rate: optax.ScalarOrSchedule = 1e-2,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    lb: float = 0.0,
    weight_decay: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Return MoMo-Adam: `momo` in the norm of Adam's denominators, with averages from 0.

    With t = 1, 2, ... and rho = 1 - b1^t, which stays in the averages f_bar, gamma and d by b1:

        v     <- b2 v + (1 - b2) g^2                                         D = sqrt(v / (1 - b2^t)) + eps
        h      = (1 + lr weight_decay) (f_bar - rho lb - gamma) + <d, x>
        tau    = min(lr / rho, max(h, 0) / <d, d / D>)
        x     <- (x - tau d / D) / (1 + lr weight_decay)

    optax's `momo_adam` does not divide tau d / D. State: d and v, two numbers per parameter.

    Args and errors are those of `momo`.

    Source: Schaipp et al. (2023), arXiv:2305.07583, Algorithm 2.
    """
    expect_adam("momo_adam", learning_rate, b1, b2, eps, weight_decay)

    def init(params: PyTree) -> MomoState:
        zero, zeros = scalar(0.0, params), [optax.tree.zeros_like(params) for _ in range(2)]
        return MomoState(jnp.zeros((), jnp.int32), zero, jnp.zeros_like(zero), *zeros)

    def update(
        grads: PyTree, state: MomoState, params: PyTree = None, *, value: jax.Array, **extra: Any
    ) -> tuple[PyTree, MomoState]:
        f, gamma, mu = _averages(b1, state, grads, with_params("momo_adam", params), value)
        t, lr = state.count + 1, rate_at(learning_rate, state.count)
        nu = jax.tree.map(lambda v, g: (b2 * v + (1 - b2) * g**2).astype(v.dtype), state.nu, grads)
        rho, shrink = 1 - b1**t, 1 + lr * weight_decay
        scaled = jax.tree.map(lambda d, v: d / (jnp.sqrt(v / (1 - b2**t)) + eps), mu, nu)
        h = shrink * (f - rho * lb - gamma) + optax.tree.vdot(mu, params)
        tau = jnp.minimum(lr / rho, _over(h, optax.tree.vdot(mu, scaled)))
        updates = jax.tree.map(lambda p, d: ((p - tau * d) / shrink - p).astype(p.dtype), params, scaled)
        return updates, MomoState(t, f, gamma, mu, nu)

    return optax.GradientTransformationExtraArgs(init, update)


def _averages(
    b: Any, state: MomoState, grads: PyTree, params: PyTree, value: jax.Array
) -> tuple[jax.Array, jax.Array, PyTree]:
    def average(old: jax.Array, new: jax.Array) -> jax.Array:
        return (b * old + (1 - b) * new).astype(old.dtype)

    gamma = average(state.gamma, optax.tree.vdot(grads, params))
    return average(state.value, value), gamma, jax.tree.map(average, state.mu, grads)


def _over(h: jax.Array, length: jax.Array) -> jax.Array:
    """Return max(h, 0) / length, 0 where there is no direction."""
    return jnp.where(length > 0, jnp.maximum(h, 0) / jnp.where(length > 0, length, 1), 0)
