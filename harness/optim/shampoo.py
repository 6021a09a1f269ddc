"""Shampoo: gradients preconditioned from both sides, as long as Adam's step."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import PyTree
from harness.optim.blocks import Blocks, along, block_norm, from_blocks, gram, sides, to_blocks
from harness.optim.checks import expect
from harness.optim.norms import precise
from harness.optim.rates import Mask, decays, expect_adam, rate_at, with_params


class ShampooState(NamedTuple):
    """Stacks of blocks (`harness.optim.blocks`), and for each a matrix by side, A_NII and A_NOO.

    Attributes:
      count: steps done, int32.
      mu: average of the gradients.
      nu: average of their squares, for the step's length.
      statistics: L and R, averages of G G^T and G^T G.
      roots: their inverse roots when they were last taken.
    """

    count: jax.Array  # type: ignore[assignment]
    mu: Blocks
    nu: Blocks
    statistics: dict[str, tuple[jax.Array, ...]]
    roots: dict[str, tuple[jax.Array, ...]]


def shampoo(
    learning_rate: optax.ScalarOrSchedule,
    param_info: PyTree,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-12,
    weight_decay: float = 0.0,
    precondition_frequency: int = 100,
    block_size: int = 1024,
    start_preconditioning_step: int | None = None,
    grafting_eps: float = 1e-8,
    mask: Mask = None,
) -> optax.GradientTransformation:
    """Return Shampoo with blocks and grafting, as the winner of AlgoPerf's external tuning has it.

    With t = 1, 2, ..., and the gradient G and the weight W of each block:

        L <- b2 L + (1 - b2) G G^T                  R with G^T G
        M <- b1 M + (1 - b1) G                      Mh = M / (1 - b1^t)
        V <- b2 V + (1 - b2) G^2                    Vh = V / (1 - b2^t)
        A  = Mh / (sqrt(Vh) + grafting_eps)         Adam's step: alone before start_preconditioning_step
        U  = P_L Mh P_R                             P_L = (L / (1 - b2^t) + eps I)^(-1/4); P_R of R
        W <- W - lr (||A|| U / ||U|| + weight_decay W)

    The roots are taken at start_preconditioning_step and at each later multiple of precondition_frequency, this step's
    gradient in them, by an eigendecomposition in a branch: other steps do not pay for it. Vectors have one side, with
    the root -1/2.

    Parameters with fan-in and fan-out are matrices, embeddings and output layers too, as `harness.optim.blocks` has it;
    convolution kernels are their (height * width * in, out) matrices. (The winner merges small axes of other tensors.)

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.
      param_info: tree of `harness.api.ParamInfo` like the parameters.
      block_size: longest side of a block, which has statistics and a length of its own; the last may be shorter.
      start_preconditioning_step: None for precondition_frequency.
      mask: tree of booleans like the parameters (or a function to one): where weight decay applies; None: everywhere.

    Raises SubmissionError for hyperparameters out of range.

    Source: Gupta, Koren and Singer (2018), arXiv:1802.09568, Algorithm 1; Shi et al. (2023), arXiv:2309.06497.
    """
    expect_adam("shampoo", learning_rate, b1, b2, eps, weight_decay)
    expect("shampoo: precondition_frequency", precondition_frequency, 1, whole=True)
    expect("shampoo: block_size", block_size, 1, whole=True)
    expect("shampoo: grafting_eps", grafting_eps, 0)
    start = precondition_frequency if start_preconditioning_step is None else start_preconditioning_step
    expect("shampoo: start_preconditioning_step", start, 1, whole=True)

    def init(params: PyTree) -> ShampooState:
        zeros = to_blocks(param_info, optax.tree.zeros_like(params), block_size)
        square = {name: tuple(jnp.zeros_like(gram(x, side)) for side in sides(x)) for name, x in zeros.items()}
        return ShampooState(jnp.zeros((), jnp.int32), zeros, *jax.tree.map(jnp.zeros_like, (zeros, square, square)))

    def update(grads: PyTree, state: ShampooState, params: PyTree = None) -> tuple[PyTree, ShampooState]:
        params, t, lr = with_params("shampoo", params), state.count + 1, rate_at(learning_rate, state.count)
        G = to_blocks(param_info, grads, block_size)

        def average(old: jax.Array, new: jax.Array, b: float) -> jax.Array:
            return (b * old + (1 - b) * new).astype(old.dtype)

        mu = {name: average(state.mu[name], g, b1) for name, g in G.items()}
        nu = {name: average(state.nu[name], g**2, b2) for name, g in G.items()}
        statistics = {
            name: tuple(average(L, gram(g, side), b2) for side, L in enumerate(state.statistics[name]))
            for name, g in G.items()
        }

        def roots() -> dict[str, tuple[jax.Array, ...]]:
            return {
                name: tuple(_inverse_root(L / (1 - b2**t), 2 * len(pair), eps).astype(L.dtype) for L in pair)
                for name, pair in statistics.items()
            }

        taken = (t == start) | ((t > start) & (t % precondition_frequency == 0))
        P = jax.lax.cond(taken, roots, lambda: state.roots)
        U = {}
        for name, m in mu.items():
            m = m / (1 - b1**t)
            adam = m / (jnp.sqrt(nu[name] / (1 - b2**t)) + grafting_eps)
            u = m
            for side, root in enumerate(P[name]):
                u = along(root, u, side)
            grafted = u * (block_norm(adam) / (block_norm(u) + 1e-16))
            U[name] = jnp.where(t >= start, grafted, adam).astype(G[name].dtype)
        wd = decays(weight_decay, mask, params)
        updates = jax.tree.map(
            lambda u, p, wd: (-lr * (u + wd * p)).astype(p.dtype),
            from_blocks(param_info, U, grads, block_size), params, wd,
        )  # fmt: skip
        return updates, ShampooState(t, mu, nu, statistics, P)

    return optax.GradientTransformation(init, update)


def _inverse_root(A: jax.Array, root: int, eps: float) -> jax.Array:
    """Return (A + eps I)^(-1 / root) of symmetric matrices A_Nnn, negative eigenvalues lifted to 0 first."""
    values, vectors = jnp.linalg.eigh(precise(A))
    values = values - jnp.minimum(values.min(axis=-1, keepdims=True), 0) + eps
    return (vectors * values[:, None, :] ** (-1 / root)) @ vectors.mT
