"""Muon: momentum, orthogonalised. For matrices and convolution kernels; `by_kind` hands the rest to another rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import optax

from harness.api import PyTree
from harness.optim.checks import expect, expect_choice, expect_dtype, expect_rate
from harness.optim.matrices import expect_matrices, for_matrices, from_matrices, to_matrices
from harness.optim.orthogonalize import JORDAN, Coefficients, orthogonalize_all, per_step

SCALES: dict[str, Callable[[int, int], float]] = {
    "shape": lambda rows, columns: math.sqrt(max(1, rows / columns)),
    "match_rms": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
    "spectral": lambda rows, columns: math.sqrt(rows / columns),
}
"""s of the update by name; rows is the fan-out, columns the fan-in."""


class MuonState(NamedTuple):
    """`mu`: the momentum, like the matrix-like parameters."""

    mu: PyTree


def muon(
    learning_rate: optax.ScalarOrSchedule,
    param_info: PyTree,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_steps: int = 5,
    ns_coeffs: Coefficients = JORDAN,
    ns_dtype: Any = None,
    ns_eps: float = 1e-7,
    weight_decay: float = 0.0,
    scale: Literal["shape", "match_rms", "spectral"] = "shape",
    *,
    split_heads: bool = False,
) -> optax.GradientTransformation:
    """Return Muon for the matrices and convolution kernels; updates of all other leaves pass through untouched.

    With the gradient G and the weight W of each matrix, rows = fan-out, columns = fan-in:

        M <- momentum M + (1 - momentum) G                no bias correction: the direction has no length
        U  = momentum M + (1 - momentum) G                M itself without `nesterov`
        O  = orthogonalize(U)                             `ns_steps` Newton-Schulz iterations
        W <- W - lr (s O + weight_decay W)                decay is not scaled by s

    `scale` picks the published form:

        "shape"      s = sqrt(max(1, rows / columns))     Jordan; lr near 0.02
        "match_rms"  s = 0.2 sqrt(max(rows, columns))     Liu et al., Moonlight: the RMS of an AdamW update, whose
                                                          lr and weight decay it shares
        "spectral"   s = sqrt(rows / columns)             Bernstein, Pethick et al.: unit RMS-to-RMS operator norm

    "match_rms" guards the norm as torch.optim.Muon does, by max(||U||, ns_eps); the others as Jordan's code,
    by ||U|| + ns_eps. The two part by ns_eps / ||U||, and not at all with ns_eps = 0.

    Every index of a layer, qkv or expert axis is a matrix of its own; a head is not, unless `split_heads`. Convolution
    kernels are treated as the (height * width * in, out) matrix. All matrices of one shape, transposed or not, go
    through one batched orthogonalisation. State: the momentum, one number per parameter.

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.
      param_info: tree of `harness.api.ParamInfo` like the parameters.
      ns_coeffs: (a, b, c), or one triple for each step.
      ns_dtype: of the Newton-Schulz iterations; None for that of the parameters. bfloat16 is what the method is used
        with on a GPU; momentum and the norm keep the precision of the parameters.

    Raises SubmissionError for a tree without matrices and for hyperparameters out of range.

    Source: Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks"; Liu et al. (2025),
    arXiv:2502.16982, for "match_rms"; Pethick et al. (2025), arXiv:2502.07529, for "spectral".
    """
    expect_choice("muon: scale", scale, SCALES)
    expect_muon("muon", param_info, learning_rate, momentum, ns_steps, ns_coeffs, ns_dtype, ns_eps, weight_decay)
    ns = {"coeffs": ns_coeffs, "steps": ns_steps, "dtype": ns_dtype, "eps": ns_eps, "clamp": scale == "match_rms"}

    def init(params: PyTree) -> MuonState:
        return MuonState(optax.tree.zeros_like(params))

    def update(grads: PyTree, state: MuonState, params: PyTree = None) -> tuple[PyTree, MuonState]:
        mu, directions = momentum_of(grads, state.mu, momentum, nesterov)
        orthogonal = orthogonalized(to_matrices(directions, param_info, split_heads=split_heads), ns)
        scaled = jax.tree.map(lambda o_SIO: SCALES[scale](o_SIO.shape[2], o_SIO.shape[1]) * o_SIO, orthogonal)
        return from_matrices(scaled, grads, param_info, split_heads=split_heads), MuonState(mu)

    return for_matrices(
        param_info,
        optax.chain(
            optax.GradientTransformation(init, update),
            optax.add_decayed_weights(weight_decay),
            optax.scale_by_learning_rate(learning_rate),
        ),
    )


def momentum_of(grads: PyTree, mu: PyTree, momentum: float, nesterov: bool) -> tuple[PyTree, PyTree]:
    """Return (new momentum, the direction to orthogonalise)."""

    def average(m: jax.Array, g: jax.Array) -> jax.Array:
        return (momentum * m + (1 - momentum) * g).astype(m.dtype)

    mu = jax.tree.map(average, mu, grads)
    return mu, jax.tree.map(average, mu, grads) if nesterov else mu


def orthogonalized(matrices: PyTree, ns: dict[str, Any]) -> PyTree:
    """Return the tree of stacks x_SIO with every matrix orthogonalised, one batched call for each shape."""
    leaves, structure = jax.tree.flatten(matrices)
    return jax.tree.unflatten(structure, orthogonalize_all(leaves, **ns))


def expect_muon(
    rule: str,
    param_info: PyTree,
    learning_rate: optax.ScalarOrSchedule,
    momentum: float,
    ns_steps: int,
    ns_coeffs: Coefficients,
    ns_dtype: Any,
    ns_eps: float,
    weight_decay: float,
) -> None:
    """Raise SubmissionError for what Muon and its kin cannot work with."""
    expect_matrices(rule, param_info)
    expect_rate(rule, learning_rate)
    expect(f"{rule}: momentum", momentum, 0, 1)
    expect(f"{rule}: ns_steps", ns_steps, 1, whole=True)
    per_step(ns_coeffs, ns_steps)
    expect_dtype(f"{rule}: ns_dtype", ns_dtype)
    expect(f"{rule}: ns_eps", ns_eps, 0)
    expect(f"{rule}: weight_decay", weight_decay, 0)
