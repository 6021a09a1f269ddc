"""Cautious: a wrapper that leaves out the entries of a step that point against the gradient."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from harness.api import PyTree
from harness.optim.layers import map_layers
from harness.optim.norms import precise


def cautious(
    inner: optax.GradientTransformation, *, param_info: PyTree | None = None
) -> optax.GradientTransformationExtraArgs:
    """Return `inner`, a whole optimizer such as `optax.adamw(rate)`, with its steps masked.

    With u the update of `inner`, which is added to the parameters, without the part that decays them:

        mask = [u g < 0]                                 u goes down the hill where the gradient g does
        u   <- u mask / max(mean(mask), 1e-3)            the mean over one parameter, or each layer with `param_info`

    The state of `inner` sees no mask. Decay is not masked, as in the authors' code: it is what an update at the
    parameters has beyond one at zeros. So `inner` may decay the parameters, and use them for nothing else (no LAMB).

    Source: Liang et al. (2024), arXiv:2411.16085, Algorithms 1 and 2; the quotient is that of the authors' code.
    """
    inner = optax.with_extra_args_support(inner)

    def update(grads: PyTree, state: Any, params: PyTree = None, **extra: Any) -> tuple[PyTree, Any]:
        whole, new_state = inner.update(grads, state, params, **extra)
        zeros = None if params is None else optax.tree.zeros_like(params)
        steps, _ = inner.update(grads, state, zeros, **extra)
        return map_layers(masked, param_info, steps, whole, grads), new_state

    def masked(axes: tuple[int, ...], u: jax.Array, whole: jax.Array, g: jax.Array) -> jax.Array:
        kept = precise((u * g < 0).astype(u.dtype))
        share = jnp.maximum(jnp.mean(kept, axis=axes, keepdims=True), 1e-3)
        return (u * kept / share + (whole - u)).astype(u.dtype)

    return optax.GradientTransformationExtraArgs(inner.init, update)
