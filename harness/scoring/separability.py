"""Which submissions can be told apart: one test for each pair, of the score, which is what ranks.

For submissions a and b the statistic is the difference of their scores. Its standard error is that of the same
difference over the bootstrap draws (`harness.scoring.bootstrap`), in which both move together through the best that
both are relative to and through seeds that they share, with all that the draws hold: seeds, processes, the choice of a
point. Difference over standard error is compared with Student's t, with Satterthwaite's degrees of freedom over the
cells of both. A difference that takes few values, because a median is a hit or a miss, is no t: p is at least twice the
share of draws that have another sign, and at least what the rarest way to deal the studies has for a share. README.md
tells how often equals are told apart. The p-values are corrected by Holm (1979) over the pairs alone: a pair is one
hypothesis however many the workloads. That two intervals overlap says nothing on a pair and is never used.

Axes: B bootstrap draws, S submissions, W workloads, K studies, P pairs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from harness.scoring.profiles import R_MAX
from harness.scoring.studies import FloatArray, IntArray, StudyTimes, counts

ALPHA = 0.05
POWER = 0.8
MIN_STUDIES = 5  # with fewer the draws see too little of what misses do
MAX_SEEDS = 9_999

_LEAST_P = 1e-12
_SAME = 1e-12  # what is smaller is the rounding of a sum


@dataclass(frozen=True)
class PairTest:
    """The test of one pair, by row of `StudyTimes.submissions`.

    Attributes:
      a, b: the rows.
      difference: the score of a less that of b.
      error: its standard error; None, as what follows, where one of them has under 5 studies on some workload.
      p, p_holm: two-sided p-value, alone and corrected over the pairs tested.
      seeds: studies of each submission on each workload with which a difference as large as this one would be found in
        80% of cases, at the level that Holm asks of the first pair; None where that is over 9,999, or not tested.
    """

    a: int
    b: int
    difference: float
    error: float | None = None
    p: float | None = None
    p_holm: float | None = None
    seeds: int | None = None

    @property
    def separable(self) -> bool | None:
        """Whether the two are told apart, at 5% over all pairs together; None without a test."""
        return None if self.p_holm is None else self.p_holm < ALPHA

    @property
    def better(self) -> int | None:
        """The row of the one with the higher score, where the two are told apart."""
        return (self.a if self.difference > 0 else self.b) if self.separable else None


def all_pairs(submissions: int) -> IntArray:
    """Return the rows of each pair, [P, 2]."""
    return np.array(list(itertools.combinations(range(submissions), 2)), np.int64).reshape(-1, 2)


def pair_tests(times: StudyTimes, score_S: FloatArray, ratio_BSW: FloatArray | None) -> list[PairTest]:
    """Test each pair of submissions, sorted by a, then b, by their scores and the draws of their ratios to the best;
    without draws there is no test.
    """
    n_SW = times.counts_SW[:, : len(times.workloads)]
    pairs = all_pairs(len(n_SW)).tolist()
    tests = [PairTest(a, b, _rounded(float(score_S[a] - score_S[b]))) for a, b in pairs]
    if ratio_BSW is None:
        return tests
    scored_SWK = times.times_SWK[:, : len(times.workloads)]
    degrees_SW = np.where(np.any(np.isinf(scored_SWK), -1), np.inf, n_SW - 1)  # a miss or a hit has a bounded variance
    part_BSW = np.maximum(0.0, R_MAX - ratio_BSW) / ((R_MAX - 1.0) * n_SW.shape[1])
    draws_SB = np.ascontiguousarray(part_BSW.sum(-1).T)
    variance_SW = part_BSW.var(0)
    known = [int(n_SW[pair].min()) >= MIN_STUDIES for pair in pairs]
    for row, (a, b) in enumerate(pairs):
        if known[row]:
            difference_B = draws_SB[a] - draws_SB[b]
            error = float(difference_B.std())
            degrees = satterthwaite(variance_SW[[a, b]], degrees_SW[[a, b]], n_SW[[a, b]])
            p = p_value(tests[row].difference, error, difference_B, degrees, n_SW[[a, b]])
            seeds = seeds_needed(tests[row].difference, error, float(n_SW[[a, b]].mean()), ALPHA / sum(known))
            tests[row] = replace(tests[row], error=error, p=p, seeds=seeds)
    return holm(tests)


def p_value(difference: float, error: float, difference_B: FloatArray, degrees: float, n_2W: IntArray) -> float:
    """Return the two-sided p of a difference of scores, whose draws are `difference_B`; `n_2W` studies in each cell."""
    if difference == 0.0:
        return 1.0
    ways = math.prod(math.comb(int(n_a + n_b), int(n_a)) for n_a, n_b in n_2W.T)
    least = 2.0 / ways  # without any spread, in studies that all reached or all missed, there is no standard error
    if error > _SAME:
        from scipy import special  # slow to import, and only tests need it

        least = max(least, 2.0 * float(np.mean(difference_B * difference <= 0.0)))
        least = max(least, 2.0 * float(special.stdtr(degrees, -abs(difference) / error)))
    return min(1.0, max(least, _LEAST_P))


def satterthwaite(variance_2W: FloatArray, degrees_2W: FloatArray, n_2W: IntArray) -> float:
    """Return the degrees of freedom of the sum of the cells' parts of a score, from the variance of each."""
    spread = float(np.sum(variance_2W**2 / degrees_2W))
    most = float((n_2W - 1).sum())
    return min(most, float(variance_2W.sum()) ** 2 / spread) if spread > 0.0 else most


def _rounded(difference: float) -> float:
    return 0.0 if abs(difference) < _SAME else difference


def holm(tests: Sequence[PairTest]) -> list[PairTest]:
    """Return the tests with p-values corrected by Holm's step-down method over those that were made, by a, then b."""
    p = np.array([test.p for test in tests if test.p is not None])
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    made = iter(corrected.tolist())
    return sorted(
        (replace(t, p_holm=None if t.p is None else next(made)) for t in tests), key=lambda test: (test.a, test.b)
    )


def rank_sets(tests: Sequence[PairTest], submissions: int) -> list[tuple[int, int]]:
    """Return for each row the best and the worst rank that the tests leave it: 1 more than the submissions that are
    told to be better, and as many as are not told to be worse.
    """
    better, worse = [0] * submissions, [0] * submissions
    for test in tests:
        if (winner := test.better) is not None:
            worse[winner] += 1
            better[test.a + test.b - winner] += 1
    return [(1 + better[row], submissions - worse[row]) for row in range(submissions)]


def win_probabilities(times: StudyTimes, pairs_P2: IntArray) -> FloatArray:
    """Return for each pair the chance that a study of a is faster than one of b, on a workload drawn at random.

    Counted over all pairs of studies, ties and two misses as half (the probability of improvement of Agarwal et al.
    2021, arXiv:2108.13264).
    """
    t_SWK = times.times_SWK[:, : len(times.workloads)]
    n_SW = counts(t_SWK)
    wins_P = np.empty(len(pairs_P2))
    for i, (a, b) in enumerate(pairs_P2):
        first, second = t_SWK[a][:, :, None], t_SWK[b][:, None, :]  # NaN beside anything is neither less nor equal
        won_W = np.sum(first < second, axis=(1, 2)) + 0.5 * np.sum(first == second, axis=(1, 2))
        wins_P[i] = np.mean(won_W / (n_SW[a] * n_SW[b]))
    return wins_P


def seeds_needed(difference: float, error: float, studies: float, alpha: float) -> int | None:
    """Return the studies per submission and workload that find `difference` with 80% power at level `alpha`.

    Its standard error is `error` with `studies` of them, and falls with their square root. None where that is more than
    9,999.
    """
    if difference == 0.0:
        return None
    normal = NormalDist()
    asked = normal.inv_cdf(1.0 - alpha / 2.0) + normal.inv_cdf(POWER)
    n = max(MIN_STUDIES, math.ceil(studies * (asked * error / difference) ** 2))
    return n if n <= MAX_SEEDS else None
