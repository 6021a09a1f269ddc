"""Performance profiles and the score made of them (Dolan and More 2002; AlgoPerf: Dahl et al. 2023, arXiv:2306.07179).

For submission s and workload w, r_sw = t_sw / min_s t_sw, infinite for a miss. The profile of s at tau is the share of
workloads with r_sw <= tau. The score is the integral of the profile over tau in [1, r_max], divided by r_max - 1.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

R_MAX = 4.0

TimesLike = Mapping[str, Mapping[str, float | None]]


def ratios(times: TimesLike, workloads: Collection[str]) -> dict[str, dict[str, float]]:
    """Return r_sw by submission and workload: 1 for the fastest, infinity for a miss, a missing workload among them."""
    best = {w: min((_time(row, w) for row in times.values()), default=math.inf) for w in workloads}
    return {
        submission: {w: _over(_time(row, w), best[w]) for w in sorted(workloads)} for submission, row in times.items()
    }


def profile(of_workload: Mapping[str, float], tau: float) -> float:
    """Return the share of workloads on which a submission took at most tau times the best, from its row of `ratios`."""
    return sum(r <= tau for r in of_workload.values()) / len(of_workload)


def scores(times: TimesLike, workloads: Collection[str], r_max: float = R_MAX) -> dict[str, float | None]:
    """Return the score of each submission, in [0, 1]: 1 is fastest everywhere; None where there are no workloads.

    Each workload's part of the profile is a step at r, so that the integral is exactly
    mean over w of max(0, r_max - r_sw) / (r_max - 1).
    """
    if not workloads:
        return dict.fromkeys(times)
    return {
        submission: math.fsum(max(0.0, r_max - r) / (r_max - 1.0) for r in row.values()) / len(row)
        for submission, row in ratios(times, workloads).items()
    }


def geometric_mean_ratio(of_workload: Mapping[str, float]) -> float | None:
    """Return the geometric mean of one row of `ratios`; None where a target was missed, or there are no workloads."""
    if not of_workload or any(math.isinf(r) for r in of_workload.values()):
        return None
    return math.exp(math.fsum(map(math.log, of_workload.values())) / len(of_workload))


def _time(row: Mapping[str, float | None], workload: str) -> float:
    time = row.get(workload)
    return math.inf if time is None else time


def _over(time: float, best: float) -> float:
    if time == math.inf:
        return math.inf
    return 1.0 if time == best else time / best if best > 0 else math.inf
