"""The cases of rules that precondition matrices."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from . import kron, shampoo, soap
from .case import ADAM_LR, DATA, INPUTS, MATRICES, SHAPES, Case
from .trees import Tree

SOAP_CONVENTIONS = [
    "step 1 moves and decays nothing: its gradient starts the statistics, whose eigenvectors are the first bases",
    "corrections count step 2 as s = 1: lr sqrt(1-b2^s)/(1-b1^s) in front; eps is added to the uncorrected root",
    "m is averaged unrotated; v is averaged in the current basis, and permuted, not rotated, when the basis changes",
    "decay comes last, at the updated parameter, by the plain lr",
    "statistics and bases are updated after the step: L <- beta L + (1-beta) G G^T from 0, no correction",
    "at s = precondition_frequency, 2 precondition_frequency, ...: columns sorted by q^T L q, one power iteration, QR",
    "b (a vector) is plain Adam with these corrections",
]
SHAMPOO_CONVENTIONS = [
    "L and R average G G^T and G^T G by b2 from 0 and are divided by 1-b2^t; then (A + eps I)^(-1/4), a vector: (-1/2)",
    "roots are computed at start_preconditioning_step, then every precondition_frequency steps, this gradient in",
    "before the start the step is Adam's: mhat / (sqrt(vhat) + grafting_eps)",
    "from the start: Shampoo's direction on mhat, the Frobenius norm of Adam's step, per block; + 1e-16 below",
    "decay is decoupled and not part of the norm: p <- p - lr (u + wd p)",
    "eps is 1e-6 so that null spaces do not magnify rounding; usual is 1e-12; small dimensions are not merged",
]
SHAMPOO = {
    "b1": 0.9,
    "b2": 0.95,
    "eps": 1e-6,
    "grafting_eps": 1e-8,
    "precondition_frequency": 5,
    "start_preconditioning_step": 5,
}
SOAP = {"b1": 0.9, "b2": 0.95, "shampoo_beta": 0.95, "eps": 1e-8, "precondition_frequency": 4}


def probes() -> list[Tree]:
    random = np.random.default_rng(23)
    return [{k: random.standard_normal(s).round(4) for k, s in SHAPES.items()} for _ in ADAM_LR]


def first_eigenbases() -> dict[str, Any]:
    """Return the eigenvectors of the first gradient's two statistics, as LAPACK gave them when the file was first made.

    They stay those of the file: where a statistic has a null space, the next machine's LAPACK gives others.
    """
    path = DATA / "soap_two_sided_reference.json"
    if path.exists():
        stored = json.loads(path.read_text())["first_eigenbases"]
        return {k: [np.array(Q) for Q in bases] for k, bases in stored.items()}
    first = {k: np.array(g) for k, g in INPUTS["grads"][0].items()}
    return {k: [soap.eigenbasis(soap.outer(g, a)) for a in range(g.ndim)] for k, g in first.items() if g.ndim > 1}


MATRIX: dict[str, Case] = {
    "soap": Case(
        soap.soap,
        "SOAP",
        "dimensions above 5 not rotated: every statistic has full rank, so the bases are unique but for signs",
        "soap(learning_rate, param_info, b1, b2, eps, weight_decay, precondition_frequency, ...)",
        [*SOAP_CONVENTIONS, "signs of eigenvectors do not matter"],
        SOAP | {"max_precond_dim": 5},
        weight_decay=MATRICES,
    ),
    "soap_two_sided": Case(
        soap.soap,
        "SOAP",
        "all dimensions rotated, the first bases given",
        "soap(learning_rate, param_info, b1, b2, eps, weight_decay, precondition_frequency, ...)",
        [
            *SOAP_CONVENTIONS,
            "first_eigenbases[name] = [Q of rows, Q of columns], eigenvectors as columns: the null space "
            "allows others, by which all but W_square then differ",
        ],
        SOAP | {"max_precond_dim": 10000},
        weight_decay=MATRICES,
        given={"first_eigenbases": first_eigenbases()},
    ),
    "shampoo": Case(
        shampoo.shampoo,
        "Shampoo",
        "grafted to Adam, one block, from step 5 and every 5 steps",
        "shampoo(learning_rate, param_info, b1, b2, eps, weight_decay, precondition_frequency, block_size, ...)",
        SHAMPOO_CONVENTIONS,
        SHAMPOO | {"block_size": 1024},
        weight_decay=MATRICES,
    ),
    "shampoo_blocks": Case(
        shampoo.shampoo,
        "Shampoo",
        "grafted to Adam, blocks of 4",
        "shampoo(learning_rate, param_info, b1, b2, eps, weight_decay, precondition_frequency, block_size, ...)",
        [*SHAMPOO_CONVENTIONS, "each dimension is cut at 4, 8, ...; the last piece is shorter; vectors too"],
        SHAMPOO | {"block_size": 4},
        weight_decay=MATRICES,
    ),
    "kron": Case(
        kron.kron,
        "Kron (PSGD)",
        "triangular factors, updated at every step by the given probes, balanced at step 10",
        "kron(learning_rate, param_info, b1, weight_decay, precond_lr, ...)",
        [
            "order in a step: momentum, balance, factors, then the step by the new factors",
            "pair: V = probes[t-1] and mhat + sqrt(eps of float32) mean|mhat| V; the step takes mhat without noise",
            "Q <- Q - precond_lr triu(A A^T - B B^T)/bound(A A^T + B B^T) Q, A = Q1 G Q2^T, B = Q1^-T V Q2^-1",
            "bound: one power iteration from the longest column; a vector's factor is diagonal, over the largest entry",
            "u = Q^T Q mhat Q^T Q, scaled to an RMS of at most 1.1; p <- p - lr (u + wd p)",
        ],
        {"b1": 0.9, "precond_lr": 0.1, "precond_init_scale": 4.0},
        weight_decay=MATRICES,
        given={"probes": probes(), "balance_steps": [10]},
    ),
}
