"""D-Adapt Adam: AdamW that estimates its learning rate from the sum of its steps."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import PyTree
from harness.optim.checks import expect
from harness.optim.rates import Mask, decays, expect_adam, rate_at, scalar, with_params


class DAdaptState(NamedTuple):
    """Scalars are float32 at least, arrays like the parameters.

    Attributes:
      count: steps done, int32.
      d: the estimate of the distance to the solution, one for all parameters.
      numerator: r, the average of <g, s> in the norm of Adam's denominators.
      mu, nu: Adam's moments; the rate is inside `mu`.
      s: average of the gradients times their rates.
    """

    count: jax.Array  # type: ignore[assignment]
    d: jax.Array
    numerator: jax.Array
    mu: PyTree
    nu: PyTree
    s: PyTree


def dadapt_adam(
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
    """Return D-Adapt Adam with decoupled decay. Its learning rate is 1, times a schedule.

    With t = 1, 2, ..., the gradient g, c = sqrt(b2), and gamma = lr, times sqrt(1 - b2^t) / (1 - b1^t) with
    `use_bias_correction`:

        r <- c r + (1 - c) d gamma <g, s / (sqrt(v) + eps)>     s and v of before, over all parameters
        m <- b1 m + (1 - b1) d gamma g
        v <- b2 v + (1 - b2) g^2
        s <- c s + (1 - c) d gamma g
        x <- x - m / (sqrt(v) + eps) - d gamma weight_decay x
        d <- max(d, r / ((1 - c) ||s||_1))

    optax's agrees where its bias correction and a decay of all parameters are wanted; it has no mask. State: m, v and
    s, three numbers per parameter.

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.
      d0: the first d, which must lie below the distance.
      use_bias_correction: off in the authors' code by default.
      mask: tree of booleans like the parameters (or a function to one): where weight decay applies; None: everywhere.

    Raises SubmissionError for hyperparameters out of range.

    Source: Defazio and Mishchenko (2023), arXiv:2301.07733, the Adam form, and the code published with it.
    """
    expect_adam("dadapt_adam", learning_rate, b1, b2, eps, weight_decay)
    expect("dadapt_adam: d0", d0, 0, above=True)
    c = b2**0.5

    def init(params: PyTree) -> DAdaptState:
        zeros = [optax.tree.zeros_like(params) for _ in range(3)]
        return DAdaptState(jnp.zeros((), jnp.int32), scalar(d0, params), scalar(0.0, params), *zeros)

    def update(grads: PyTree, state: DAdaptState, params: PyTree = None) -> tuple[PyTree, DAdaptState]:
        params, t, d = with_params("dadapt_adam", params), state.count + 1, state.d
        step = d * rate_at(learning_rate, state.count)
        if use_bias_correction:
            step = step * jnp.sqrt(1 - b2**t) / (1 - b1**t)
        scaled = jax.tree.map(lambda s, v: s / (jnp.sqrt(v) + eps), state.s, state.nu)
        r = (c * state.numerator + (1 - c) * step * optax.tree.vdot(grads, scaled)).astype(d.dtype)
        mu = jax.tree.map(lambda m, g: (b1 * m + (1 - b1) * step * g).astype(m.dtype), state.mu, grads)
        nu = jax.tree.map(lambda v, g: (b2 * v + (1 - b2) * g**2).astype(v.dtype), state.nu, grads)
        s = jax.tree.map(lambda s, g: (c * s + (1 - c) * step * g).astype(s.dtype), state.s, grads)
        bound = (1 - c) * optax.tree.sum(jax.tree.map(jnp.abs, s))
        updates = jax.tree.map(
            lambda p, m, v, wd: (-m / (jnp.sqrt(v) + eps) - step * wd * p).astype(p.dtype),
            params, mu, nu, decays(weight_decay, mask, params),
        )  # fmt: skip
        d = jnp.maximum(d, r / jnp.where(bound > 0, bound, jnp.inf)).astype(d.dtype)
        return updates, DAdaptState(t, d, r, mu, nu, s)

    return optax.GradientTransformation(init, update)
