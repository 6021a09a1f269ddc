"""LARS: SGD with momentum whose rate is, layer by layer, a share of the weights' length over the gradient's."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import PyTree
from harness.optim.checks import expect, expect_rate
from harness.optim.layers import map_layers
from harness.optim.norms import norm
from harness.optim.rates import Mask, decays, rate_at, with_params


class LarsState(NamedTuple):
    """`count`: steps done, int32; `mu`: the momentum, like the parameters."""

    count: jax.Array  # type: ignore[assignment]
    mu: PyTree


def lars(
    learning_rate: optax.ScalarOrSchedule,
    momentum: float = 0.9,
    trust_coefficient: float = 0.001,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    mask: Mask = None,
    *,
    lr_inside: bool = False,
    param_info: PyTree | None = None,
) -> optax.GradientTransformation:
    """Return LARS.

        r  = trust_coefficient ||p|| / (||g|| + weight_decay ||p|| + eps)      1 where ||p|| or ||g|| is 0
        m <- momentum m + r (g + weight_decay p)
        p <- p - lr m

    With `lr_inside` the rate stands before r and not before m, as in the paper; the two part where the rate changes.
    optax's rule has ||g + weight_decay p|| in r. State: m, one number per parameter.

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.
      mask: tree of booleans like the parameters (or a function to one): where weight decay *and* adaptation apply;
        elsewhere r = 1 and nothing decays. None: everywhere.
      param_info: tree of `harness.api.ParamInfo` like the parameters, for parameters that stack several layers.

    Raises SubmissionError for hyperparameters out of range.

    Source: You, Gitman and Ginsburg (2017), arXiv:1708.03888, Algorithm 1.
    """
    expect_rate("lars", learning_rate)
    expect("lars: momentum", momentum, 0, 1)
    expect("lars: trust_coefficient", trust_coefficient, 0, above=True)
    expect("lars: eps", eps, 0)
    expect("lars: weight_decay", weight_decay, 0)

    def adapted(axes: tuple[int, ...], g: jax.Array, p: jax.Array, wd: float, chosen: float) -> jax.Array:
        if not chosen:
            return g
        norm_p, norm_g = norm(p, axes), norm(g, axes)
        ratio = jnp.where((norm_p > 0) & (norm_g > 0), trust_coefficient * norm_p / (norm_g + wd * norm_p + eps), 1)
        return ratio * (g + wd * p)

    def update(grads: PyTree, state: LarsState, params: PyTree = None) -> tuple[PyTree, LarsState]:
        params, lr = with_params("lars", params), rate_at(learning_rate, state.count)
        wd = decays(weight_decay, mask, params)
        u = map_layers(adapted, param_info, grads, params, wd, decays(1.0, mask, params))
        inside, outside = (lr, 1) if lr_inside else (1, lr)
        mu = jax.tree.map(lambda m, u: (momentum * m + inside * u).astype(m.dtype), state.mu, u)
        return jax.tree.map(lambda m: (-outside * m).astype(m.dtype), mu), LarsState(state.count + 1, mu)

    return optax.GradientTransformation(
        lambda params: LarsState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params)), update
    )
