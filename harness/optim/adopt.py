"""ADOPT: Adam that divides each gradient by the second moment of those before it."""

from __future__ import annotations

import jax.numpy as jnp
import optax

from harness.optim.checks import expect
from harness.optim.rates import Mask, expect_adam


def adopt(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.9999,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    clip: float | None = 0.25,
    mask: Mask = None,
) -> optax.GradientTransformation:
    """Return ADOPT: optax's `scale_by_adopt`, which agrees with the reference, and a decay that starts with it.

    The first gradient sets v = g^2 and moves nothing. With s = 1, 2, ... from the second:

        u  = g / max(sqrt(v), eps)                      by the v of before
        u  = u clipped to +-s^clip                      not with clip=None, the paper's Algorithm 1
        m <- b1 m + (1 - b1) u                          no bias correction
        p <- p - lr (m + weight_decay p)
        v <- b2 v + (1 - b2) g^2

    State: m and v, two numbers per parameter.

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.
      mask: tree of booleans like the parameters (or a function to one): where weight decay applies; None: everywhere.

    Raises SubmissionError for hyperparameters out of range.

    Source: Taniguchi et al. (2024), arXiv:2411.02853, Algorithms 1 and 2.
    """
    expect_adam("adopt", learning_rate, b1, b2, eps, weight_decay)
    if clip is not None:
        expect("adopt: clip", clip, 0)
    power = 0.0 if clip is None else clip
    return optax.chain(
        optax.contrib.scale_by_adopt(b1, b2, eps, use_clipping=clip is not None, clip_value_fn=lambda s: s**power),
        optax.add_decayed_weights(lambda count: jnp.where(count > 0, weight_decay, 0.0), mask),
        optax.scale_by_learning_rate(learning_rate),
    )
