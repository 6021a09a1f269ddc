"""Prodigy: AdamW that estimates its learning rate from the distance it has gone."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import PyTree
from harness.optim.checks import expect
from harness.optim.rates import Mask, decays, expect_adam, rate_at, scalar, with_params


class ProdigyState(NamedTuple):
    """Scalars are float32 at least, arrays like the parameters.

    Attributes:
      count: steps done, int32.
      d: the estimate of the distance to the solution, one for all parameters.
      numerator: r, the weighted sum of <g, x_0 - x>.
      x0: the first parameters.
      mu, nu: Adam's moments of d g.
      s: weighted sum of the gradients.
    """

    count: jax.Array  # type: ignore[assignment]
    d: jax.Array
    numerator: jax.Array
    x0: PyTree
    mu: PyTree
    nu: PyTree
    s: PyTree


def prodigy(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    d0: float = 1e-6,
    *,
    use_bias_correction: bool = False,
    mask: Mask = None,
) -> optax.GradientTransformation:
    """Return Prodigy. Its learning rate is 1, times a schedule.

    With t = 1, 2, ..., the gradient g, and gamma = lr, times sqrt(1 - b2^t) / (1 - b1^t) with `use_bias_correction`:

        r <- sqrt(b2) r + d^2 gamma <g, x_0 - x>            over all parameters
        s <- sqrt(b2) s + d^2 gamma g
        m <- b1 m + (1 - b1) d g
        v <- b2 v + (1 - b2) d^2 g^2
        D  = max(d, r / ||s||_1)
        x <- x - d gamma (m / (sqrt(v) + D eps) + weight_decay x)
        d <- D

    All of a step is by the d of before, but eps. optax's agrees where its bias correction and a decay of all parameters
    are wanted; it has no mask. State: x_0, m, v and s, four numbers per parameter.

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.
      d0: the first d, which must lie below the distance.
      use_bias_correction: off in the authors' code by default.
      mask: tree of booleans like the parameters (or a function to one): where weight decay applies; None: everywhere.

    Raises SubmissionError for hyperparameters out of range.

    Source: Mishchenko and Defazio (2023), arXiv:2306.06101, the Adam form, and the code published with it.
    """
    expect_adam("prodigy", learning_rate, b1, b2, eps, weight_decay)
    expect("prodigy: d0", d0, 0, above=True)
    b3 = b2**0.5

    def init(params: PyTree) -> ProdigyState:
        zeros = [optax.tree.zeros_like(params) for _ in range(3)]
        x0 = jax.tree.map(jnp.copy, params)  # buffers of its own: the parameters may be donated
        return ProdigyState(jnp.zeros((), jnp.int32), scalar(d0, params), scalar(0.0, params), x0, *zeros)

    def update(grads: PyTree, state: ProdigyState, params: PyTree = None) -> tuple[PyTree, ProdigyState]:
        params, t, d = with_params("prodigy", params), state.count + 1, state.d
        gamma = rate_at(learning_rate, state.count)
        if use_bias_correction:
            gamma = gamma * jnp.sqrt(1 - b2**t) / (1 - b1**t)
        product = optax.tree.vdot(grads, optax.tree.sub(state.x0, params))
        r = (b3 * state.numerator + d * d * gamma * product).astype(d.dtype)
        s = jax.tree.map(lambda s, g: (b3 * s + d * d * gamma * g).astype(s.dtype), state.s, grads)
        mu = jax.tree.map(lambda m, g: (b1 * m + (1 - b1) * d * g).astype(m.dtype), state.mu, grads)
        nu = jax.tree.map(lambda v, g: (b2 * v + (1 - b2) * (d * g) ** 2).astype(v.dtype), state.nu, grads)
        bound = optax.tree.sum(jax.tree.map(jnp.abs, s))
        D = jnp.maximum(d, r / jnp.where(bound > 0, bound, jnp.inf)).astype(d.dtype)
        updates = jax.tree.map(
            lambda p, m, v, wd: (-d * gamma * (m / (jnp.sqrt(v) + D * eps) + wd * p)).astype(p.dtype),
            params, mu, nu, decays(weight_decay, mask, params),
        )  # fmt: skip
        return updates, ProdigyState(t, D, r, state.x0, mu, nu, s)

    return optax.GradientTransformation(init, update)
