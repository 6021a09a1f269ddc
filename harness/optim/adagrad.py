"""AdaGrad: gradients over the root of the sum of their squares."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import PyTree
from harness.optim.checks import expect, expect_rate


class AdagradState(NamedTuple):
    """`sums`: of the squared gradients, like the parameters."""

    sums: PyTree


def adagrad(
    learning_rate: optax.ScalarOrSchedule,
    initial_accumulator: float = 0.0,
    eps: float = 1e-10,
    *,
    eps_in_root: bool = False,
) -> optax.GradientTransformation:
    """Return AdaGrad in PyTorch's form, or optax's own with `eps_in_root`; both agree with the reference.

        G <- G + g^2                                    from initial_accumulator
        p <- p - lr g / (sqrt(G) + eps)                 g / sqrt(G + eps) with `eps_in_root`; nothing moves where G = 0

    State: G, one number per parameter.

    Raises SubmissionError for hyperparameters out of range.

    Source: Duchi, Hazan and Singer (2011), JMLR 12, eq. 1, with a diagonal matrix.
    """
    expect_rate("adagrad", learning_rate)
    expect("adagrad: initial_accumulator", initial_accumulator, 0)
    expect("adagrad: eps", eps, 0)
    if eps_in_root:
        return optax.adagrad(learning_rate, initial_accumulator, eps)

    def update(grads: PyTree, state: AdagradState, params: PyTree = None) -> tuple[PyTree, AdagradState]:
        sums = jax.tree.map(lambda G, g: G + g**2, state.sums, grads)
        steps = jax.tree.map(lambda G, g: g / jnp.where(G > 0, jnp.sqrt(G) + eps, 1), sums, grads)
        return steps, AdagradState(sums)

    return optax.chain(
        optax.GradientTransformation(
            lambda params: AdagradState(optax.tree.full_like(params, initial_accumulator)), update
        ),
        optax.scale_by_learning_rate(learning_rate),
    )
