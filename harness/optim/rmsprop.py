"""RMSProp: gradients over the root of their mean square."""

from __future__ import annotations

import optax

from harness.optim.checks import expect, expect_rate


def rmsprop(
    learning_rate: optax.ScalarOrSchedule, decay: float = 0.9, eps: float = 1e-8, momentum: float = 0.0
) -> optax.GradientTransformation:
    """Return RMSProp: optax's parts, in PyTorch's order, which agrees with the reference.

        v <- decay v + (1 - decay) g^2                  from 0, no correction: the first step is lr / sqrt(1 - decay)
        m <- momentum m + g / (sqrt(v) + eps)
        p <- p - lr m

    optax's `rmsprop` has eps within the root and the rate within m. State: two numbers per parameter.

    Raises SubmissionError for hyperparameters out of range.

    Source: Tieleman and Hinton (2012), lecture 6.5 of Neural networks for machine learning.
    """
    expect_rate("rmsprop", learning_rate)
    expect("rmsprop: decay", decay, 0, 1)
    expect("rmsprop: eps", eps, 0)
    expect("rmsprop: momentum", momentum, 0, 1)
    return optax.chain(
        optax.scale_by_rms(decay, eps, eps_in_sqrt=False),
        optax.trace(momentum),
        optax.scale_by_learning_rate(learning_rate),
    )
