"""diffGrad: Adam with friction where the gradient changes little."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import PyTree
from harness.optim.rates import expect_adam


class DiffGradState(NamedTuple):
    """`count`: steps done, int32; moments `mu`, `nu` and the gradient `last` before, like the parameters."""

    count: jax.Array  # type: ignore[assignment]
    mu: PyTree
    nu: PyTree
    last: PyTree


def diffgrad(
    learning_rate: optax.ScalarOrSchedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Return diffGrad.

    With t = 1, 2, ..., the gradient g, and g_last = 0 at first:

        m  <- b1 m + (1 - b1) g                         v <- b2 v + (1 - b2) g^2
        xi  = sigmoid(|g_last - g|)                     the friction: multiplies m, which stays as it is
        p  <- p - lr sqrt(1 - b2^t) / (1 - b1^t) xi m / (sqrt(v) + eps)

    State: three numbers per parameter.

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.

    Raises SubmissionError for hyperparameters out of range.

    Source: Dubey et al. (2019), arXiv:1909.11015, eq. 4 to 7, as the authors' mended code has it: their first one
    compared g with itself.
    """
    expect_adam("diffgrad", learning_rate, b1, b2, eps)

    def init(params: PyTree) -> DiffGradState:
        return DiffGradState(jnp.zeros((), jnp.int32), *(optax.tree.zeros_like(params) for _ in range(3)))

    def update(grads: PyTree, state: DiffGradState, params: PyTree = None) -> tuple[PyTree, DiffGradState]:
        t = state.count + 1
        mu = jax.tree.map(lambda m, g: (b1 * m + (1 - b1) * g).astype(m.dtype), state.mu, grads)
        nu = jax.tree.map(lambda v, g: (b2 * v + (1 - b2) * g**2).astype(v.dtype), state.nu, grads)
        step = jnp.sqrt(1 - b2**t) / (1 - b1**t)
        steps = jax.tree.map(
            lambda m, v, g, last: (step * jax.nn.sigmoid(jnp.abs(last - g)) * m / (jnp.sqrt(v) + eps)).astype(m.dtype),
            mu, nu, grads, state.last,
        )  # fmt: skip
        return steps, DiffGradState(t, mu, nu, grads)

    return optax.chain(optax.GradientTransformation(init, update), optax.scale_by_learning_rate(learning_rate))
