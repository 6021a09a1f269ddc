"""Mechanic: a wrapper that learns by how much to scale the steps of another optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import PyTree
from harness.optim.checks import expect
from harness.optim.rates import scalar, with_params

BETAS = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)


class MechanicState(NamedTuple):
    """`s`, `reward`, `variance` and `largest` hold a number for each beta, float32 at least; trees like the parameters.

    Attributes:
      inner: state of the optimizer whose steps are scaled.
      first: the first parameters.
      delta: sum of the steps.
      s, reward, variance, largest: s, r, v and m of `mechanic`.
    """

    inner: Any
    first: PyTree
    delta: PyTree
    s: jax.Array
    reward: jax.Array
    variance: jax.Array
    largest: jax.Array


def mechanic(
    inner: optax.GradientTransformation,
    betas: Sequence[float] = BETAS,
    s_init: float = 1e-8,
    s_decay: float = 1e-2,
    eps: float = 1e-8,
    *,
    package: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Return `inner`, a whole optimizer with a schedule and a rate of any size, with its steps scaled.

    With the gradient g, the step u of `inner` at x, Delta = 0 at first, all parameters one vector, and for each of the
    n betas:

        h  = <Delta, g + s_decay (sum s) ||g|| x / (||x|| + eps)>
        Delta <- Delta + u
        m <- max(beta m, |h|)
        v <- beta^2 v + h^2
        r <- max(0, beta r - s h)
        s  = (s_init m / n + r) / (sqrt(v) + eps)
        x  = x_1 + (sum s) Delta

    The scale is not shown to `inner`. With `package` m starts at 1e-6, and h takes x + u in the place of x, as in the
    authors' code: there s is s_init 1e-6 / eps after the first step, here 0. optax's `mechanize` is another rule.

    State: that of `inner`, and two numbers per parameter; Delta would lose digits as (x - x_1) / sum s.

    Raises SubmissionError for hyperparameters out of range.

    Source: Cutkosky, Defazio and Mehta (2023), arXiv:2306.00144, Algorithm 1.
    """
    for b in betas:
        expect("mechanic: betas", b, 0, 1)
    expect("mechanic: s_init", s_init, 0, above=True)
    expect("mechanic: s_decay", s_decay, 0)
    expect("mechanic: eps", eps, 0, above=True)
    inner = optax.with_extra_args_support(inner)

    def init(params: PyTree) -> MechanicState:
        s, reward, variance, zero = (scalar([0.0] * len(betas), params) for _ in range(4))
        first = jax.tree.map(jnp.copy, params)  # buffers of its own: the parameters may be donated
        delta = optax.tree.zeros_like(params)
        largest = zero + (1e-6 if package else 0.0)
        return MechanicState(inner.init(params), first, delta, s, reward, variance, largest)

    def update(
        grads: PyTree, state: MechanicState, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, MechanicState]:
        u, inner_state = inner.update(grads, state.inner, with_params("mechanic", params), **extra)
        x = optax.tree.add(params, u) if package else params
        beta, s = jnp.asarray(betas, state.s.dtype), state.s
        pull = s_decay * jnp.sum(s) * optax.tree.norm(grads) / (optax.tree.norm(x) + eps)
        h = optax.tree.vdot(state.delta, grads) + pull * optax.tree.vdot(state.delta, x)
        delta = jax.tree.map(lambda d, u: (d + u).astype(d.dtype), state.delta, u)
        largest = jnp.maximum(beta * state.largest, jnp.abs(h))
        variance = beta**2 * state.variance + h**2
        reward = jnp.maximum(beta * state.reward - s * h, 0)
        s = (s_init / len(betas) * largest + reward) / (jnp.sqrt(variance) + eps)
        scale = jnp.sum(s)
        updates = jax.tree.map(lambda a, d, p: (a + scale * d - p).astype(p.dtype), state.first, delta, params)
        numbers = [n.astype(state.s.dtype) for n in (s, reward, variance, largest)]
        return updates, MechanicState(inner_state, state.first, delta, *numbers)

    return optax.GradientTransformationExtraArgs(init, update)
