"""Time to target of every study as one array: what scores, intervals and tests are computed from.

Axes: S submissions, W workloads (the scored ones, then the held-out variants), K studies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Redrawn:
    """What might have become of a tuned point, had its tuning seeds been others (see `harness.scoring.tuned`).

    Attributes:
      share: of the draws of tuning seeds, those in which the runner-up is chosen.
      factor: its time over that of the point that was chosen; infinite where its median seed missed.
    """

    share: float
    factor: float


@dataclass(frozen=True, eq=False)
class StudyTimes:
    """Time to target by submission, workload and study, on one clock.

    Attributes:
      submissions, workloads: names, sorted.
      held_out: variants of workloads that can only take a result away, each with the workload it belongs to (the rule
        of AlgoPerf v0.5; see `harness.scoring.profiles.apply_held_out`). Sorted.
      times_SWK: float64, the columns of `held_out` after those of `workloads`. Infinity for a study that missed, NaN
        where there is none.
      paired: whether study k of every submission has the same seeds.
      speeds_SWK: seconds of each study's own processes over the mean of all that ran its program, to which the times
        are brought (see `harness.scoring.speeds`); None where that is not known.
      redrawn: by submission and workload, where a search chose the point.
    """

    submissions: tuple[str, ...]
    workloads: tuple[str, ...]
    times_SWK: FloatArray
    held_out: Mapping[str, str] = field(default_factory=dict)
    paired: bool = False
    speeds_SWK: FloatArray | None = None
    redrawn: Mapping[tuple[str, str], Redrawn] = field(default_factory=dict)

    @property
    def counts_SW(self) -> IntArray:
        """Studies in each cell, of the scored workloads and the variants."""
        return counts(self.times_SWK)

    @property
    def variants(self) -> tuple[tuple[int, int], ...]:
        """Column of each variant and column of the workload it belongs to."""
        return tuple(
            (len(self.workloads) + i, self.workloads.index(base)) for i, base in enumerate(self.held_out.values())
        )

    @property
    def medians_SW(self) -> FloatArray:
        """Median over the studies of each cell, the variants among them."""
        return medians(np.sort(self.times_SWK, axis=-1), self.counts_SW)

    def only(self, workloads: Iterable[str]) -> StudyTimes:
        """Return the same without the other workloads and their variants."""
        wanted = set(workloads)
        kept = tuple(w for w in self.workloads if w in wanted)
        held_out = {variant: base for variant, base in self.held_out.items() if base in kept}
        names = [*self.workloads, *self.held_out]
        columns = [names.index(w) for w in (*kept, *held_out)]
        speeds_SWK = None if self.speeds_SWK is None else self.speeds_SWK[:, columns]
        return replace(
            self, workloads=kept, held_out=held_out, times_SWK=self.times_SWK[:, columns], speeds_SWK=speeds_SWK
        )


Cells: TypeAlias = Mapping[str, Mapping[str, Sequence[float | None]]]
"""By submission and workload: a number for each study."""


def gather(
    cells: Cells,
    workloads: Iterable[str],
    held_out: Mapping[str, str] | None = None,
    *,
    speeds: Cells | None = None,
    paired: bool = False,
    redrawn: Mapping[tuple[str, str], Redrawn] | None = None,
) -> StudyTimes:
    """Build the array from the times of each submission and workload, a study each; None is a miss, NaN no study.

    `speeds` holds a number beside each time. A workload that a submission was not run on counts as missed, in as many
    studies as the largest cell has. Raises ValueError for a time that is no positive number.
    """
    names, scored = sorted(cells), sorted(workloads)
    variants = dict(sorted((held_out or {}).items()))
    columns = [*scored, *variants]
    most = max((len(row[w]) for row in cells.values() for w in columns if w in row), default=1) or 1
    times_SWK = np.full((len(names), len(columns), most), np.nan)
    speeds_SWK = np.ones_like(times_SWK) if speeds else None
    for s, name in enumerate(names):
        for w, workload in enumerate(columns):
            values = cells[name].get(workload) or [None] * most
            times_SWK[s, w, : len(values)] = [np.inf if t is None else t for t in values]
            if speeds is not None and speeds_SWK is not None and (own := speeds.get(name, {}).get(workload)):
                speeds_SWK[s, w, : len(own)] = own
    if np.any(times_SWK <= 0):
        s, w, _ = np.argwhere(times_SWK <= 0)[0]
        raise ValueError(f"{names[s]} on {columns[w]}: a time to target of {times_SWK[s, w].min()} is not positive")
    return StudyTimes(tuple(names), tuple(scored), times_SWK, variants, paired, speeds_SWK, redrawn or {})


def counts(times_K: FloatArray) -> IntArray:
    """Return the number of studies along the last axis."""
    return np.asarray(np.sum(~np.isnan(times_K), axis=-1))


def medians(sorted_K: FloatArray, number: IntArray) -> FloatArray:
    """Return the median over the last axis of sorted times, NaN at the end; a miss takes part as infinity.

    `number` of studies broadcasts against the other axes. Of an even number it is the mean of the two in the middle, so
    that a target counts as reached where more than half of the studies reached it.
    """
    shape = (*sorted_K.shape[:-1], 1)
    low, high = (np.broadcast_to(index[..., None], shape) for index in ((number - 1) // 2, number // 2))
    middle = np.take_along_axis(sorted_K, low, -1) + np.take_along_axis(sorted_K, high, -1)
    return np.asarray(0.5 * middle[..., 0])
