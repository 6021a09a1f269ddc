"""From what the points of a search reached to the better ones of them. Needs no jax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from harness.record.spec import Mode

T = TypeVar("T")


def ranks(values: Sequence[float | None], mode: Mode) -> list[float]:
    """Return the rank of each value, the best 0; equal ones share the mean of theirs, and None is worse than all."""
    worst = math.inf if mode == "min" else -math.inf
    found = [worst if v is None else v for v in values]
    keys = [v if mode == "min" else -v for v in found]
    return [sum(k < key for k in keys) + (sum(k == key for k in keys) - 1) / 2 for key in keys]


def better(points: Sequence[T], columns: Sequence[Sequence[float]], count: int) -> list[T]:
    """Return the `count` points with the least mean rank over the columns.

    Of equal ones the earlier stays, and the order is kept.
    """
    totals = [sum(column[i] for column in columns) for i in range(len(points))]
    kept = sorted(range(len(points)), key=lambda i: (totals[i], i))[:count]
    return [points[i] for i in sorted(kept)]
