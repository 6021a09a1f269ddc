"""Lion: the sign of a momentum."""

from __future__ import annotations

import optax

from harness.optim.checks import expect, expect_rate
from harness.optim.rates import Mask


def lion(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.99,
    weight_decay: float = 0.0,
    mask: Mask = None,
) -> optax.GradientTransformation:
    """Return Lion: optax's own, which agrees with the reference.

        c  = b1 m + (1 - b1) g
        p <- p - lr (sign(c) + weight_decay p)          sign(0) = 0
        m <- b2 m + (1 - b2) g                          last, by the other average

    Rates are some 3 to 10 times smaller than AdamW's and decays as much larger. State: m, one number per parameter.

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.
      mask: tree of booleans like the parameters (or a function to one): where weight decay applies; None: everywhere.

    Raises SubmissionError for hyperparameters out of range.

    Source: Chen et al. (2023), arXiv:2302.06675, Algorithm 2.
    """
    expect_rate("lion", learning_rate)
    expect("lion: b1", b1, 0, 1)
    expect("lion: b2", b2, 0, 1)
    expect("lion: weight_decay", weight_decay, 0)
    return optax.lion(learning_rate, b1, b2, weight_decay=weight_decay, mask=mask)
