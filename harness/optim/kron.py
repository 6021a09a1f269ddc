"""Kron: PSGD with a triangular preconditioner for each side of a matrix, fitted as training goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import PyTree
from harness.optim.blocks import Blocks, along, from_blocks, gram, sides, to_blocks
from harness.optim.checks import expect, expect_rate
from harness.optim.norms import precise
from harness.optim.rates import Mask, decays, rate_at, with_params

DAMPING = float(jnp.finfo(jnp.float32).eps) ** 0.5  # of float32 in all precisions
MAX_RMS = 1.1
Factors = tuple[jax.Array, ...]
"""Upper triangular Q_Nnn for each side of a stack's blocks, or Q_Nn: a diagonal."""


class KronState(NamedTuple):
    """Stacks of blocks (`harness.optim.blocks`), and their factors by side.

    Attributes:
      count: steps done, int32.
      seed: uint32 that the probes are drawn from; may be replaced before the first step.
      waited: steps since the factors were last updated, int32.
      mu: average of the gradients.
      factors: Q_1 and Q_2.
    """

    count: jax.Array  # type: ignore[assignment]
    seed: jax.Array
    waited: jax.Array
    mu: Blocks
    factors: dict[str, Factors]


def update_probability(count: jax.Array) -> jax.Array:
    """Return the share of steps that update the factors: 1 for 500 steps, then exp(-0.001 (t - 500)), 0.03 at least."""
    return jnp.clip(jnp.exp(-0.001 * (count - 500)), 0.03, 1)


def kron(
    learning_rate: optax.ScalarOrSchedule,
    param_info: PyTree,
    b1: float = 0.9,
    weight_decay: float = 0.0,
    precond_lr: float = 0.1,
    precond_init_scale: float = 1.0,
    update_probability: optax.ScalarOrSchedule = update_probability,
    max_size_triangular: int = 8192,
    mask: Mask = None,
    *,
    probe: Callable[[jax.Array], PyTree] | None = None,
    seed: int = 0,
) -> optax.GradientTransformation:
    """Return Kron for all parameters; vectors, and sides that are longer, have diagonal factors.

    With t = 1, 2, ..., the gradient G and the weight W of each matrix, and V ~ N(0, 1) of the same shape:

        M   <- b1 M + (1 - b1) G                         Mh = M / (1 - b1^t)
        A    = Q_1 (Mh + c mean|Mh| V) Q_2^T             c = sqrt(eps of float32), in all precisions
        B    = Q_1^-T V Q_2^-1
        Q_1 <- Q_1 - precond_lr triu(A A^T - B B^T) Q_1 / bound(A A^T + B B^T)       Q_2 with A^T A, B^T B
        U    = Q_1^T Q_1 Mh Q_2^T Q_2                    by the new factors, without V
        W   <- W - lr (U min(1, 1.1 / RMS(U)) + weight_decay W)

    bound(S) is one power iteration on S from its longest column; of a diagonal the largest entry. Q_1 and Q_2 are first
    scaled to the same largest entry, which changes nothing but rounding: the authors do so on 1% of the steps.

    The factors are updated, in a branch, as soon as 1 / update_probability steps have gone by; the authors draw it.

    Parameters with fan-in and fan-out are matrices, embeddings and output layers too, as `harness.optim.blocks` has it;
    a convolution kernel is its (height * width * in, out) matrix, where the authors have a factor for each axis.

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.
      param_info: tree of `harness.api.ParamInfo` like the parameters.
      update_probability: a number, or a schedule called with the step counted from 0.
      mask: tree of booleans like the parameters (or a function to one): where weight decay applies; None: everywhere.
      probe: steps done -> the tree of V like the parameters, instead of the draw.
      seed: of V, kept in the state.

    Raises SubmissionError for hyperparameters out of range.

    Source: Li (2018), arXiv:1512.04202; Pooladzandi and Li (2024), arXiv:2402.04553; the steps are those of Walters'
    kron.
    """
    expect_rate("kron", learning_rate)
    expect("kron: b1", b1, 0, 1)
    expect("kron: weight_decay", weight_decay, 0)
    expect("kron: precond_lr", precond_lr, 0)
    expect("kron: precond_init_scale", precond_init_scale, 0, above=True)
    expect("kron: max_size_triangular", max_size_triangular, 0, whole=True)

    def init(params: PyTree) -> KronState:
        mu = to_blocks(param_info, optax.tree.zeros_like(params))
        count, waited = (jnp.zeros((), jnp.int32) for _ in range(2))
        return KronState(count, jnp.array(seed, jnp.uint32), waited, mu, {name: first(x) for name, x in mu.items()})

    def first(x: jax.Array) -> Factors:
        scale = precond_init_scale ** (1 / len(sides(x)))
        return tuple(
            jnp.broadcast_to(scale * jnp.eye(n, dtype=x.dtype), (len(x), n, n))
            if x.ndim == 3 and n <= max_size_triangular
            else jnp.full((len(x), n), scale, x.dtype)
            for n in x.shape[1:]
        )

    def update(grads: PyTree, state: KronState, params: PyTree = None) -> tuple[PyTree, KronState]:
        params, t, lr = with_params("kron", params), state.count + 1, rate_at(learning_rate, state.count)
        G = to_blocks(param_info, grads)
        mu = {name: (b1 * state.mu[name] + (1 - b1) * g).astype(g.dtype) for name, g in G.items()}
        Mh = {name: m / (1 - b1**t) for name, m in mu.items()}

        def fitted() -> dict[str, Factors]:
            key = jax.random.fold_in(jax.random.key(state.seed), state.count)
            V = to_blocks(param_info, optax.tree.random_like(key, grads) if probe is None else probe(state.count))
            return {name: _fitted(_balanced(Q), Mh[name], V[name], precond_lr) for name, Q in state.factors.items()}

        due = state.waited + 1 >= 1 / rate_at(update_probability, state.count)
        factors = jax.lax.cond(due, fitted, lambda: state.factors)
        U = {name: _bounded(_whitened(factors[name], m)).astype(G[name].dtype) for name, m in Mh.items()}
        updates = jax.tree.map(
            lambda u, p, wd: (-lr * (u + wd * p)).astype(p.dtype),
            from_blocks(param_info, U, grads), params, decays(weight_decay, mask, params),
        )  # fmt: skip
        return updates, KronState(t, state.seed, jnp.where(due, 0, state.waited + 1), mu, factors)

    return optax.GradientTransformation(init, update)


def _by(Q: jax.Array, x: jax.Array, side: int) -> jax.Array:
    """Return Q X for the rows, X Q^T for the columns."""
    if Q.ndim == 3:
        return along(Q, x, side)
    return x * jnp.expand_dims(Q, tuple(axis for axis in range(1, x.ndim) if axis != side + 1))


def _inverse_by(Q: jax.Array, x: jax.Array, side: int) -> jax.Array:
    """Return Q^-T X for the rows, X Q^-1 for the columns."""
    if Q.ndim == 2:
        return _by(1 / Q, x, side)
    Q, x = precise(Q), precise(x)
    return jax.lax.linalg.triangular_solve(Q, x, left_side=side == 0, lower=False, transpose_a=side == 0)


def _whitened(factors: Factors, x: jax.Array) -> jax.Array:
    for side, Q in enumerate(factors):
        x = _by(Q, x, side)
        x = _by(Q.mT if Q.ndim == 3 else Q, x, side)
    return x


def _bounded(u: jax.Array) -> jax.Array:
    rms = jnp.sqrt(jnp.mean(u**2, axis=tuple(range(1, u.ndim)), keepdims=True))
    return u * jnp.minimum(1, MAX_RMS / (rms + 1e-12))


def _largest(x: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(x), axis=tuple(range(1, x.ndim)), keepdims=True)


def _balanced(factors: Factors) -> Factors:
    """Return the factors with the same largest entry and the same product."""
    if len(factors) == 1:
        return factors
    one, other = (_largest(Q).reshape(-1) for Q in factors)
    mean = jnp.sqrt(one * other)
    shares = (mean / one, mean / other)
    return tuple(Q * share.reshape(-1, *[1] * (Q.ndim - 1)) for Q, share in zip(factors, shares, strict=True))


def _fitted(factors: Factors, m: jax.Array, V: jax.Array, precond_lr: Any) -> Factors:
    A = m + DAMPING * jnp.mean(jnp.abs(m), axis=tuple(range(1, m.ndim)), keepdims=True) * V
    B = V
    for side, Q in enumerate(factors):
        A, B = _by(Q, A, side), _inverse_by(Q, B, side)
    new = []
    for side, Q in enumerate(factors):
        if Q.ndim == 2:
            others = tuple(axis for axis in range(1, m.ndim) if axis != side + 1)
            a, b = jnp.sum(A**2, axis=others), jnp.sum(B**2, axis=others)
            new.append((Q - precond_lr * (a - b) * Q / _largest(a + b)).astype(Q.dtype))
        else:
            a, b = gram(A, side), gram(B, side)
            new.append((Q - precond_lr * jnp.triu(a - b) / _spectral_bound(a + b) @ Q).astype(Q.dtype))
    return tuple(new)


def _spectral_bound(S: jax.Array) -> jax.Array:
    """Return a lower bound of the largest singular value of each symmetric matrix, [N, 1, 1]."""
    largest = _largest(S)
    S = S / largest
    longest = jnp.argmax(jnp.sum(S * S, axis=1), axis=-1)
    x = jnp.take_along_axis(S, longest[:, None, None], axis=2).mT @ S  # a row
    x = x / jnp.sqrt(jnp.sum(x * x, axis=2, keepdims=True))
    return jnp.sqrt(jnp.sum((S @ x.mT) ** 2, axis=1, keepdims=True)) * largest
