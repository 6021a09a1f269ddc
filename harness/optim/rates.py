"""The learning rate and the weight decay of one step, whichever way they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from harness.api import PyTree
from harness.errors import SubmissionError
from harness.optim.checks import expect, expect_rate
from harness.optim.matrices import map_with_info

Mask: TypeAlias = PyTree | Callable[[PyTree], PyTree] | None
"""Tree of booleans like the parameters, or a function to one: where weight decay applies; None: everywhere."""


def rate_at(learning_rate: optax.ScalarOrSchedule, count: jax.Array) -> Any:
    """Return the learning rate of the step after `count` steps."""
    return learning_rate(count) if callable(learning_rate) else learning_rate


def decays(weight_decay: float, mask: Mask, params: PyTree) -> PyTree:
    """Return the tree with `weight_decay` where the mask is True, 0.0 elsewhere."""
    if mask is None:
        return jax.tree.map(lambda _: weight_decay, params)
    chosen = mask(params) if callable(mask) else mask
    return map_with_info(lambda decayed, _: weight_decay if decayed else 0.0, chosen, params)


def with_params(rule: str, params: PyTree) -> PyTree:
    """Return the parameters. Raises SubmissionError for None: the rule's step depends on them."""
    if params is None:
        raise SubmissionError(f"{rule}: update() needs the parameters as its third argument")
    return params


def scalar(value: Any, params: PyTree) -> jax.Array:
    """Return a number for the state: float32, or in the parameters' precision where that is higher."""
    return jnp.asarray(value, jnp.result_type(jnp.float32, *(p.dtype for p in jax.tree.leaves(params))))


def expect_adam(rule: str, learning_rate: Any, b1: Any, b2: Any, eps: Any, weight_decay: Any = 0.0) -> None:
    """Raise SubmissionError for what Adam and its kin cannot work with."""
    expect_rate(rule, learning_rate)
    expect(f"{rule}: b1", b1, 0, 1)
    expect(f"{rule}: b2", b2, 0, 1)
    expect(f"{rule}: eps", eps, 0)
    expect(f"{rule}: weight_decay", weight_decay, 0)
