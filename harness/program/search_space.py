"""From a search space and a seed to hyperparameter points. Needs no jax."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from harness.errors import SubmissionError, suggest
from harness.program.submission import Dimension, SubmissionInfo
from harness.record.spec import Value


def draw_points(info: SubmissionInfo, names: Sequence[str], count: int, seed: int) -> list[dict[str, Value]]:
    """Return `count` points that cover the dimensions `names` of a search space evenly, the rest at the defaults.

    A scrambled Halton sequence (Owen 2017, arXiv:1706.02808): its first n points cover the space whatever n is, so a
    search can be made longer and keeps the points it has. Numbers are rounded to 3 significant digits. Raises
    SubmissionError for a name that the search space lacks.
    """
    for name in names:
        if name not in info.space:
            raise SubmissionError(f"{info.name}: no search space for '{name}'; {suggest(name, info.space, 'it has')}")
    from scipy.stats import qmc  # slow to import, and only searches need it

    draws = qmc.Halton(d=len(names), scramble=True, seed=seed).random(count)
    return [
        info.defaults | {name: _at(info, name, float(u)) for name, u in zip(names, row, strict=True)} for row in draws
    ]


def distinct_points(info: SubmissionInfo, names: Sequence[str], count: int, seed: int) -> list[dict[str, Value]]:
    """Return the first `count` points of the same sequence that differ from one another.

    Raises SubmissionError where the space has not as many.
    """
    length = 4 * count  # only values in a list, whole numbers and rounding make two points equal
    while True:
        found = {tuple(map(repr, point.values())): point for point in draw_points(info, names, length, seed)}
        if len(found) >= count:
            return list(found.values())[:count]
        if length >= 64 * count:
            raise SubmissionError(
                f"{info.name}: {count} different points are needed, and its search space over {', '.join(names)} has "
                f"only about {len(found)}; widen it, or list them under `points`, which every study then takes"
            )
        length *= 4


def corner_points(info: SubmissionInfo) -> list[dict[str, Value]]:
    """Return the points at the corners of the search space, the rest at the defaults.

    All 2^d of them for up to 4 dimensions; beyond that the two with all dimensions at one end, and those with a single
    one there.
    """
    names = tuple(info.space)
    if len(names) <= 4:
        ends: list[dict[str, float]] = [
            dict(zip(names, u, strict=True)) for u in itertools.product((0.0, 1.0), repeat=len(names))
        ]
    else:
        ends = [dict.fromkeys(names, u) for u in (0.0, 1.0)] + [{name: u} for name in names for u in (0.0, 1.0)]
    return [info.defaults | {name: _at(info, name, u) for name, u in end.items()} for end in ends]


def _at(info: SubmissionInfo, name: str, u: float) -> Value:
    """Return the value at the fraction `u` of a dimension: within its ends, and whole where the default is."""
    d: Dimension = info.space[name]
    if d.values:
        return d.values[min(int(u * len(d.values)), len(d.values) - 1)]
    assert d.min is not None
    assert d.max is not None
    value = d.min * (d.max / d.min) ** u if d.scaling == "log" else d.min + (d.max - d.min) * u
    value = min(max(float(f"{value:.3g}"), d.min), d.max)  # 0.9999 would be rounded to 1
    return round(value) if isinstance(info.defaults[name], int) else value
