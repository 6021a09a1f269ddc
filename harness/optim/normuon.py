"""NorMuon: Muon whose output neurons are scaled by a second moment of their own."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import PyTree
from harness.optim.checks import expect, expect_choice
from harness.optim.matrices import for_matrices, from_matrices, to_matrices
from harness.optim.muon import SCALES, expect_muon, momentum_of, orthogonalized
from harness.optim.norms import norm, precise
from harness.optim.orthogonalize import JORDAN, Coefficients

EPS = 1e-10


class NorMuonState(NamedTuple):
    """`mu`: the momentum, like the matrix-like parameters; `nu`: nu_SO, one number per output neuron."""

    mu: PyTree
    nu: PyTree


def normuon(
    learning_rate: optax.ScalarOrSchedule,
    param_info: PyTree,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_steps: int = 5,
    ns_coeffs: Coefficients = JORDAN,
    ns_dtype: Any = None,
    ns_eps: float = 1e-7,
    weight_decay: float = 0.0,
    b2: float = 0.95,
    scale: Literal["norm", "rms"] = "norm",
    *,
    split_heads: bool = False,
) -> optax.GradientTransformation:
    """Return NorMuon for the matrices and convolution kernels; updates of all other leaves pass through untouched.

    With O the orthogonalised momentum of `muon`, rows = fan-out, columns = fan-in, and one v for each row (an output
    neuron), which starts at 0 and is not bias-corrected, since what follows has its own length:

        v <- b2 v + (1 - b2) mean over columns(O^2)
        Oh = O / (sqrt(v) + 1e-10)
        W <- W - lr (s Oh + weight_decay W)

    `scale` picks the length:

        "norm"  s = ||O||_F / ||Oh||_F * sqrt(max(1, rows / columns))    the authors' code: Muon's length, lr near 0.02
        "rms"   s = 0.2 sqrt(rows * columns) / ||Oh||_F                  the paper's Algorithm 1: RMS 0.2 lr, AdamW's lr

    "rms" guards the norm before Newton-Schulz by max(||U||, ns_eps), "norm" by ||U|| + ns_eps, as in `muon`. The paper
    writes plain momentum, its code has Nesterov's. State: the momentum, and one number per output neuron. Statistics
    are in float32 at least, whatever `ns_dtype`.

    Args, matrices and errors are those of `muon`; b2 is the decay of v.

    Source: Li et al. (2025), arXiv:2510.05491, Algorithm 1 and the code published with it.
    """
    expect_choice("normuon: scale", scale, ("norm", "rms"))
    expect_muon("normuon", param_info, learning_rate, momentum, ns_steps, ns_coeffs, ns_dtype, ns_eps, weight_decay)
    expect("normuon: b2", b2, 0, 1)
    ns = {"coeffs": ns_coeffs, "steps": ns_steps, "dtype": ns_dtype, "eps": ns_eps, "clamp": scale == "rms"}

    def init(params: PyTree) -> NorMuonState:
        matrices = to_matrices(params, param_info, split_heads=split_heads)
        return NorMuonState(
            mu=optax.tree.zeros_like(params),
            nu=jax.tree.map(lambda w_SIO: jnp.zeros((w_SIO.shape[0], w_SIO.shape[2]), w_SIO.dtype), matrices),
        )

    def update(grads: PyTree, state: NorMuonState, params: PyTree = None) -> tuple[PyTree, NorMuonState]:
        mu, directions = momentum_of(grads, state.mu, momentum, nesterov)
        orthogonal = orthogonalized(to_matrices(directions, param_info, split_heads=split_heads), ns)
        nu = jax.tree.map(
            lambda v_SO, o_SIO: (b2 * v_SO + (1 - b2) * jnp.mean(precise(o_SIO) ** 2, axis=1)).astype(v_SO.dtype),
            state.nu,
            orthogonal,
        )
        scaled = jax.tree.map(lambda o, v: _normalized(o, v, scale), orthogonal, nu)
        return from_matrices(scaled, grads, param_info, split_heads=split_heads), NorMuonState(mu, nu)

    return for_matrices(
        param_info,
        optax.chain(
            optax.GradientTransformation(init, update),
            optax.add_decayed_weights(weight_decay),
            optax.scale_by_learning_rate(learning_rate),
        ),
    )


def _normalized(o_SIO: jax.Array, v_SO: jax.Array, scale: str) -> jax.Array:
    columns, rows = o_SIO.shape[1:]
    o = precise(o_SIO)
    oh = o / (jnp.sqrt(precise(v_SO)) + EPS)[:, None, :]
    length = 0.2 * math.sqrt(rows * columns) if scale == "rms" else SCALES["shape"](rows, columns) * norm(o, (1, 2))
    return (oh * (length / (norm(oh, (1, 2)) + EPS))).astype(o_SIO.dtype)
