"""From what the points of a search reached to the better half of them, and to the best. Needs no jax."""

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


def better_half(points: Sequence[T], columns: Sequence[Sequence[float]]) -> list[T]:
    """Return the half of the points (of an odd number the larger) with the least mean rank over the columns.

    Of equal ones the earlier stays, and the order is kept.
    """
    totals = [sum(column[i] for column in columns) for i in range(len(points))]
    kept = sorted(range(len(points)), key=lambda i: (totals[i], i))[: -(-len(points) // 2)]
    return [points[i] for i in sorted(kept)]


def best(scores: Sequence[float], columns: Sequence[Sequence[float]]) -> int:
    """Return the index of the lowest score; of equal ones, that of the least mean rank over the columns."""
    return min(range(len(scores)), key=lambda i: (scores[i], sum(column[i] for column in columns)))


def geometric_score(steps: Sequence[int | None], baseline: Sequence[int], budgets: Sequence[int]) -> float:
    """Return the geometric mean over workloads of steps over the baseline's; a miss counts as twice the budget."""
    logs = [
        math.log((2 * budget if own is None else own) / base)
        for own, base, budget in zip(steps, baseline, budgets, strict=True)
    ]
    return math.exp(sum(logs) / len(logs))
