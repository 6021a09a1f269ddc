"""AdamP and SGDP: steps without the part that only makes scale-invariant weights longer.

Shapes: S layers in a stack, C channels, n numbers in a channel.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import ParamInfo, ParamKind, PyTree
from harness.optim.checks import expect, expect_rate
from harness.optim.matrices import map_with_info, view
from harness.optim.norms import norm
from harness.optim.rates import Mask, decays, expect_adam, rate_at, with_params


class SgdpState(NamedTuple):
    """`count`: steps done, int32; `mu`: the momentum, like the parameters."""

    count: jax.Array  # type: ignore[assignment]
    mu: PyTree


def adamp(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    delta: float = 0.1,
    wd_ratio: float = 0.1,
    mask: Mask = None,
    *,
    param_info: PyTree | None = None,
) -> optax.GradientTransformation:
    """Return AdamP.

    With t = 1, 2, ..., and the gradient G, the weight W of each layer:

        m <- b1 m + (1 - b1) G                    v <- b2 v + (1 - b2) G^2
        U  = m / (sqrt(v / (1 - b2^t)) + eps)
        U  = U - (W / ||W||) <W / ||W||, U>       where the largest |cos(W, G)| of all channels is below
                                                  delta / sqrt(n): channel by channel; else the whole layer as
                                                  one, by the same test; else not at all
        W <- W - lr U / (1 - b1^t) - lr weight_decay r W         r = wd_ratio where U was projected, else 1

    Channels are outputs. Vectors are never projected. State: two numbers per parameter.

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.
      mask: tree of booleans like the parameters (or a function to one): where weight decay applies; None: everywhere.
      param_info: tree of `harness.api.ParamInfo` like the parameters, which says where outputs and stacked layers are;
        None: the last axis of each parameter with two or more. The channels of a table of embeddings are its rows, as
        in PyTorch.

    Raises SubmissionError for hyperparameters out of range.

    Source: Heo et al. (2021), arXiv:2006.08217, Algorithm 2 and eq. 11.
    """
    expect_adam("adamp", learning_rate, b1, b2, eps, weight_decay)
    _expect("adamp", delta, wd_ratio)

    def init(params: PyTree) -> optax.ScaleByAdamState:
        zeros = optax.tree.zeros_like(params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, optax.tree.zeros_like(params))

    def update(
        grads: PyTree, state: optax.ScaleByAdamState, params: PyTree = None
    ) -> tuple[PyTree, optax.ScaleByAdamState]:
        params, t, lr = with_params("adamp", params), state.count + 1, rate_at(learning_rate, state.count)
        mu = jax.tree.map(lambda m, g: (b1 * m + (1 - b1) * g).astype(m.dtype), state.mu, grads)
        nu = jax.tree.map(lambda v, g: (b2 * v + (1 - b2) * g**2).astype(v.dtype), state.nu, grads)
        u = jax.tree.map(lambda m, v: m / (jnp.sqrt(v / (1 - b2**t)) + eps), mu, nu)
        wd = decays(weight_decay, mask, params)
        updates = _projected(params, grads, u, wd, lr / (1 - b1**t), lr, (delta, wd_ratio, eps), param_info)
        return updates, optax.ScaleByAdamState(t, mu, nu)

    return optax.GradientTransformation(init, update)


def sgdp(
    learning_rate: optax.ScalarOrSchedule,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    delta: float = 0.1,
    wd_ratio: float = 0.1,
    eps: float = 1e-8,
    mask: Mask = None,
    *,
    param_info: PyTree | None = None,
) -> optax.GradientTransformation:
    """Return SGDP: the projection of `adamp` on the step of SGD with momentum.

        m <- momentum m + G
        W <- W - lr U - lr weight_decay / (1 - momentum) r W       U: m, projected

    The decay is divided so that it is as strong as one inside the gradient. State: m, one number per parameter.

    Args and errors are those of `adamp`.

    Source: Heo et al. (2021), arXiv:2006.08217, Algorithm 1 and the code published with it.
    """
    expect_rate("sgdp", learning_rate)
    expect("sgdp: momentum", momentum, 0, 1)
    expect("sgdp: weight_decay", weight_decay, 0)
    expect("sgdp: eps", eps, 0)
    _expect("sgdp", delta, wd_ratio)

    def update(grads: PyTree, state: SgdpState, params: PyTree = None) -> tuple[PyTree, SgdpState]:
        params, lr = with_params("sgdp", params), rate_at(learning_rate, state.count)
        mu = jax.tree.map(lambda m, g: (momentum * m + g).astype(m.dtype), state.mu, grads)
        wd = decays(weight_decay / (1 - momentum), mask, params)
        updates = _projected(params, grads, mu, wd, lr, lr, (delta, wd_ratio, eps), param_info)
        return updates, SgdpState(state.count + 1, mu)

    return optax.GradientTransformation(
        lambda params: SgdpState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params)), update
    )


def _projected(
    params: PyTree,
    grads: PyTree,
    steps: PyTree,
    wd: PyTree,
    lr: jax.Array,
    decay_rate: jax.Array,
    options: tuple[float, float, float],
    param_info: PyTree | None,
) -> PyTree:
    """Return the updates -lr U - decay_rate wd r W."""

    def move(info: ParamInfo | None, p: jax.Array, g: jax.Array, u: jax.Array, wd: float) -> jax.Array:
        if p.ndim < 2 if info is None else not (info.in_axes and info.out_axes):
            return (-lr * u - decay_rate * wd * p).astype(p.dtype)

        def channels(x: jax.Array) -> jax.Array:
            x_SIO = x.reshape(1, -1, x.shape[-1]) if info is None else view(info).split(x)
            return x_SIO if info is not None and info.kind is ParamKind.EMBEDDING else x_SIO.mT

        p_SCn = channels(p)
        u_SCn, ratio = _project(p_SCn, channels(g), channels(u), *options)
        (update,) = jax.linear_transpose(channels, p)((-lr * u_SCn - decay_rate * wd * ratio * p_SCn).astype(p.dtype))
        return update

    if param_info is None:
        return jax.tree.map(partial(move, None), params, grads, steps, wd)
    return map_with_info(move, param_info, params, grads, steps, wd)


def _project(
    w_SCn: jax.Array, g_SCn: jax.Array, u_SCn: jax.Array, delta: float, wd_ratio: float, eps: float
) -> tuple[jax.Array, jax.Array]:
    """Return the projected steps, and the share of the decay of each layer, ratio_S11."""
    S, C, n = w_SCn.shape
    done, ratio = u_SCn, jnp.ones((S, 1, 1), u_SCn.dtype)
    for shape in ((S, 1, C * n), (S, C, n)):  # the channels' projection last: it goes first where both are allowed
        w, g, u = (x.reshape(shape) for x in (w_SCn, g_SCn, u_SCn))
        length = norm(w, (2,))
        product = jnp.abs(jnp.sum(w * g, axis=2, keepdims=True))
        cosine = product / (jnp.maximum(length, eps) * jnp.maximum(norm(g, (2,)), eps))
        invariant = jnp.max(cosine, axis=1, keepdims=True) < delta / shape[2] ** 0.5
        unit = w / (length + eps)
        radial = (unit * jnp.sum(unit * u, axis=2, keepdims=True)).reshape(w_SCn.shape)
        done = jnp.where(invariant, u_SCn - radial, done)
        ratio = jnp.where(invariant, wd_ratio, ratio)
    return done, ratio


def _expect(rule: str, delta: float, wd_ratio: float) -> None:
    expect(f"{rule}: delta", delta, 0)
    expect(f"{rule}: wd_ratio", wd_ratio, 0)
