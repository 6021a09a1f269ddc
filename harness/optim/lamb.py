"""LAMB: Adam whose step is as long, layer by layer, as a share of the weights it moves."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from harness.api import ParamInfo, PyTree
from harness.optim.checks import expect, expect_rate
from harness.optim.matrices import map_with_info, stack_axes
from harness.optim.norms import norm


def lamb(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.01,
    mask: PyTree | Callable[[PyTree], PyTree] | None = None,
    trust_clip: float | None = None,
    *,
    param_info: PyTree | None = None,
) -> optax.GradientTransformation:
    """Return LAMB.

    With t = 1, 2, ... and the gradient g:

        m  <- b1 m + (1 - b1) g                    mh = m / (1 - b1^t)
        v  <- b2 v + (1 - b2) g^2                  vh = v / (1 - b2^t)
        u   = mh / (sqrt(vh) + eps) + weight_decay p
        phi = ||p|| / ||u||                        1 where either is 0; at most `trust_clip`
        p  <- p - lr phi u

    The norms are over one parameter, or with `param_info` over each layer, expert, query, key and value in it. State:
    (count, m, v), two numbers per parameter.

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.
      mask: tree of booleans like the parameters (or a function to one): where weight decay *and* adaptation apply;
        elsewhere phi = 1 and nothing decays, as BERT's code does for biases and normalisation. None: everywhere.
      trust_clip: upper bound of phi (1 in LAMBC); None for none, as in the paper's experiments.
      param_info: tree of `harness.api.ParamInfo` like the parameters, for parameters that stack several layers.

    Raises SubmissionError for hyperparameters out of range.

    Source: You et al. (2020), arXiv:1904.00962, Algorithm 2, with phi the identity.
    """
    expect_rate("lamb", learning_rate)
    expect("lamb: b1", b1, 0, 1)
    expect("lamb: b2", b2, 0, 1)
    expect("lamb: eps", eps, 0)
    expect("lamb: weight_decay", weight_decay, 0)
    if trust_clip is not None:
        expect("lamb: trust_clip", trust_clip, 0, above=True)
    adapt = scale_by_trust_ratio(trust_clip, param_info)
    return optax.chain(
        optax.scale_by_adam(b1, b2, eps),
        optax.add_decayed_weights(weight_decay, mask),
        adapt if mask is None else optax.masked(adapt, mask),
        optax.scale_by_learning_rate(learning_rate),
    )


def scale_by_trust_ratio(
    trust_clip: float | None = None, param_info: PyTree | None = None
) -> optax.GradientTransformation:
    """Return the transform u -> phi u of `lamb`. optax's has neither the clip nor a ratio for each stacked layer."""

    def scaled(u: jax.Array, p: jax.Array, axes: tuple[int, ...]) -> jax.Array:
        norm_p, norm_u = norm(p, axes), norm(u, axes)
        phi = jnp.where((norm_p > 0) & (norm_u > 0), norm_p / jnp.where(norm_u > 0, norm_u, 1), 1)
        return (phi if trust_clip is None else jnp.minimum(phi, trust_clip)).astype(u.dtype) * u

    def of_layers(info: ParamInfo, u: jax.Array, p: jax.Array) -> jax.Array:
        stack = stack_axes(info)
        return scaled(u, p, tuple(axis for axis in range(u.ndim) if axis not in stack))

    def update(updates: PyTree, state: optax.EmptyState, params: PyTree = None) -> tuple[PyTree, optax.EmptyState]:
        if param_info is None:
            return jax.tree.map(lambda u, p: scaled(u, p, tuple(range(u.ndim))), updates, params), state
        return map_with_info(of_layers, param_info, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
