"""The numbers that follow from study times, as they are, in every bootstrap draw, and at the ends of what was seen.

Axes: S submissions, W workloads, V workloads and held-out variants, K studies, P pairs, B bootstrap draws.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np

from harness.scoring import bootstrap, profiles, separability
from harness.scoring.profiles import Integral
from harness.scoring.studies import FloatArray, IntArray, StudyTimes

Ends: TypeAlias = tuple[float, float]

LEAST_SHARE = 0.025  # of the draws, for a number of targets to be told of: what a 95% interval leaves out at an end


@dataclass(frozen=True)
class Part:
    """The draws of a score that reach the same number of targets.

    Attributes:
      reached: how many targets.
      share: of all draws.
      low, high: what holds 95% of the scores of these draws.
    """

    reached: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A number and how far chance may move it. Infinite where a target was missed.

    Attributes:
      interval: 95% bootstrap interval over studies; None under 6 studies, where there is no honest one.
      range: what the studies themselves span, where there are 2 to 5. For scores and ratios: from the submission's
        slowest study on every workload to its fastest, the others at their medians; for a pair both vary.
      parts: of a score, where draws differ in how many targets they reach: it jumps with each, so that its
        distribution is in parts, which one interval does not describe. Most targets first.
    """

    value: float
    interval: Ends | None = None
    range: Ends | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Numbers:
    """What follows from study times; any axes before these are kept.

    Attributes:
      time_SW: medians over studies.
      ratio_SW, mean_ratio_S, score_S: see `harness.scoring.profiles`, after the rule on held-out variants.
      log_ratio_P: of each pair, see `harness.scoring.separability`.
    """

    time_SW: FloatArray
    ratio_SW: FloatArray
    mean_ratio_S: FloatArray
    score_S: FloatArray
    log_ratio_P: FloatArray


@dataclass(frozen=True)
class Sample:
    """The numbers as they are; every bootstrap draw of them [B, ...]; and their ends [2, ...] over the studies seen.

    There are draws from 5 studies on, for tests, and ends from 2 to 5, which then stand in place of intervals; the
    smallest cell counts.
    """

    point: Numbers
    draws: Numbers | None = None
    ends: Numbers | None = None


def sample(times: StudyTimes, integral: Integral, number: int, seed: int, *, pairs: bool = True) -> Sample:
    """Compute all numbers, of pairs only if asked; `integral` is "grid" for AlgoPerf's trapezoid."""
    counts, pairs_P2 = times.counts_SW, separability.all_pairs(len(times.submissions) if pairs else 0)
    medians_SV = times.medians_SW
    point = _numbers(times, medians_SV, pairs_P2, integral)
    draws = ends = None
    if counts.max() >= separability.MIN_STUDIES:
        draws = _numbers(times, bootstrap.draws(times, number, seed), pairs_P2, integral)
    if counts.min() < bootstrap.MIN_STUDIES and counts.max() > 1:
        ends = _ends(times, medians_SV, pairs_P2, integral)
    return Sample(point, draws, ends)


def parts(found: Sample) -> list[tuple[Part, ...]]:
    """Return the parts of each submission's score; nothing where all but a few draws reach as many targets."""
    if found.draws is None or found.ends is not None:
        return [()] * len(found.point.score_S)
    reached_BS = np.isfinite(found.draws.ratio_SW).sum(-1)
    return [_parts(found.draws.score_S[:, s], reached_BS[:, s]) for s in range(reached_BS.shape[1])]


def _parts(score_B: FloatArray, reached_B: IntArray) -> tuple[Part, ...]:
    tail = (1.0 - bootstrap.LEVEL) / 2.0
    told = []
    for reached in np.unique(reached_B)[::-1].tolist():
        of_these = score_B[reached_B == reached]
        if (share := len(of_these) / len(score_B)) >= LEAST_SHARE:
            low, high = np.quantile(of_these, (tail, 1.0 - tail), method="nearest")
            told.append(Part(reached, share, float(low), float(high)))
    return tuple(told) if len(told) > 1 else ()


def estimates(
    point: FloatArray,
    draws: FloatArray | None,
    ends: FloatArray | None,
    least: float = -np.inf,
    most: float = np.inf,
) -> list[Estimate]:
    """Return an Estimate for each number of `point`, flattened; no interval goes below `least` or above `most`."""
    values = point.ravel().tolist()
    if ends is not None:
        low, high = ends.min(0).ravel().tolist(), ends.max(0).ravel().tolist()
        return [Estimate(v, range=(a, b)) for v, a, b in zip(values, low, high, strict=True)]
    if draws is not None:
        low, high = (np.clip(end, least, most).ravel().tolist() for end in bootstrap.interval(draws, point))
        return [Estimate(v, interval=(a, b)) for v, a, b in zip(values, low, high, strict=True)]
    return [Estimate(v) for v in values]


def log_estimates(
    point: FloatArray, draws: FloatArray | None, ends: FloatArray | None, least: float = -np.inf
) -> list[Estimate]:
    """Return the same for the exponentials of the numbers, so that the interval is made on the log scale."""
    found = estimates(point, draws, ends, least)
    return [Estimate(_exp(e.value), _exp_ends(e.interval), _exp_ends(e.range)) for e in found]


def _numbers(times: StudyTimes, medians_SV: FloatArray, pairs_P2: IntArray, integral: Integral) -> Numbers:
    ratio_SW = profiles.ratios(profiles.apply_held_out(medians_SV, times.variants))
    return Numbers(
        time_SW=medians_SV[..., : len(times.workloads)],
        ratio_SW=ratio_SW,
        mean_ratio_S=profiles.geometric_means(ratio_SW),
        score_S=profiles.scores(ratio_SW, integral),
        log_ratio_P=_log_ratios(ratio_SW, pairs_P2),
    )


def _log_ratios(ratio_SW: FloatArray, pairs_P2: IntArray) -> FloatArray:
    """Log of how many times as fast a is as b, the mean over workloads: infinite where b alone missed a target, minus
    infinity where a alone did. Where both did, whatever took over r_max times the best is worth r_max.
    """
    if not len(pairs_P2):
        return np.empty((*ratio_SW.shape[:-2], 0))
    a_P, b_P = pairs_P2.T
    cut_S = np.log(np.minimum(ratio_SW, profiles.R_MAX)).mean(-1)
    raw_S = np.log(ratio_SW).mean(-1)
    with np.errstate(invalid="ignore"):  # two misses, which are then cut
        raw_P = raw_S[..., b_P] - raw_S[..., a_P]
    return np.asarray(np.where(np.isnan(raw_P), cut_S[..., b_P] - cut_S[..., a_P], raw_P))


def _ends(times: StudyTimes, medians_SV: FloatArray, pairs_P2: IntArray, integral: Integral) -> Numbers:
    """The numbers [2, ...] with each submission's own fastest studies, and its slowest, the others at their medians."""
    own_2SV = np.stack([np.nanmin(times.times_SWK, -1), np.nanmax(times.times_SWK, -1)])
    s = np.arange(len(times.submissions))
    medians_2SSV = np.tile(medians_SV, (2, len(s), 1, 1))
    medians_2SSV[:, s, s] = own_2SV
    found = _numbers(times, medians_2SSV, pairs_P2[:0], integral)
    own = {f.name: getattr(found, f.name)[:, s, s] for f in fields(Numbers) if f.name != "log_ratio_P"}
    a_P, b_P = pairs_P2.T
    log_2P = []
    for fast, slow in ((a_P, b_P), (b_P, a_P)):
        t_PSV = np.tile(medians_SV, (len(pairs_P2), 1, 1))
        p = np.arange(len(pairs_P2))
        t_PSV[p, fast], t_PSV[p, slow] = own_2SV[0, fast], own_2SV[1, slow]
        ratio_PSW = profiles.ratios(profiles.apply_held_out(t_PSV, times.variants))
        log_2P.append(np.diagonal(_log_ratios(ratio_PSW, pairs_P2)))
    return Numbers(**own, log_ratio_P=np.stack(log_2P))


def _exp(value: float) -> float:
    return float(np.exp(value))


def _exp_ends(ends: Ends | None) -> Ends | None:
    return ends and (_exp(ends[0]), _exp(ends[1]))
