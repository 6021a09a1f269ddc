"""Which submissions can be told apart: one test for each pair, of the score, which is what ranks.

For submissions a and b the statistic is the difference of their scores. Labels are permuted: within each workload the
studies of a and b are dealt anew between the two, the other submissions staying as they are, so that the test needs no
distribution for times or for a miss. Where studies share their seeds, study k of a is exchanged with study k of b
alone; where there are too few studies for that to say anything (the smallest p-value it can give is 2 / 2**n), and
where seeds are not shared, studies are dealt in every way. The p-values are corrected by Holm (1979) over the pairs
alone: a pair is one hypothesis however many the workloads. That two intervals overlap says nothing on a pair and is
never used.

The times here are those of each study's own processes: what one process did to the speed of a program is dealt with the
study.

Axes: S submissions, W workloads, K studies, P pairs, N studies of a pair, L labellings, C cells, F frequencies.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from harness.scoring.profiles import R_MAX
from harness.scoring.studies import FloatArray, IntArray, StudyTimes, counts, medians

ALPHA = 0.05
POWER = 0.8
MIN_STUDIES = 2  # a test needs a spread
MAX_SEEDS = 9_999
SEED = 0

_LABELLINGS = (256, 4_096)  # of one workload, at least and at most, where there are too many to take all
_WORK = 500_000  # labellings of all pairs and workloads, about
_CELLS = 2_048
_LEAST_P = 1e-12  # what is smaller is the rounding of the transform

Method: TypeAlias = Literal["paired", "permutation"]


@dataclass(frozen=True)
class PairTest:
    """The test of one pair, by row of `StudyTimes.submissions`.

    Attributes:
      a, b: the rows.
      difference: the score of a less that of b, by each study's own processes.
      method: which labels were permuted, those of the two studies with the same seeds or all; None where one of them
        has a single study on some workload: then there is no test.
      p, p_holm: two-sided p-value, alone and corrected over the pairs tested.
      seeds: studies of each submission on each workload with which a difference as large as this one would be found in
        80% of cases, at the level that Holm asks of the first pair; None where that is over 9,999, or not tested.
    """

    a: int
    b: int
    difference: float
    method: Method | None = None
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


def pair_tests(times: StudyTimes, seed: int = SEED) -> list[PairTest]:
    """Test each pair of submissions on the scored workloads, sorted by a, then b.

    A rule on held-out variants is part of the score and not of the test.
    """
    t_SWK = times.own_SWK
    n_SW = counts(t_SWK)
    pairs_P2 = all_pairs(len(n_SW))
    if not pairs_P2.size or not times.workloads:
        return []
    median_SW = medians(np.sort(t_SWK, -1), n_SW)
    others_PW = _best_of_the_others(median_SW, pairs_P2)
    part_PW = _parts(median_SW[pairs_P2[:, 0]], median_SW[pairs_P2[:, 1]], others_PW)
    tested_P = n_SW.min(-1)[pairs_P2].min(-1) >= MIN_STUDIES
    hypotheses = int(tested_P.sum())
    paired_P = _can_be_paired(times, t_SWK, pairs_P2, ALPHA / max(hypotheses, 1))
    p_P, sd_P = (np.full(len(pairs_P2), np.nan) for _ in range(2))
    for paired in (True, False):
        (rows,) = np.nonzero(tested_P & (paired_P == paired))
        shapes_R2W = n_SW[pairs_P2[rows]]
        for n_2W in np.unique(shapes_R2W, axis=0):  # those with the same numbers of studies share the labellings
            same = rows[np.all(shapes_R2W == n_2W, axis=(1, 2))]
            most = int(np.clip(_WORK // (len(pairs_P2) * len(times.workloads)), *_LABELLINGS))
            stream = np.random.default_rng(seed)
            dealt = [
                _dealt(t_SWK[pairs_P2[same], w], others_PW[same, w], part_PW[same, w], paired, most, stream)
                for w in range(len(times.workloads))
            ]
            p_P[same], sd_P[same] = _p_values(part_PW[same], dealt)
    tests = []
    for row, (a, b) in enumerate(pairs_P2.tolist()):
        test = PairTest(a, b, float(part_PW[row].mean()))
        if tested_P[row]:
            studies = float(n_SW[[a, b]].mean())
            tests.append(
                replace(
                    test,
                    method="paired" if paired_P[row] else "permutation",
                    p=float(p_P[row]),
                    seeds=seeds_needed(test.difference, float(sd_P[row]), studies, ALPHA / hypotheses),
                )
            )
        else:
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
    t_SWK = times.own_SWK
    n_SW = counts(t_SWK)
    wins_P = np.empty(len(pairs_P2))
    for i, (a, b) in enumerate(pairs_P2):
        first, second = t_SWK[a][:, :, None], t_SWK[b][:, None, :]  # NaN beside anything is neither less nor equal
        won_W = np.sum(first < second, axis=(1, 2)) + 0.5 * np.sum(first == second, axis=(1, 2))
        wins_P[i] = np.mean(won_W / (n_SW[a] * n_SW[b]))
    return wins_P


def seeds_needed(difference: float, sd: float, studies: float, alpha: float) -> int | None:
    """Return the studies per submission and workload that find `difference` with 80% power at level `alpha`.

    `sd` is the standard deviation of the difference under permuted labels with `studies` of them; it falls with their
    square root. None where that is more than 9,999.
    """
    if difference == 0.0:
        return None
    normal = NormalDist()
    asked = normal.inv_cdf(1.0 - alpha / 2.0) + normal.inv_cdf(POWER)
    n = max(MIN_STUDIES, math.ceil(studies * (asked * sd / difference) ** 2))
    return n if n <= MAX_SEEDS else None


def _best_of_the_others(median_SW: FloatArray, pairs_P2: IntArray) -> FloatArray:
    """Return the least median on each workload of those that are not in the pair, [P, W]; infinity without any."""
    rows_3W = np.argsort(median_SW, axis=0)[:3]
    least_PW = np.full((len(pairs_P2), median_SW.shape[1]), np.inf)
    for rows_W in rows_3W[::-1]:
        free_PW = ~np.any(pairs_P2[:, :, None] == rows_W, axis=1)
        least_PW = np.where(free_PW, np.take_along_axis(median_SW, rows_W[None], 0), least_PW)
    return least_PW


def _parts(a: FloatArray, b: FloatArray, others: FloatArray) -> FloatArray:
    """Return what one workload adds to the difference of scores, before the mean over workloads."""
    best = np.minimum(np.minimum(a, b), others)
    with np.errstate(invalid="ignore"):  # inf / inf, where nobody reached the target
        parts = np.maximum(0.0, R_MAX - a / best) - np.maximum(0.0, R_MAX - b / best)
    return np.asarray(np.nan_to_num(parts, nan=0.0) / (R_MAX - 1.0))


def _can_be_paired(times: StudyTimes, t_SWK: FloatArray, pairs_P2: IntArray, level: float) -> npt.NDArray[np.bool_]:
    """Whether studies of a pair share their seeds, and are enough for the least p-value to lie well below `level`."""
    there_SWK = ~np.isnan(t_SWK)
    same_P = np.all(there_SWK[pairs_P2[:, 0]] == there_SWK[pairs_P2[:, 1]], axis=(1, 2))
    studies_P = there_SWK.sum((1, 2))[pairs_P2[:, 0]]
    return np.asarray(times.paired & same_P & (2.0 ** (1.0 - studies_P) <= level / 10.0))


def _dealt(
    t_P2K: FloatArray, others_P: FloatArray, part_P: FloatArray, paired: bool, most: int, stream: np.random.Generator
) -> FloatArray:
    """Return the part of one workload under each labelling, [P, L], the one that was observed among them."""
    n_a, n_b = (int(n) for n in counts(t_P2K[0]))
    if paired:
        y_P2K = t_P2K[:, :, ~np.isnan(t_P2K[0, 0])]
        swap_LK = _swaps(n_a, most, stream)
        a_PLK = np.sort(np.where(swap_LK, y_P2K[:, None, 1], y_P2K[:, None, 0]), axis=-1)
        b_PLK = np.sort(np.where(swap_LK, y_P2K[:, None, 0], y_P2K[:, None, 1]), axis=-1)
        a_PL, b_PL = (0.5 * (y[..., (n_a - 1) // 2] + y[..., n_a // 2]) for y in (a_PLK, b_PLK))
        return _parts(a_PL, b_PL, others_P[:, None])
    pooled_PN = np.sort(t_P2K.reshape(len(t_P2K), -1), axis=-1)  # what is not there comes last
    a_2L, b_2L = _middles(n_a, n_b, most, stream)
    a_PL, b_PL = (0.5 * (pooled_PN[:, low] + pooled_PN[:, high]) for low, high in (a_2L, b_2L))
    parts_PL = _parts(a_PL, b_PL, others_P[:, None])
    every = math.comb(n_a + n_b, n_a) <= most
    return parts_PL if every else np.concatenate([part_P[:, None], parts_PL], axis=-1)


def _p_values(part_PW: FloatArray, dealt: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Return p-values and standard deviations of the difference over all combinations of the workloads' labellings.

    Studies are dealt anew in each workload by itself, so that this is the convolution of the workloads' distributions:
    no need to draw from it. The parts are rounded to a grid, which makes it the exact test of a statistic that is
    rounded to about 0.1%.
    """
    number, workloads = part_PW.shape
    most_P = sum(np.abs(part_PL).max(-1) for part_PL in dealt)
    cell_P1 = np.where(most_P > 0, most_P / (_CELLS // 2 - len(dealt)), 1.0)[:, None]
    spectrum_PF = np.ones((number, _CELLS // 2 + 1), complex)
    for part_PL in dealt:
        cells_PL = np.rint(part_PL / cell_P1).astype(np.int64) % _CELLS
        flat = (cells_PL + _CELLS * np.arange(number)[:, None]).ravel()
        share_PC = np.bincount(flat, minlength=number * _CELLS).reshape(number, _CELLS) / part_PL.shape[1]
        spectrum_PF *= np.fft.rfft(share_PC)
    share_PC = np.fft.irfft(spectrum_PF, _CELLS)
    distance_C = np.abs(np.fft.fftfreq(_CELLS, 1.0 / _CELLS))  # the cells are in the order 0, 1, ..., -2, -1
    observed_P = np.abs(np.rint(part_PW / cell_P1).sum(-1))
    as_extreme_PC = distance_C >= observed_P[:, None] - 0.5
    p_P = np.clip(np.sum(share_PC * as_extreme_PC, axis=-1), _LEAST_P, 1.0)
    variance_P = sum(np.var(part_PL, axis=-1) for part_PL in dealt)
    return np.asarray(p_P), np.sqrt(variance_P) / workloads


def _swaps(n: int, most: int, stream: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return which studies are exchanged, [L, K]: every way, or none and `most` - 1 at random."""
    if 2**n <= most:
        return (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)
    swap_LK = stream.random((most, n)) < 0.5
    swap_LK[0] = False
    return swap_LK


def _middles(n_a: int, n_b: int, most: int, stream: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Return the places of the two middle studies of a and of b among the sorted studies of both, each [2, L]: for
    every way to deal them, or for `most` at random.
    """
    total = n_a + n_b
    if math.comb(total, n_a) <= most:
        is_a = _all_ways(n_a, n_b)
    else:
        is_a = np.argsort(stream.random((most, total))) < n_a
    places = [np.nonzero(chosen)[1].reshape(len(is_a), -1) for chosen in (is_a, ~is_a)]
    a, b = (np.stack([of[:, (of.shape[1] - 1) // 2], of[:, of.shape[1] // 2]]) for of in places)
    return a, b


@functools.cache
def _all_ways(n_a: int, n_b: int) -> npt.NDArray[np.bool_]:
    chosen = np.array(list(itertools.combinations(range(n_a + n_b), n_a)))
    is_a = np.zeros((len(chosen), n_a + n_b), bool)
    np.put_along_axis(is_a, chosen, True, axis=1)
    return is_a
