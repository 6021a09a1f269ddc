"""NadamW in AlgoPerf's form. optax's differs from the first step on: it corrects the two parts of the momentum by two
powers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from harness.optim.checks import expect, expect_rate


def nadamw(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    mask: Any | Callable[[Any], Any] | None = None,
) -> optax.GradientTransformation:
    """Return Adam with Nesterov momentum and decoupled weight decay.

    With t = 1, 2, ... and the gradient g:

        m <- b1 m + (1 - b1) g                      v <- b2 v + (1 - b2) g^2
        u  = (b1 m + (1 - b1) g) / (1 - b1^t)       vh = v / (1 - b2^t)
        p <- p - lr (u / (sqrt(vh) + eps) + weight_decay p)

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.
      mask: tree of booleans like the parameters (or a function to one): where weight decay applies.

    Raises SubmissionError for hyperparameters out of range.

    Source: Dozat (2016), "Incorporating Nesterov momentum into Adam", with the bias correction of the AlgoPerf baseline
    (Dahl et al. 2023, arXiv:2306.07179); no momentum decay.
    """
    expect_rate("nadamw", learning_rate)
    expect("nadamw: b1", b1, 0, 1)
    expect("nadamw: b2", b2, 0, 1)
    expect("nadamw: eps", eps, 0)
    expect("nadamw: weight_decay", weight_decay, 0)
    return optax.chain(
        scale_by_nadam(b1, b2, eps),
        optax.add_decayed_weights(weight_decay, mask),
        optax.scale_by_learning_rate(learning_rate),
    )


def scale_by_nadam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """Return the update direction u / (sqrt(vh) + eps) of `nadamw`; state is (count, m, v), m and v like the
    parameters.
    """

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = optax.tree.zeros_like(params)
        return optax.ScaleByAdamState(count=jnp.zeros((), jnp.int32), mu=zeros, nu=optax.tree.zeros_like(params))

    def update(grads: Any, state: optax.ScaleByAdamState, params: Any = None) -> tuple[Any, optax.ScaleByAdamState]:
        t = state.count + 1
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g**2, state.nu, grads)
        u = jax.tree.map(lambda m, g: (b1 * m + (1 - b1) * g) / (1 - b1**t), m, grads)
        updates = jax.tree.map(lambda u, v: (u / (jnp.sqrt(v / (1 - b2**t)) + eps)).astype(v.dtype), u, v)
        return updates, optax.ScaleByAdamState(count=t, mu=m, nu=v)

    return optax.GradientTransformation(init, update)
