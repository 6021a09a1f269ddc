"""NAdam: Adam with Nesterov momentum under Dozat's schedule. `harness.optim.nadamw` is another rule."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import PyTree
from harness.optim.checks import expect
from harness.optim.rates import Mask, expect_adam, scalar


class NadamState(NamedTuple):
    """`count`: steps done, int32; `product`: mu_1 ... mu_t; moments `mu`, `nu` like the parameters."""

    count: jax.Array  # type: ignore[assignment]
    product: jax.Array
    mu: PyTree
    nu: PyTree


def nadam(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    psi: float = 0.004,
    weight_decay: float = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformation:
    """Return NAdam with decoupled weight decay, as PyTorch has it.

    With t = 1, 2, ... and the gradient g:

        mu_t = b1 (1 - 0.96^(t psi) / 2)                Pi_t = mu_1 ... mu_t
        m <- b1 m + (1 - b1) g                          v <- b2 v + (1 - b2) g^2
        u  = (1 - mu_t) g / (1 - Pi_t) + mu_{t+1} m / (1 - Pi_{t+1})
        p <- p - lr (u / (sqrt(v / (1 - b2^t)) + eps) + weight_decay p)

    State: two numbers per parameter.

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.
      psi: of the schedule of mu; the larger, the sooner it is at b1.
      mask: tree of booleans like the parameters (or a function to one): where weight decay applies; None: everywhere.

    Raises SubmissionError for hyperparameters out of range.

    Source: Dozat (2016), "Incorporating Nesterov momentum into Adam", Algorithm 2.
    """
    expect_adam("nadam", learning_rate, b1, b2, eps, weight_decay)
    expect("nadam: psi", psi, 0)

    def init(params: PyTree) -> NadamState:
        zeros = optax.tree.zeros_like(params)
        return NadamState(jnp.zeros((), jnp.int32), scalar(1.0, params), zeros, optax.tree.zeros_like(params))

    def update(grads: PyTree, state: NadamState, params: PyTree = None) -> tuple[PyTree, NadamState]:
        t, dtype = state.count + 1, state.product.dtype
        here, ahead = (b1 * (1 - 0.5 * 0.96 ** (s.astype(dtype) * psi)) for s in (t, t + 1))
        product = (state.product * here).astype(dtype)
        mu = jax.tree.map(lambda m, g: (b1 * m + (1 - b1) * g).astype(m.dtype), state.mu, grads)
        nu = jax.tree.map(lambda v, g: (b2 * v + (1 - b2) * g**2).astype(v.dtype), state.nu, grads)
        of_g, of_m = (1 - here) / (1 - product), ahead / (1 - product * ahead)
        steps = jax.tree.map(
            lambda g, m, v: ((of_g * g + of_m * m) / (jnp.sqrt(v / (1 - b2**t)) + eps)).astype(v.dtype), grads, mu, nu
        )
        return steps, NadamState(t, product, mu, nu)

    return optax.chain(
        optax.GradientTransformation(init, update),
        optax.add_decayed_weights(weight_decay, mask),
        optax.scale_by_learning_rate(learning_rate),
    )
