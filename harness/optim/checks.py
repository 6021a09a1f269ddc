"""Hyperparameters checked where an update rule is made, so that a bad one is an error before training starts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import jax.numpy as jnp

from harness.errors import SubmissionError, suggest


def expect(
    name: str, value: Any, low: float, high: float = math.inf, *, above: bool = False, whole: bool = False
) -> None:
    """Raise SubmissionError unless low <= value < high; `above` asks for low < value, `whole` for an integer.

    Arrays pass: they are hyperparameters that change during training (`optax.inject_hyperparams`).
    """
    if hasattr(value, "aval"):  # jax arrays and tracers
        return
    right_kind = isinstance(value, Integral) if whole else isinstance(value, Real)
    if not right_kind or not (low < value if above else low <= value) or not value < high:
        kind = "a whole number" if whole else "a number"
        bound = f"above {low:g}" if above else f"of at least {low:g}"
        limit = "" if high == math.inf else f" and below {high:g}"
        raise SubmissionError(f"{name}: expected {kind} {bound}{limit}, got {value!r}")


def expect_rate(rule: str, learning_rate: Any) -> None:
    """Raise SubmissionError unless the learning rate is a schedule or a number of at least 0."""
    if not callable(learning_rate):
        expect(f"{rule}: learning_rate", learning_rate, 0.0)


def expect_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise SubmissionError unless the value is one of the choices; the nearest is suggested."""
    choices = list(choices)
    if value not in choices:
        raise SubmissionError(f"{name}: unknown value {value!r}; {suggest(str(value), choices, 'choices')}")


def expect_dtype(name: str, value: Any) -> None:
    """Raise SubmissionError unless the value is None or names a type of floating-point numbers."""
    try:
        floating = value is None or jnp.issubdtype(jnp.dtype(value), jnp.floating)
    except TypeError:
        floating = False
    if not floating:
        raise SubmissionError(f"{name}: expected the name of a floating-point type such as bfloat16, got {value!r}")
