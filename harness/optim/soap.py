"""SOAP: Adam in the eigenbases of Shampoo's statistics."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import PyTree
from harness.optim.blocks import Blocks, along, from_blocks, gram, to_blocks
from harness.optim.checks import expect
from harness.optim.norms import precise
from harness.optim.rates import Mask, decays, expect_adam, rate_at, with_params

Sides = tuple[jax.Array | None, ...]
"""A matrix for each side of a stack's blocks: A_NII and A_NOO; None for a side that is not rotated."""


class SoapState(NamedTuple):
    """Stacks of blocks (`harness.optim.blocks`), and for each a matrix by side.

    Attributes:
      count: steps done, int32.
      mu: average of the gradients, not rotated.
      nu: average of the squared gradients in the bases.
      statistics: L and R, averages of G G^T and G^T G.
      bases: Q_L and Q_R, eigenvectors as columns.
    """

    count: jax.Array  # type: ignore[assignment]
    mu: Blocks
    nu: Blocks
    statistics: dict[str, Sides]
    bases: dict[str, Sides]


def soap(
    learning_rate: optax.ScalarOrSchedule,
    param_info: PyTree,
    b1: float = 0.95,
    b2: float = 0.95,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    precondition_frequency: int = 10,
    shampoo_beta: float | None = None,
    max_precond_dim: int = 10000,
    mask: Mask = None,
) -> optax.GradientTransformation:
    """Return SOAP for all parameters; vectors, which have no bases, take its Adam.

    The first gradient starts the statistics, whose eigenvectors are the first bases, and moves nothing. With s = 1, 2,
    ... from the second, the gradient G and the weight W of each matrix, and Q_L, Q_R of the step before:

        M  <- b1 M + (1 - b1) G
        V  <- b2 V + (1 - b2) (Q_L^T G Q_R)^2
        U   = Q_L [(Q_L^T M Q_R) / (sqrt(V) + eps)] Q_R^T
        W  <- W - lr sqrt(1 - b2^s) / (1 - b1^s) U          eps meets the uncorrected root
        W  <- W - lr weight_decay W                         after the step, on what it left
        L  <- beta L + (1 - beta) G G^T                     R with G^T G; from 0, no correction
        Q_L <- QR of L Q_L                                  when s is a multiple of precondition_frequency

    Before the QR the columns of Q_L, and V with them, are sorted by q^T L q, the largest first. V is not rotated when
    the bases change. The power iteration and its QR run in a branch: other steps do not pay for them.

    Parameters with fan-in and fan-out are matrices, embeddings and output layers too, as `harness.optim.blocks` has it;
    a convolution kernel is its (height * width * in, out) matrix, where the authors' code by default has a basis for
    each of four axes. Where the first gradient's statistics have a null space, as those of the longer side always have,
    any basis of it would do, and the authors take LAPACK's: here it is one that rounding does not change.

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.
      param_info: tree of `harness.api.ParamInfo` like the parameters.
      precondition_frequency: steps between new bases.
      shampoo_beta: beta; None for b2.
      max_precond_dim: sides longer than this are not rotated.
      mask: tree of booleans like the parameters (or a function to one): where weight decay applies; None: everywhere.

    Raises SubmissionError for hyperparameters out of range.

    Source: Vyas et al. (2024), arXiv:2409.11321, Algorithms 3 and 4, in the order of the authors' code.
    """
    expect_adam("soap", learning_rate, b1, b2, eps, weight_decay)
    expect("soap: precondition_frequency", precondition_frequency, 1, whole=True)
    expect("soap: max_precond_dim", max_precond_dim, 0, whole=True)
    beta = b2 if shampoo_beta is None else shampoo_beta
    expect("soap: shampoo_beta", beta, 0, 1)

    def init(params: PyTree) -> SoapState:
        zeros = to_blocks(param_info, optax.tree.zeros_like(params))
        square = {name: _by_side(zeros[name], max_precond_dim) for name in zeros}
        return SoapState(
            count=jnp.zeros((), jnp.int32),
            mu=zeros,
            nu=jax.tree.map(jnp.zeros_like, zeros),
            statistics=square,
            bases=jax.tree.map(lambda A: jnp.broadcast_to(jnp.eye(A.shape[-1], dtype=A.dtype), A.shape), square),
        )

    def update(grads: PyTree, state: SoapState, params: PyTree = None) -> tuple[PyTree, SoapState]:
        params, s, lr = with_params("soap", params), state.count, rate_at(learning_rate, state.count)
        started = s > 0
        G = to_blocks(param_info, grads)
        mu, nu, U = {}, {}, {}
        for name, g in G.items():
            Q = state.bases[name]
            mu[name] = jnp.where(started, b1 * state.mu[name] + (1 - b1) * g, 0).astype(g.dtype)
            nu[name] = jnp.where(started, b2 * state.nu[name] + (1 - b2) * _rotated(Q, g) ** 2, 0).astype(g.dtype)
            U[name] = _rotated(Q, _rotated(Q, mu[name]) / (jnp.sqrt(nu[name]) + eps), back=True).astype(g.dtype)
        # Without `started` the corrections would be 0 / 0.
        step = jnp.where(started, lr * jnp.sqrt(1 - b2**s) / jnp.where(started, 1 - b1**s, 1), 0)
        wd = decays(weight_decay, mask, params)

        def move(u: jax.Array, p: jax.Array, wd: float) -> jax.Array:
            delta = -step * u
            return (delta - jnp.where(started, lr * wd, 0) * (p + delta)).astype(p.dtype)

        updates = jax.tree.map(move, from_blocks(param_info, U, grads), params, wd)
        statistics = {
            name: tuple(
                None if L is None else (beta * L + (1 - beta) * gram(G[name], side)).astype(L.dtype)
                for side, L in enumerate(state.statistics[name])
            )
            for name in G
        }
        turn = jnp.where(s == 0, 1, jnp.where(s % precondition_frequency == 0, 2, 0))
        nu, bases = jax.lax.switch(turn, [_kept, _first, _refreshed], nu, statistics, state.bases)
        return updates, SoapState(s + 1, mu, nu, statistics, bases)

    return optax.GradientTransformation(init, update)


def _by_side(x: jax.Array, longest: int) -> Sides:
    """Return zeros A_Nnn for each side that is to be rotated; a vector has none."""
    shapes = x.shape[1:] if x.ndim == 3 else ()
    return tuple(jnp.zeros((len(x), n, n), x.dtype) if n <= longest else None for n in shapes)


def _rotated(bases: Sides, x: jax.Array, *, back: bool = False) -> jax.Array:
    for side, Q in enumerate(bases):
        if Q is not None:
            x = along(Q if back else Q.mT, x, side)
    return x


def _kept(nu: Blocks, statistics: dict[str, Sides], bases: dict[str, Sides]) -> tuple[Blocks, dict[str, Sides]]:
    return nu, bases


def _first(nu: Blocks, statistics: dict[str, Sides], bases: dict[str, Sides]) -> tuple[Blocks, dict[str, Sides]]:
    return nu, jax.tree.map(_eigenbasis, statistics)


def _eigenbasis(L: jax.Array) -> jax.Array:
    """Return the eigenvectors of each matrix as columns, of the largest eigenvalue first.

    Those of a null space are any basis of it, and which one LAPACK gives hangs on the last bit of the matrix. They are
    made the eigenvectors of diag(1, 2, ..., n) / n within it, which are far apart: so training does not hang on it.
    """
    n = L.shape[-1]
    values, V = jnp.linalg.eigh(precise(L))  # the smallest eigenvalue first
    null = (values <= n * jnp.finfo(V.dtype).eps * values[..., -1:])[..., None, :]
    N = jnp.where(null, V, 0)
    D = jnp.broadcast_to(jnp.arange(1, n + 1, dtype=V.dtype)[:, None] / n, V.shape)
    within = jnp.linalg.eigh(N.mT @ (D * N))[1][..., ::-1]  # behind those of the null space the zeros of the others
    return jnp.where(null, N @ within, V)[..., ::-1].astype(L.dtype)


def _refreshed(nu: Blocks, statistics: dict[str, Sides], bases: dict[str, Sides]) -> tuple[Blocks, dict[str, Sides]]:
    """Return the bases after one power iteration, V in their order (Algorithm 4)."""
    sorted_nu, refreshed = dict(nu), {}
    for name, pair in bases.items():
        new: list[jax.Array | None] = []
        for side, (L, Q) in enumerate(zip(statistics[name], pair, strict=True)):
            if L is None or Q is None:
                new.append(None)
                continue
            power = L @ Q
            order = jnp.argsort(-jnp.sum(Q * power, axis=1), axis=-1)
            along_side = order[:, None, :] if side else order[:, :, None]
            sorted_nu[name] = jnp.take_along_axis(sorted_nu[name], along_side, axis=side + 1)
            ordered = jnp.take_along_axis(power, order[:, None, :], axis=2)
            new.append(jnp.linalg.qr(precise(ordered))[0].astype(Q.dtype))
        refreshed[name] = tuple(new)
    return sorted_nu, refreshed
