"""One layer after the other, where a parameter stacks several: for rules with a norm or a mean over each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from harness.api import ParamInfo, PyTree
from harness.optim.matrices import map_with_info, stack_axes


def map_layers(function: Callable[..., Any], param_info: PyTree | None, tree: PyTree, *rest: PyTree) -> PyTree:
    """Return the tree of function(axes, leaf, *leaves of rest), `axes` being those within one layer.

    They are all of a parameter's axes but those of its layers, experts, queries, keys and values; all without
    `param_info`.
    """
    if param_info is None:
        return jax.tree.map(lambda x, *others: function(tuple(range(x.ndim)), x, *others), tree, *rest)

    def call(info: ParamInfo, x: jax.Array, *others: Any) -> Any:
        stack = stack_axes(info)
        return function(tuple(axis for axis in range(x.ndim) if axis not in stack), x, *others)

    return map_with_info(call, param_info, tree, *rest)
