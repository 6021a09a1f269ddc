"""How much the final metric suffers from another learning rate: a pure function of the values on a grid. No jax.

Learning-rate sensitivity is the mean over learning rates of how far the final loss lies from the best of them, no loss
counting as worse than the one at the start (Wortsman et al. 2023, arXiv:2309.14322, section 2.2):

    E [ min(l(η), l_0) - l* ],   l* = min l(η)

with η uniform on a logarithmic grid. Here l is the workload's metric, turned around where larger is better, the grid
goes by factors of two around a centre, and a run that diverged counts as l_0.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.record.spec import Mode

FACTOR = 2.0


@dataclass(frozen=True)
class Curve:
    """A submission's final metric against a hyperparameter, on one workload.

    Attributes:
      values: of the hyperparameter, ascending.
      finals: the metric at each, the lower median over the studies; None where that diverged.
      start: the metric before the first step; None where it is not finite.
      steps: at which a run ended.
    """

    submission: str
    workload: str
    metric: str
    mode: Mode
    values: tuple[float, ...]
    finals: tuple[float | None, ...]
    start: float | None
    steps: int

    @property
    def best(self) -> int | None:
        """The number of the best value; None where all diverged."""
        return best_of(self.finals, self.mode)

    @property
    def at_the_end(self) -> bool:
        """Whether the best value is the first or the last of the grid, so that a better one may lie beyond."""
        return self.best in (0, len(self.values) - 1)

    @property
    def sensitivity(self) -> float | None:
        """See the module; None where all diverged, or a run did and the metric at the start is not finite."""
        return sensitivity(self.finals, self.start, self.mode)


def grid(centre: float, reach: int) -> tuple[float, ...]:
    """Return centre * 2^k for k from -reach to reach, to 6 significant digits: 2 reach + 1 values."""
    return tuple(float(f"{centre * FACTOR**k:.6g}") for k in range(-reach, reach + 1))


def best_of(finals: Sequence[float | None], mode: Mode) -> int | None:
    """Return the number of the best value; None where there is none."""
    known = [(value if mode == "min" else -value, number) for number, value in enumerate(finals) if value is not None]
    return min(known)[1] if known else None


def sensitivity(finals: Sequence[float | None], start: float | None, mode: Mode) -> float | None:
    """Return the mean distance to the best final value, in the unit of the metric and never negative.

    Nothing counts as worse than `start`, the metric before the first step; None in `finals` is a run that diverged.
    Returns None where all diverged, or one did and `start` is None.
    """
    if best_of(finals, mode) is None or (start is None and None in finals):
        return None
    sign = 1.0 if mode == "min" else -1.0
    limits = [] if start is None else [sign * start]
    losses = [min([*limits, *([] if value is None else [sign * value])]) for value in finals]
    best = min(sign * value for value in finals if value is not None)
    return statistics.fmean(loss - min([best, *limits]) for loss in losses)
