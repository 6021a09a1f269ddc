"""MARS-AdamW: AdamW on gradients whose variance the last gradient reduces."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import PyTree
from harness.optim.checks import expect
from harness.optim.layers import map_layers
from harness.optim.norms import norm
from harness.optim.rates import Mask, expect_adam


class MarsState(NamedTuple):
    """`last`: the gradient of the step before, like the parameters; 0 before the first."""

    last: PyTree


def mars_adamw(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.95,
    b2: float = 0.99,
    eps: float = 1e-8,
    gamma: float = 0.025,
    weight_decay: float = 0.0,
    mask: Mask = None,
    *,
    param_info: PyTree | None = None,
) -> optax.GradientTransformation:
    """Return MARS-AdamW in its approximate form, the authors' default.

        c  = g + gamma b1 / (1 - b1) (g - g_last)
        c  = c / max(||c||, 1)                           over one parameter, or each layer with `param_info`

    and AdamW on c. The exact form evaluates the new batch at the old parameters in the place of g_last. All parameters
    take it, vectors too: the authors leave those to AdamW at a rate of its own, which `harness.optim.matrices.by_kind`
    does. State: g_last and two moments, three numbers per parameter.

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.
      mask: tree of booleans like the parameters (or a function to one): where weight decay applies; None: everywhere.
      param_info: tree of `harness.api.ParamInfo` like the parameters, for parameters that stack several layers.

    Raises SubmissionError for hyperparameters out of range.

    Source: Yuan et al. (2024), arXiv:2411.10438, Algorithm 2.
    """
    expect_adam("mars_adamw", learning_rate, b1, b2, eps, weight_decay)
    expect("mars_adamw: gamma", gamma, 0)

    def update(grads: PyTree, state: MarsState, params: PyTree = None) -> tuple[PyTree, MarsState]:
        c = jax.tree.map(lambda g, last: g + gamma * b1 / (1 - b1) * (g - last), grads, state.last)
        return map_layers(
            lambda axes, c: (c / jnp.maximum(norm(c, axes), 1)).astype(c.dtype), param_info, c
        ), MarsState(grads)

    return optax.chain(
        optax.GradientTransformation(lambda params: MarsState(optax.tree.zeros_like(params)), update),
        optax.scale_by_adam(b1, b2, eps),
        optax.add_decayed_weights(weight_decay, mask),
        optax.scale_by_learning_rate(learning_rate),
    )
