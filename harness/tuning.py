"""From a search space and a seed to hyperparameter points. Needs no jax."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import qmc

from harness.errors import SubmissionError, suggest
from harness.spec import Value
from harness.submission import Dimension, SubmissionInfo


def draw_points(info: SubmissionInfo, names: Sequence[str], count: int, seed: int) -> list[dict[str, Value]]:
    """Return `count` points that cover the dimensions `names` of a search space evenly, the rest at the defaults.

    A scrambled Halton sequence (Owen 2017, arXiv:1706.02808): its first n points cover the space whatever n is, so a
    search can be made longer and keeps the points it has. Numbers are rounded to 3 significant digits. Raises
    SubmissionError for a name that the search space lacks.
    """
    for name in names:
        if name not in info.space:
            raise SubmissionError(f"{info.name}: no search space for '{name}'; {suggest(name, info.space, 'it has')}")
    draws = qmc.Halton(d=len(names), scramble=True, seed=seed).random(count)
    return [
        info.defaults | {name: _at(info.space[name], float(u)) for name, u in zip(names, row, strict=True)}
        for row in draws
    ]


def _at(dimension: Dimension, u: float) -> Value:
    """Return the value at the fraction `u` of a dimension."""
    if dimension.values:
        return dimension.values[min(int(u * len(dimension.values)), len(dimension.values) - 1)]
    assert dimension.min is not None
    assert dimension.max is not None
    if dimension.scaling == "log":
        return float(f"{dimension.min * (dimension.max / dimension.min) ** u:.3g}")
    return float(f"{dimension.min + (dimension.max - dimension.min) * u:.3g}")
