"""The numbers that follow from study times, as they are, in every bootstrap draw, and at the ends of what was seen.

Axes: S submissions, W workloads, V workloads and held-out variants, K studies, P pairs, B bootstrap draws.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np

from harness.scoring import bootstrap, profiles, separability
from harness.scoring.profiles import Integral
from harness.scoring.studies import FloatArray, IntArray, StudyTimes, medians

Ends: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A number and how far chance may move it. Infinite where a target was missed.

    Attributes:
      interval: 95% bootstrap interval over studies; None under 6 studies, where there is no honest one.
      range: what the studies themselves span, where there are 2 to 5. For scores and ratios: from the submission's
        slowest study on every workload to its fastest, the others at their medians; for a pair both vary.
    """

    value: float
    interval: Ends | None = None
    range: Ends | None = None


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

    There are draws from 6 studies on, ends from 2 to 5; in both cases the smallest cell counts.
    """

    point: Numbers
    draws: Numbers | None = None
    ends: Numbers | None = None


def sample(times: StudyTimes, integral: Integral, number: int, seed: int, *, pairs: bool = True) -> Sample:
    """Compute all numbers, of pairs only if asked; `integral` is "grid" for AlgoPerf's trapezoid."""
    counts, pairs_P2 = times.counts_SW, separability.all_pairs(len(times.submissions) if pairs else 0)
    reached_P = separability.both_reached(times.scored_SWK, pairs_P2)

    def numbers(t_SVK: FloatArray) -> Numbers:
        log_ratio_P = _log_ratios(t_SVK[..., : len(times.workloads), :], pairs_P2, reached_P)
        return _numbers(times, medians(t_SVK, counts), log_ratio_P, integral)

    point = numbers(times.times_SWK)
    if counts.min() >= bootstrap.MIN_STUDIES:
        chunks = [numbers(chunk) for chunk in bootstrap.draws(times, number, seed)]
        joined = {f.name: np.concatenate([getattr(chunk, f.name) for chunk in chunks]) for f in fields(Numbers)}
        return Sample(point, draws=Numbers(**joined))
    if counts.max() > 1:
        return Sample(point, ends=_ends(times, pairs_P2, reached_P, integral))
    return Sample(point)


def estimates(
    point: FloatArray,
    draws: FloatArray | None,
    ends: FloatArray | None,
    least: float = -np.inf,
    most: float = np.inf,
) -> list[Estimate]:
    """Return an Estimate for each number of `point`, flattened; no interval goes below `least` or above `most`."""
    values = point.ravel().tolist()
    if draws is not None:
        low, high = (np.clip(end, least, most).ravel().tolist() for end in bootstrap.interval(draws, point))
        return [Estimate(v, interval=(a, b)) for v, a, b in zip(values, low, high, strict=True)]
    if ends is not None:
        low, high = ends.min(0).ravel().tolist(), ends.max(0).ravel().tolist()
        return [Estimate(v, range=(a, b)) for v, a, b in zip(values, low, high, strict=True)]
    return [Estimate(v) for v in values]


def log_estimates(
    point: FloatArray, draws: FloatArray | None, ends: FloatArray | None, least: float = -np.inf
) -> list[Estimate]:
    """Return the same for the exponentials of the numbers, so that the interval is made on the log scale."""
    found = estimates(point, draws, ends, least)
    return [Estimate(_exp(e.value), _exp_ends(e.interval), _exp_ends(e.range)) for e in found]


def _numbers(times: StudyTimes, medians_SV: FloatArray, log_ratio_P: FloatArray, integral: Integral) -> Numbers:
    ratio_SW = profiles.ratios(profiles.apply_held_out(medians_SV, times.variants))
    return Numbers(
        time_SW=medians_SV[..., : len(times.workloads)],
        ratio_SW=ratio_SW,
        mean_ratio_S=profiles.geometric_means(ratio_SW),
        score_S=profiles.scores(ratio_SW, integral),
        log_ratio_P=log_ratio_P,
    )


def _log_ratios(t_SWK: FloatArray, pairs_P2: IntArray, reached_P: separability.BoolArray) -> FloatArray:
    """Mean log ratio of each pair, with misses cut where one of the two has any."""
    if not len(pairs_P2):
        return np.empty((*t_SWK.shape[:-3], 0))
    raw_SW, cut_SW = (np.nanmean(separability.log_times(t_SWK, cut=cut), -1) for cut in (False, True))
    with np.errstate(invalid="ignore"):  # two misses, which are then cut
        raw_P = separability.log_ratios(raw_SW, pairs_P2)
    return np.where(reached_P, raw_P, separability.log_ratios(cut_SW, pairs_P2))


def _ends(times: StudyTimes, pairs_P2: IntArray, reached_P: separability.BoolArray, integral: Integral) -> Numbers:
    """The numbers [2, ...] with each submission's own fastest studies, and its slowest, the others at their medians."""
    own_2SV = np.stack([times.times_SWK[..., 0], np.nanmax(times.times_SWK, -1)])
    s = np.arange(len(times.submissions))
    medians_2SSV = np.tile(medians(times.times_SWK, times.counts_SW), (2, len(s), 1, 1))
    medians_2SSV[:, s, s] = own_2SV
    found = _numbers(times, medians_2SSV, np.empty(0), integral)
    own = {f.name: getattr(found, f.name)[:, s, s] for f in fields(Numbers) if f.name != "log_ratio_P"}
    a_P, b_P = pairs_P2.T
    by_reach = []
    for cut in (False, True):
        y_SWK = separability.log_times(times.scored_SWK, cut=cut)
        fast_S, slow_S = y_SWK[..., 0].mean(-1), np.nanmax(y_SWK, -1).mean(-1)
        with np.errstate(invalid="ignore"):  # two misses, which are then cut
            by_reach.append([fast_S[b_P] - slow_S[a_P], slow_S[b_P] - fast_S[a_P]])
    return Numbers(**own, log_ratio_P=np.where(reached_P, *by_reach))


def _exp(value: float) -> float:
    return float(np.exp(value))


def _exp_ends(ends: Ends | None) -> Ends | None:
    return ends and (_exp(ends[0]), _exp(ends[1]))
