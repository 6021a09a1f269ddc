"""Which submissions can be told apart: one test for each pair, on the suite's mean log ratio.

For submissions a and b the statistic is the mean over workloads of (mean over studies of log t_b) - (mean of log t_a),
the log of how many times as fast a is. Where both reached every target it is tested against t, with the variance of a
study's log time pooled over all submissions in each workload. Where one missed, labels are permuted: studies are dealt
anew between a and b within each workload, so that the test needs no distribution for a miss, only its worth (see
`log_times`). The p-values are corrected by Holm (1979) over the pairs alone: a pair is one hypothesis however many the
workloads. That two intervals overlap says nothing on a pair and is never used.

Axes: S submissions, W workloads, K studies, P pairs, N studies of a pair, L labellings, C cells, F frequencies.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from harness.scoring.profiles import R_MAX
from harness.scoring.studies import FloatArray, IntArray, StudyTimes, counts

ALPHA = 0.05
POWER = 0.8
MIN_STUDIES = 2  # a test needs a spread
MAX_SEEDS = 9_999
SEED = 0

_LABELLINGS = (2_000, 20_000)  # at least and at most, where there are too many to take all
_CELLS = 8_192
_PAIRS_AT_A_TIME = 64
_LEAST_P = 1e-12  # what is smaller is the rounding of the transform

BoolArray: TypeAlias = npt.NDArray[np.bool_]
Method: TypeAlias = Literal["t", "permutation"]


@dataclass(frozen=True)
class PairTest:
    """The test of one pair, by row of `StudyTimes.submissions`.

    Attributes:
      a, b: the rows.
      log_ratio: mean log ratio, positive where a is the faster.
      method: None where one of them has a single study on some workload; then there is no test.
      p, p_holm: two-sided p-value, alone and corrected over the pairs tested.
      seeds: studies of each submission on each workload with which a difference as large as this one would be found in
        80% of cases, at the level that Holm asks of the first pair; None where that is over 9,999, or not tested.
    """

    a: int
    b: int
    log_ratio: float
    method: Method | None = None
    p: float | None = None
    p_holm: float | None = None
    seeds: int | None = None

    @property
    def separable(self) -> bool | None:
        """Whether the two are told apart, at 5% over all pairs together; None without a test."""
        return None if self.p_holm is None else self.p_holm < ALPHA


def log_times(times_SWK: FloatArray, *, cut: bool) -> FloatArray:
    """Return the log of each study's time over the fastest study of its workload. S and W may have axes before them.

    With `cut`, a miss and whatever is beyond r_max times the fastest are worth log(r_max), as they are worth 0 in the
    score; where nobody reached the target all are worth 0. Without it a miss is infinite.
    """
    fastest = np.nanmin(times_SWK, axis=(-3, -1), keepdims=True)
    missed = np.isinf(times_SWK)
    with np.errstate(invalid="ignore"):  # inf / inf, where nobody reached the target
        y_SWK = np.where(missed, np.inf, np.log(times_SWK / fastest))
    if not cut:
        return y_SWK
    return np.where(np.isinf(fastest), np.where(missed, 0.0, y_SWK), np.minimum(y_SWK, math.log(R_MAX)))


def both_reached(times_SWK: FloatArray, pairs_P2: IntArray) -> BoolArray:
    """Return for each pair of rows whether both reached every target in every study."""
    reached_S = ~np.any(np.isinf(times_SWK), axis=(-2, -1))
    return np.asarray(reached_S[pairs_P2].all(-1))


def all_pairs(submissions: int) -> IntArray:
    """Return the rows of each pair, [P, 2]."""
    return np.array(list(itertools.combinations(range(submissions), 2)), np.int64).reshape(-1, 2)


def pair_tests(times: StudyTimes, seed: int = SEED) -> list[PairTest]:
    """Test each pair of submissions on the scored workloads."""
    t_SWK = times.scored_SWK
    n_SW = counts(t_SWK)
    pairs_P2 = all_pairs(len(n_SW))
    if not pairs_P2.size or not times.workloads:
        return []
    reached_P = both_reached(t_SWK, pairs_P2)
    tested_P = n_SW.min(-1)[pairs_P2].min(-1) >= MIN_STUDIES
    hypotheses = int(tested_P.sum())
    tests: list[PairTest] = []
    for reached in (True, False):
        group = pairs_P2[reached_P == reached]
        tested = tested_P[reached_P == reached]
        y_SWK = log_times(t_SWK, cut=not reached)
        spread = _pool(y_SWK, n_SW)
        method: Method = "t" if reached and spread.variance_W.sum() > 0 else "permutation"
        log_ratio_P, p_P = log_ratios(np.nanmean(y_SWK, -1), group), np.full(len(group), np.nan)
        if method == "t":
            p_P[tested] = _t_p_values(log_ratio_P[tested], n_SW, group[tested], spread)
        else:
            p_P[tested] = _permutation_p_values(y_SWK, n_SW, group[tested], seed)
        for (a, b), log_ratio, p, known in zip(group, log_ratio_P, p_P, tested, strict=True):
            test = PairTest(int(a), int(b), float(log_ratio))
            if known:
                seeds = seeds_needed(float(log_ratio), spread, ALPHA / hypotheses)
                test = replace(test, method=method, p=float(p), seeds=seeds)
            tests.append(test)
    return holm(tests)


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


def log_ratios(mean_SW: FloatArray, pairs_P2: IntArray) -> FloatArray:
    """Return each pair's log ratio from mean log times; any axes before S and W are kept."""
    mean_S = mean_SW.mean(-1)
    return np.asarray(mean_S[..., pairs_P2[:, 1]] - mean_S[..., pairs_P2[:, 0]])


def win_probabilities(times: StudyTimes, pairs_P2: IntArray) -> FloatArray:
    """Return for each pair the chance that a study of a is faster than one of b, on a workload drawn at random.

    Counted over all pairs of studies, ties and two misses as half (the probability of improvement of Agarwal et al.
    2021, arXiv:2108.13264).
    """
    t_SWK = times.scored_SWK
    n_SW = counts(t_SWK)
    wins_P = np.empty(len(pairs_P2))
    for i, (a, b) in enumerate(pairs_P2):
        first, second = t_SWK[a][:, :, None], t_SWK[b][:, None, :]  # NaN beside anything is neither less nor equal
        won_W = np.sum(first < second, axis=(1, 2)) + 0.5 * np.sum(first == second, axis=(1, 2))
        wins_P[i] = np.mean(won_W / (n_SW[a] * n_SW[b]))
    return wins_P


def seeds_needed(log_ratio: float, spread: Spread, alpha: float) -> int | None:
    """Return the studies per submission and workload that find `log_ratio` with 80% power at level `alpha`.

    The smallest n with |log_ratio| / se(n) >= t(1 - alpha/2) + t(0.8), where se(n)**2 = 2/n times the summed variances
    over the number of workloads squared. None where that is more than 9,999.
    """
    variance_W = spread.variance_W / len(spread.variance_W) ** 2
    total = float(variance_W.sum())

    def found(n: int) -> bool:
        df = total**2 / float(np.sum(variance_W**2 / (spread.submissions_W.clip(1) * (n - 1))))
        from scipy import special  # slow to import, and only tests need it

        asked = special.stdtrit(df, 1.0 - alpha / 2.0) + special.stdtrit(df, POWER)
        return bool(abs(log_ratio) >= asked * math.sqrt(2.0 / n * total))

    if log_ratio == 0.0:
        return None
    n = MIN_STUDIES
    if total > 0:
        n += bisect.bisect_left(range(MIN_STUDIES, MAX_SEEDS + 1), True, key=found)
    return n if n <= MAX_SEEDS else None


@dataclass(frozen=True)
class Spread:
    """Variance of a study's log time in each workload, pooled over submissions, and what it was pooled from."""

    variance_W: FloatArray
    degrees_W: IntArray
    submissions_W: IntArray


def _pool(y_SWK: FloatArray, n_SW: IntArray) -> Spread:
    """Pool over the submissions with at least two studies on a workload that all reached the target."""
    used_SW = ~np.any(np.isinf(y_SWK), axis=-1) & (n_SW >= MIN_STUDIES)
    y_SWK = np.where(used_SW[..., None], y_SWK, 0.0)
    squares_SW = np.nansum((y_SWK - np.nanmean(y_SWK, -1, keepdims=True)) ** 2, -1)
    degrees_W = np.sum(np.where(used_SW, n_SW - 1, 0), axis=0)
    return Spread(squares_SW.sum(0) / degrees_W.clip(1), degrees_W, used_SW.sum(0))


def _t_p_values(log_ratio_P: FloatArray, n_SW: IntArray, pairs_P2: IntArray, spread: Spread) -> FloatArray:
    """Two-sided, with the degrees of freedom of Welch and Satterthwaite over workloads."""
    per_study_PW = (1.0 / n_SW)[pairs_P2].sum(1)
    variance_PW = spread.variance_W * per_study_PW / n_SW.shape[1] ** 2
    variance_P = variance_PW.sum(-1)
    df_P = variance_P**2 / np.sum(variance_PW**2 / spread.degrees_W, axis=-1)
    from scipy import special

    return np.asarray(2.0 * special.stdtr(df_P, -np.abs(log_ratio_P) / np.sqrt(variance_P)))


def _permutation_p_values(y_SWK: FloatArray, n_SW: IntArray, pairs_P2: IntArray, seed: int) -> FloatArray:
    """Two-sided; pairs with the same numbers of studies share the labellings."""
    p_P = np.empty(len(pairs_P2))
    n_P2W = n_SW[pairs_P2]
    for n_2W in np.unique(n_P2W, axis=0):
        (same,) = np.nonzero(np.all(n_P2W == n_2W, axis=(1, 2)))
        stream = np.random.default_rng(seed)
        most = int(np.clip(2_000_000 // len(pairs_P2), *_LABELLINGS))
        weights_W = [_labellings(n_a, n_b, most, stream) for n_a, n_b in n_2W.T.tolist()]
        for part in np.array_split(same, -(-len(same) // _PAIRS_AT_A_TIME)):
            p_P[part] = _convolved(y_SWK, n_2W, pairs_P2[part], weights_W)
    return p_P


def _convolved(y_SWK: FloatArray, n_2W: IntArray, pairs_P2: IntArray, weights_W: Sequence[FloatArray]) -> FloatArray:
    """p-values from the distribution of the statistic over all combinations of the workloads' labellings.

    Studies are dealt anew in each workload by itself, so that this is the convolution of the workloads' distributions:
    no need to draw from it. The parts are rounded to a grid, the observed one (the first labelling) among them, which
    makes it the exact test of a statistic that is rounded to about 0.1%.
    """
    number = len(pairs_P2)
    parts_W = []
    for w, weights_LN in enumerate(weights_W):
        n_a, n_b = n_2W[:, w]
        y_PN = np.concatenate([y_SWK[pairs_P2[:, 0], w, :n_a], y_SWK[pairs_P2[:, 1], w, :n_b]], axis=-1)
        parts_W.append(y_PN @ weights_LN.T)  # [P, L]
    most_P = sum(np.abs(part_PL).max(-1) for part_PL in parts_W)
    cell_P1 = np.where(most_P > 0, most_P / (_CELLS // 2 - len(parts_W)), 1.0)[:, None]
    spectrum_PF = np.ones((number, _CELLS // 2 + 1), complex)
    observed_P = np.zeros(number, np.int64)
    for part_PL in parts_W:
        cells_PL = np.rint(part_PL / cell_P1).astype(np.int64)
        observed_P += cells_PL[:, 0]
        flat = (cells_PL % _CELLS + _CELLS * np.arange(number)[:, None]).ravel()
        share_PC = np.bincount(flat, minlength=number * _CELLS).reshape(number, _CELLS) / part_PL.shape[1]
        spectrum_PF *= np.fft.rfft(share_PC)
    share_PC = np.fft.irfft(spectrum_PF, _CELLS)
    distance_C = np.abs(np.fft.fftfreq(_CELLS, 1.0 / _CELLS))  # the cells are in the order 0, 1, ..., -2, -1
    as_extreme_PC = distance_C >= np.abs(observed_P)[:, None] - 0.5
    return np.asarray(np.clip(np.sum(share_PC * as_extreme_PC, axis=-1), _LEAST_P, 1.0))


def _labellings(n_a: int, n_b: int, most: int, stream: np.random.Generator) -> FloatArray:
    """Return weights [L, N] that take the mean of a from the mean of b: all ways to label N studies, or `most` of them.

    The first is the one that was observed.
    """
    total = n_a + n_b
    if math.comb(total, n_a) <= most:
        return _all_labellings(n_a, n_b)
    is_a = np.argsort(np.argsort(stream.random((most, total)))) < n_a
    is_a[0] = np.arange(total) < n_a
    return np.where(is_a, -1.0 / n_a, 1.0 / n_b)


@functools.cache
def _all_labellings(n_a: int, n_b: int) -> FloatArray:
    chosen = np.array(list(itertools.combinations(range(n_a + n_b), n_a)))
    weights_LN = np.full((len(chosen), n_a + n_b), 1.0 / n_b)
    np.put_along_axis(weights_LN, chosen, -1.0 / n_a, axis=1)
    return weights_LN
