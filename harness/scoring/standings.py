"""Everything that is said about a set of study times on one clock: scores, ratios, speed-ups, pairs and ranks, each
with what chance may do to it. A pure function of `StudyTimes`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from harness.errors import ConfigError, suggest
from harness.scoring import bootstrap, profiles, separability
from harness.scoring.profiles import Integral
from harness.scoring.sampling import Ends, Estimate, Sample, estimates, log_estimates, parts, sample
from harness.scoring.separability import PairTest
from harness.scoring.studies import FloatArray, StudyTimes

_SAME = 1e-12  # scores closer than this share a rank: the order of a sum can do as much


@dataclass(frozen=True)
class SpeedUp:
    """How many times as fast as the baseline: geometric mean over the `common` workloads, those that both reached.

    `ratio` is None where there are none.
    """

    ratio: Estimate | None
    common: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """Two submissions side by side; `a` is the one that ranks higher.

    Attributes:
      ratio: how many times as fast a is as b: the geometric mean over workloads of b's median time over a's; NaN where
        one of them misses a target, since what a miss is worth beside a time is nobody's measurement. An end is 0 where
        a misses one there, infinite where b does.
      win_probability: chance that a study of a is faster than one of b, on a workload drawn at random.
      test: its rows and the sign of its log ratio are those of `StudyTimes`, not of a and b.
    """

    a: str
    b: str
    ratio: Estimate
    win_probability: float
    test: PairTest

    @property
    def separable(self) -> bool | None:
        """Whether the two are told apart: then a has the higher score; None without a test."""
        return self.test.separable


@dataclass(frozen=True)
class Standings:
    """All results on one clock.

    Attributes:
      submissions, workloads: names, sorted.
      studies: fewest and most studies of a cell.
      time: median time to target, in the clock's unit.
      ratio, mean_ratio: time over the best, by workload and as the geometric mean, after the rule on held-out variants.
      score: see `harness.scoring.profiles`.
      speed_up: over the baseline; empty without one.
      speed_ups: over every submission as the baseline, by its name; empty unless asked for.
      pairs: every pair, in the order of ranks.
      rank: 1 is the highest score; equal scores share the better rank.
      rank_set: the best and the worst rank that the tests leave each submission; empty without pairs.
      rank_without: the ranks with one workload left out, by its name; empty where there is but one.
    """

    submissions: tuple[str, ...]
    workloads: tuple[str, ...]
    studies: tuple[int, int]
    time: dict[str, dict[str, Estimate]]
    ratio: dict[str, dict[str, Estimate]]
    mean_ratio: dict[str, Estimate]
    score: dict[str, Estimate]
    speed_up: dict[str, SpeedUp]
    pairs: tuple[Pair, ...]
    rank: dict[str, int]
    rank_set: dict[str, tuple[int, int]]
    rank_without: dict[str, dict[str, int]]
    speed_ups: dict[str, dict[str, SpeedUp]] = field(default_factory=dict)


def standings(
    times: StudyTimes,
    *,
    baseline: str | None = None,
    every_baseline: bool = False,
    integral: Integral = "exact",
    pairs: bool = True,
    draws: int = bootstrap.DRAWS,
    seed: int = bootstrap.SEED,
) -> Standings:
    """Compute all results, of pairs only if asked. `times` has at least one submission and one scored workload.

    Raises ConfigError where the baseline is none of the submissions.
    """
    names, workloads = times.submissions, times.workloads
    if baseline is not None and baseline not in names:
        raise ConfigError(
            f"there is no submission '{baseline}' to be the baseline; {suggest(baseline, names, 'scored')}"
        )
    found = sample(times, integral, draws, seed, pairs=pairs)
    scores = estimates(*_arrays(found, "score_S"), least=0.0, most=1.0)
    score = {n: replace(e, parts=of) for n, e, of in zip(names, scores, parts(found), strict=True)}
    rank = ranks({name: estimate.value for name, estimate in score.items()})
    ratio_BSW = found.draws.ratio_SW if found.draws else None
    tests = separability.pair_tests(times, found.point.score_S, ratio_BSW) if pairs else []
    return Standings(
        submissions=names,
        workloads=workloads,
        studies=(int(times.counts_SW.min()), int(times.counts_SW.max())),
        time=_table(times, _times(times, found)),
        ratio=_table(times, log_estimates(*_logs(found, "ratio_SW"), least=0.0)),
        mean_ratio=dict(zip(names, log_estimates(*_logs(found, "mean_ratio_S"), least=0.0), strict=True)),
        score=score,
        speed_up={} if baseline is None else _speed_ups(found, times, names.index(baseline)),
        pairs=_pairs(times, found, rank, tests),
        rank=rank,
        rank_set=dict(zip(names, separability.rank_sets(tests, len(names)), strict=True)) if pairs else {},
        rank_without=_ranks_without(times, found.point.ratio_SW, integral),
        speed_ups={n: _speed_ups(found, times, s) for s, n in enumerate(names)} if every_baseline else {},
    )


def _times(times: StudyTimes, found: Sample) -> list[Estimate]:
    """The percentile interval of a median is too narrow for few studies: it reaches at least to those that hold it."""
    plain = log_estimates(*_logs(found, "time_SW"))
    ends = zip(*(end.ravel().tolist() for end in bootstrap.median_ends(times)), strict=True)
    return [
        replace(one, interval=(min(one.interval[0], low), max(one.interval[1], high))) if one.interval else one
        for one, (low, high) in zip(plain, ends, strict=True)
    ]


def ranks(scores: Mapping[str, float]) -> dict[str, int]:
    """Return the rank of each: 1 for the highest score; equal scores share the better rank."""
    return {name: 1 + sum(other > score + _SAME for other in scores.values()) for name, score in scores.items()}


def _ranks_without(times: StudyTimes, ratio_SW: FloatArray, integral: Integral) -> dict[str, dict[str, int]]:
    """A workload's ratios depend on no other workload, so that leaving one out is leaving out its column."""
    found = {}
    for w, workload in enumerate(times.workloads if len(times.workloads) > 1 else ()):
        scores_S = profiles.scores(np.delete(ratio_SW, w, axis=-1), integral)
        found[workload] = ranks(dict(zip(times.submissions, scores_S.tolist(), strict=True)))
    return found


def _speed_ups(found: Sample, times: StudyTimes, base: int) -> dict[str, SpeedUp]:
    point_SW, draws_BSW, ends_2SW = _logs(found, "time_SW")
    speed_ups = {}
    for s, name in enumerate(times.submissions):
        common_W = np.isfinite(point_SW[s]) & np.isfinite(point_SW[base])
        common = tuple(w for w, both in zip(times.workloads, common_W, strict=True) if both)
        if not common or s == base:
            speed_ups[name] = SpeedUp(Estimate(1.0) if common else None, common)
            continue
        point = _mean_difference(point_SW[base], point_SW[s], common_W)
        draws = ends = None
        if draws_BSW is not None:
            draws = _mean_difference(draws_BSW[:, base], draws_BSW[:, s], common_W)
        if ends_2SW is not None:
            ends = _mean_difference(ends_2SW[:, base], ends_2SW[::-1, s], common_W)
        (ratio,) = log_estimates(point, draws, ends)
        speed_ups[name] = SpeedUp(ratio, common)
    return speed_ups


def _mean_difference(slow_W: FloatArray, fast_W: FloatArray, common_W: npt.NDArray[np.bool_]) -> FloatArray:
    with np.errstate(invalid="ignore"):  # where both missed, neither is the faster
        difference_W = np.nan_to_num((slow_W - fast_W)[..., common_W], nan=0.0, posinf=np.inf, neginf=-np.inf)
        return np.asarray(np.nan_to_num(difference_W.mean(-1), nan=0.0, posinf=np.inf, neginf=-np.inf))


def _pairs(times: StudyTimes, found: Sample, rank: Mapping[str, int], tests: Sequence[PairTest]) -> tuple[Pair, ...]:
    pairs_P2 = separability.all_pairs(len(times.submissions))[: len(tests)]
    wins_P = separability.win_probabilities(times, pairs_P2)
    ratios = log_estimates(*_arrays(found, "log_ratio_P"))
    missed_S: list[bool] = np.isinf(found.point.ratio_SW).max(axis=-1).tolist()
    ratios = [Estimate(math.nan) if missed_S[t.a] or missed_S[t.b] else r for t, r in zip(tests, ratios, strict=True)]
    order = {name: (rank[name], name) for name in times.submissions}
    found_pairs = []
    for test, ratio, wins in zip(tests, ratios, wins_P.tolist(), strict=True):
        a, b = times.submissions[test.a], times.submissions[test.b]
        if order[a] < order[b]:
            found_pairs.append(Pair(a, b, ratio, wins, test))
        else:
            found_pairs.append(Pair(b, a, _inverse(ratio), 1.0 - wins, test))
    return tuple(sorted(found_pairs, key=lambda pair: (order[pair.a], order[pair.b])))


def inverse(ratio: float) -> float:
    """Return one over a ratio; 0 and infinity, which stand for a miss of one or of the other, change places."""
    return 1.0 / ratio if ratio else math.inf


def _inverse(ratio: Estimate) -> Estimate:
    def turned(ends: Ends | None) -> Ends | None:
        return ends and (inverse(ends[1]), inverse(ends[0]))

    return (
        ratio if math.isnan(ratio.value) else Estimate(1.0 / ratio.value, turned(ratio.interval), turned(ratio.range))
    )


def _arrays(found: Sample, name: str) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
    return (
        getattr(found.point, name),
        None if found.draws is None else getattr(found.draws, name),
        None if found.ends is None else getattr(found.ends, name),
    )


def _logs(found: Sample, name: str) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
    point, draws, ends = _arrays(found, name)
    return np.log(point), None if draws is None else np.log(draws), None if ends is None else np.log(ends)


def _table(times: StudyTimes, flat: Sequence[Estimate]) -> dict[str, dict[str, Estimate]]:
    cells = iter(flat)
    return {name: {workload: next(cells) for workload in times.workloads} for name in times.submissions}
