"""AdEMAMix: AdamW with a second, slow average of the gradients."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from harness.optim.checks import expect
from harness.optim.rates import Mask, expect_adam
from harness.optim.schedules import Steps, linear_warmup


def ademamix(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    b3: Any = 0.9999,
    alpha: Any = 5.0,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformation:
    """Return AdEMAMix: optax's own, which agrees with the reference.

    With t = 1, 2, ... and the gradient g:

        m <- b1 m + (1 - b1) g                      mh = m / (1 - b1^t)
        n <- b3 n + (1 - b3) g                      the slow average: from 0, no correction
        v <- b2 v + (1 - b2) g^2                    vh = v / (1 - b2^t)
        p <- p - lr ((mh + alpha n) / (sqrt(vh) + eps) + weight_decay p)

    State: three numbers per parameter.

    Args:
      learning_rate, b3, alpha: numbers, or schedules called with the step counted from 0; `warmed_b3` and
        `warmed_alpha` are the paper's, over the whole training.
      mask: tree of booleans like the parameters (or a function to one): where weight decay applies; None: everywhere.

    Raises SubmissionError for hyperparameters out of range.

    Source: Pagliardini, Ablin and Grangier (2024), arXiv:2409.03137, Algorithm 1.
    """
    expect_adam("ademamix", learning_rate, b1, b2, eps, weight_decay)
    if not callable(b3):
        expect("ademamix: b3", b3, 0, 1)
    if not callable(alpha):
        expect("ademamix: alpha", alpha, 0)
    return optax.contrib.ademamix(learning_rate, b1, b2, b3, alpha, eps, weight_decay=weight_decay, mask=mask)


def warmed_alpha(alpha: float, steps: Steps) -> optax.Schedule:
    """Return alpha min(1, t / steps), t counted from 1: f_alpha of the paper."""
    return lambda count: alpha * linear_warmup(jnp.asarray(count, float), steps)


def warmed_b3(b1: float, b3: float, steps: Steps) -> optax.Schedule:
    """Return the b3 that goes from b1 to `b3` over so many steps, linear in the half-life: f_beta3 of the paper.

    With q = min(1, t / steps), t counted from 1: exp(ln b1 ln b3 / ((1 - q) ln b3 + q ln b1)).
    """

    def at(count: jax.Array) -> jax.Array:
        q, fast, slow = linear_warmup(jnp.asarray(count, float), steps), jnp.log(b1), jnp.log(b3)
        return jnp.exp(fast * slow / ((1 - q) * slow + q * fast))

    return at
