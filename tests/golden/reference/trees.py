"""What the rules share: dictionaries of arrays, `{"W_tall": array, ...}`, and sums over all of them.

A rule is a generator `rule(params, grads, lr, *, ...)`. `params` maps names to arrays; `grads` and `lr` have one entry
a step; `weight_decay` maps names to decays, zero where a parameter is excluded. It yields a dictionary after each step:
`params_after`, and what else the rule has (`eval_params_after`, or the scalars that it adapts).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Tree = dict[str, np.ndarray]
Grads = Sequence[Tree]
Rates = Sequence[float]
Steps = Iterator[dict[str, Any]]


def zeros(tree: Tree) -> Tree:
    return {k: np.zeros_like(v) for k, v in tree.items()}


def dot(a: Tree, b: Tree) -> Any:
    """Return the inner product of two trees, all arrays together."""
    return sum(np.sum(a[k] * b[k]) for k in a)


def norm(tree: Tree) -> Any:
    """Return the Euclidean norm of a tree, all arrays together."""
    return np.sqrt(dot(tree, tree))


def subtract(a: Tree, b: Tree) -> Tree:
    return {k: a[k] - b[k] for k in a}
