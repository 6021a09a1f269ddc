"""APOLLO and APOLLO-Mini: AdamW whose moments live in a random low-rank space and only scale the gradient.

Shapes: S matrices in a stack, I fan-in, O fan-out, r rank, C = max(I, O) channels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import ParamInfo, PyTree
from harness.errors import SubmissionError
from harness.optim.checks import expect, expect_choice, expect_rate
from harness.optim.matrices import expect_matrices, is_matrix_like, map_with_info, view
from harness.optim.norms import norm, precise
from harness.optim.projections import (
    Projection,
    channels_are_outputs,
    draw,
    inject,
    names_and_places,
    project,
    projected_shape,
    projection_shape,
)


class ApolloState(NamedTuple):
    """Arrays like the parameters but for matrices and convolution kernels.

    Attributes:
      count: steps done, int32.
      seed: uint32 that the projections are drawn from; may be replaced before the first step.
      mu, nu: moments of the projected gradient, R_SrC; of the gradient where nothing is projected.
      length: norm of the last update of each matrix before lr, float32[S] at least; nowhere else, and not kept without
        the limiter.
    """

    count: jax.Array  # type: ignore[assignment]
    seed: jax.Array
    mu: PyTree
    nu: PyTree
    length: PyTree


def apollo(
    learning_rate: optax.ScalarOrSchedule,
    param_info: PyTree,
    rank: int,
    scale: float = 1.0,
    scale_type: Literal["channel", "tensor"] = "channel",
    update_gap: int = 200,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    norm_growth: float | None = 1.01,
    weight_decay: float = 0.0,
    projection: Projection | None = None,
    *,
    mask: PyTree | Callable[[PyTree], PyTree] | None = None,
    seed: int = 0,
) -> optax.GradientTransformation:
    """Return APOLLO; APOLLO-Mini is rank=1, scale=128, scale_type="tensor".

    With t = 1, 2, ..., the gradient G of each matrix W, rows = fan-out and columns = fan-in as in the paper, and P
    drawn anew with entries N(0, 1 / r) whenever (t - 1) mod update_gap = 0:

        R  = G P^T  with P of (r, columns)                if rows >= columns: one channel per row
        R  = P^T G  with P of (rows, r)                   otherwise: one channel per column
        m <- b1 m + (1 - b1) R                            neither reset nor rotated when P changes
        v <- b2 v + (1 - b2) R^2
        Rt = m / (sqrt(v) + eps)                          no bias correction here
        s  = ||Rt|| / (||R|| + 1e-8)                      "channel": norms over r; "tensor": over all of R
        U  = G s                                          the gradient itself, no momentum
        L  = max(||U|| / (n + 1e-8), norm_growth) / norm_growth     norm-growth limiter, from the second step on
        U <- U / L,  n <- ||U||
        W <- W - lr sqrt(1 - b2^t) / (1 - b1^t) sqrt(scale) U
        W <- W - lr weight_decay W                        after the step, on what it left

    Every other parameter takes the Adam of the same code: m and v of G itself, U = m / (sqrt(v) + eps), neither limiter
    nor scale. Beside `optax.adam` its eps acts as eps / sqrt(1 - b2^t).

    The limiter waits for the first update that is not 0. (In the authors' code an exactly zero first gradient, as
    behind a layer that starts at 0, holds the matrix to updates of norm 1e-8 that grow by 1% a step.)

    P is not stored: it is drawn again at each step from (seed, place of the parameter in `param_info`, number of the
    refresh), which costs r min(rows, columns) normal draws a matrix and no memory, and never retraces. State: 2 r C
    numbers for a matrix and its n, two numbers for each other parameter.

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.
      param_info: tree of `harness.api.ParamInfo` like the parameters. Every index of a layer, qkv or expert axis is a
        matrix of its own, with its own P, s and n; heads are merged; a convolution is (height * width * in, out).
      rank: r, the same for all matrices; the paper takes a quarter of the model's width.
      scale: alpha of the paper; the update grows by its root.
      norm_growth: None for no limiter.
      projection: (name, refresh index, shape) -> P, instead of the draw. The name is the parameter's path joined with
        "/"; the index, int32 and traced under jit, counts from 0; the shape is that of P above, with S in front for
        a parameter that has stacked axes. One P without S serves all of the stack.
      mask: tree of booleans like the parameters (or a function to one): where weight decay applies; None: everywhere.
      seed: of the projections, kept in the state.

    Raises SubmissionError for a tree without matrices and for hyperparameters out of range.

    Source: Zhu et al. (2025), arXiv:2412.05270, Algorithm 1; the limiter is that of Fira, Chen et al. (2024),
    arXiv:2410.01623; conventions follow the code published with APOLLO, "std" projection.
    """
    expect_choice("apollo: scale_type", scale_type, ("channel", "tensor"))
    expect_matrices("apollo", param_info)
    expect_rate("apollo", learning_rate)
    expect("apollo: rank", rank, 1, whole=True)
    expect("apollo: scale", scale, 0, above=True)
    expect("apollo: update_gap", update_gap, 1, whole=True)
    expect("apollo: b1", b1, 0, 1)
    expect("apollo: b2", b2, 0, 1)
    expect("apollo: eps", eps, 0)
    expect("apollo: weight_decay", weight_decay, 0)
    if norm_growth is not None:
        expect("apollo: norm_growth", norm_growth, 1)
    places = names_and_places(param_info)
    everywhere = jax.tree.map(lambda _: True, param_info)

    def init(params: PyTree) -> ApolloState:
        matrices = map_with_info(_split, param_info, params)
        return ApolloState(
            count=jnp.zeros((), jnp.int32),
            seed=jnp.array(seed, jnp.uint32),
            mu=map_with_info(moment, param_info, matrices),
            nu=map_with_info(moment, param_info, matrices),
            length=map_with_info(no_length, param_info, matrices),
        )

    def moment(info: ParamInfo, p: jax.Array) -> jax.Array:
        return jnp.zeros(projected_shape(p.shape, rank) if is_matrix_like(info) else p.shape, p.dtype)

    def no_length(info: ParamInfo, p: jax.Array) -> Any:
        limited = is_matrix_like(info) and norm_growth is not None
        return jnp.zeros(p.shape[0], precise(p).dtype) if limited else optax.MaskedNode()

    def update(grads: PyTree, state: ApolloState, params: PyTree = None) -> tuple[PyTree, ApolloState]:
        if params is None:
            raise SubmissionError("apollo: update() needs the parameters: weight decay acts on what the step left")
        G = map_with_info(_split, param_info, grads)
        R = map_with_info(partial(low_rank, state.seed, state.count // update_gap), param_info, G, places)
        mu = jax.tree.map(lambda m, R: (b1 * m + (1 - b1) * R).astype(m.dtype), state.mu, R)
        nu = jax.tree.map(lambda v, R: (b2 * v + (1 - b2) * R**2).astype(v.dtype), state.nu, R)
        Rt = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
        U = map_with_info(direction, param_info, G, R, Rt)
        U = map_with_info(limited, param_info, U, state.length)
        length = map_with_info(new_length, param_info, U, state.length)
        t = state.count + 1
        lr = learning_rate(state.count) if callable(learning_rate) else learning_rate
        step = lr * jnp.sqrt(1 - b2**t) / (1 - b1**t)
        decayed = mask(params) if callable(mask) else everywhere if mask is None else mask
        updates = map_with_info(partial(move, lr, step), param_info, params, U, decayed)
        return updates, ApolloState(t, state.seed, mu, nu, length)

    def low_rank(seed: jax.Array, refresh: jax.Array, info: ParamInfo, G: jax.Array, at: tuple[str, int]) -> jax.Array:
        if not is_matrix_like(info):
            return G
        shape, (name, place) = projection_shape(G.shape, rank), at
        if projection is None:
            return project(draw(seed, place, refresh, shape, rank), G)
        return project(inject(projection, name, refresh, shape, stacked=bool(view(info).stack_axes)), G)

    def direction(info: ParamInfo, G: jax.Array, R: jax.Array, Rt: jax.Array) -> jax.Array:
        if not is_matrix_like(info):
            return Rt
        axes = (1,) if scale_type == "channel" else (1, 2)
        s = norm(Rt, axes) / (norm(R, axes) + 1e-8)
        return G * (s if scale_type == "tensor" or channels_are_outputs(G.shape) else s.mT)

    def limited(info: ParamInfo, U: jax.Array, n: Any) -> jax.Array:
        if norm_growth is None or not is_matrix_like(info):
            return U
        n = n[:, None, None]
        L = jnp.maximum(norm(U, (1, 2)) / (n + 1e-8), norm_growth) / norm_growth
        return U / jnp.where(n > 0, L, 1)

    def new_length(info: ParamInfo, U: jax.Array, n: Any) -> Any:
        return norm(U, (1, 2))[:, 0, 0] if norm_growth is not None and is_matrix_like(info) else n

    def move(lr: jax.Array, step: jax.Array, info: ParamInfo, p: jax.Array, U: jax.Array, decays: bool) -> jax.Array:
        if is_matrix_like(info):
            U = scale**0.5 * view(info).join(U, p.shape)
        delta = -step * U
        return (delta - lr * weight_decay * (p + delta) if decays else delta).astype(p.dtype)

    return optax.GradientTransformation(init, update)


def _split(info: ParamInfo, x: jax.Array) -> jax.Array:
    return view(info).split(x) if is_matrix_like(info) else x
