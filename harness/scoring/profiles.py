"""Performance profiles and the score made of them (Dolan and More 2002; AlgoPerf: Dahl et al. 2023, arXiv:2306.07179).

For submission s and workload w, r_sw = t_sw / min_s t_sw, infinite for a miss. The profile of s at tau is the share of
workloads with r_sw <= tau. The score is the integral of the profile over tau in [1, r_max], divided by r_max - 1.

Arrays end in the axes S (submissions) and W (workloads); any axes before them, such as B of bootstrap draws, are kept.
Times are medians over studies, in any unit, infinite for a miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from harness.scoring.studies import FloatArray

R_MAX = 4.0
GRID = np.linspace(1.0, R_MAX, 100)

Integral: TypeAlias = Literal["exact", "grid"]


def ratios(times_SW: FloatArray) -> FloatArray:
    """Return r_sw: 1 for the fastest, infinity for a miss."""
    best = np.min(times_SW, axis=-2, keepdims=True, initial=np.inf)
    with np.errstate(invalid="ignore"):  # inf / inf, where nobody reached the target
        return np.where(np.isinf(times_SW), np.inf, times_SW / best)


def profile(ratios_W: FloatArray, tau: float) -> float:
    """Return the share of workloads on which a submission took at most tau times the best."""
    return float(np.mean(ratios_W <= tau))


def scores(ratios_SW: FloatArray, integral: Integral = "exact") -> FloatArray:
    """Return the score of each submission, in [0, 1]: 1 is fastest everywhere.

    Each workload's part of the profile is a step at r, so that the integral is exactly
    mean over w of max(0, r_max - r_sw) / (r_max - 1). "grid" is the trapezoid over 100 points that AlgoPerf's code
    uses, off by up to 0.0015: there a step at r is 1 from the first grid point >= r on, and half a cell more before it.
    """
    if integral == "exact":
        return np.asarray(np.mean(np.maximum(0.0, R_MAX - ratios_SW) / (R_MAX - 1.0), axis=-1))
    first = np.searchsorted(GRID, ratios_SW)  # len(GRID) where r > r_max
    cells = np.where(first == 0, 99.0, np.where(first < len(GRID), 99.5 - first, 0.0))
    return np.asarray(np.mean(cells / 99.0, axis=-1))


def apply_held_out(times_SV: FloatArray, variants: Sequence[tuple[int, int]]) -> FloatArray:
    """Return the times on the scored workloads after AlgoPerf v0.5's rule on held-out variants.

    Columns V are the scored workloads, then the variants; `variants` pairs the column of each variant with that of its
    workload. In this order: a variant counts as missed where its workload was; in every column a time beyond r_max
    times the best becomes a miss; a workload counts as missed where its variant was. The best that ratios are taken to
    is therefore that of the submissions which remain.
    """
    if not variants:
        return times_SV
    t = times_SV.copy()
    for variant, base in variants:
        t[..., variant][np.isinf(t[..., base])] = np.inf
    t[t > R_MAX * np.min(t, axis=-2, keepdims=True)] = np.inf
    for variant, base in variants:
        t[..., base][np.isinf(t[..., variant])] = np.inf
    return t[..., : t.shape[-1] - len(variants)]


def geometric_means(ratios_SW: FloatArray) -> FloatArray:
    """Return the geometric mean over workloads of each submission's ratios, infinite where a target was missed."""
    return np.asarray(np.exp(np.mean(np.log(ratios_SW), axis=-1)))
