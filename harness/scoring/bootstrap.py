"""Bootstrap over studies: what the scores would have been had the seeds been drawn again.

Studies are drawn with replacement within each workload: the same for all submissions where they share their seeds,
else, and where some of a submission's studies missed, for each submission by itself. A study is drawn as a whole, with
its trials and with the processes that ran them; where a search chose the point, its tuning seeds are drawn again too.
Every draw goes through the whole rule: medians, the best, the r_max cut.

Six studies are the least an interval is given for. The widest statement that n studies make about a median is "between
the fastest and the slowest", which holds with probability 1 - 2 * 0.5**n: 94% at five, 97% at six. Below that there is
no honest 95% interval, and the range is shown instead.
"""

from __future__ import annotations

import functools
import math
import zlib

import numpy as np
import numpy.typing as npt

from harness.scoring.studies import FloatArray, StudyTimes

DRAWS = 2_000
LEVEL = 0.95
MIN_STUDIES = 6
SEED = 0


def draws(times: StudyTimes, number: int = DRAWS, seed: int = SEED) -> FloatArray:
    """Return the medians of `number` draws of the studies, [B, S, W], the variants among the workloads.

    The stream of a cell is seeded by the names of its workload and, unless studies are paired, of its submission, so
    that the other submissions in the table do not change its draws.
    """
    counts_SW = times.counts_SW
    there_SWK = ~np.isnan(times.times_SWK)
    paired_W = times.paired & np.all(there_SWK == there_SWK[:1], axis=(0, 2))
    drawn_BSW = np.empty((number, *counts_SW.shape))
    for s, submission in enumerate(times.submissions):
        for w, workload in enumerate((*times.workloads, *times.held_out)):
            there, paired = there_SWK[s, w], bool(paired_W[w])
            t_K, n = times.times_SWK[s, w, there], int(counts_SW[s, w])
            speed_K = None if times.speeds_SWK is None else times.speeds_SWK[s, w, there]
            if not paired:  # then their order says nothing, and decides nothing
                order = np.argsort(t_K)
                t_K, speed_K = t_K[order], None if speed_K is None else speed_K[order]
            count_KB = _drawn((workload,) if paired else (workload, submission), n, number, seed)
            if 0 < np.isinf(t_K).sum() < n:
                count_KB = _with_misses(np.isinf(t_K), (workload, submission), number, seed)
            order = np.argsort(t_K)
            upto_KB = np.cumsum(count_KB[order], axis=0, dtype=np.uint16)  # draws of the fastest, the two fastest, ...
            low_B, high_B = (np.sum(upto_KB <= place, axis=0, dtype=np.uint16) for place in ((n - 1) // 2, n // 2))
            median_B = 0.5 * (t_K[order][low_B] + t_K[order][high_B])
            if speed_K is not None:
                median_B = median_B * (speed_K @ count_KB / speed_K.sum())
            if redrawn := times.redrawn.get((submission, workload)):
                chance = np.random.default_rng(_key(seed, (workload, submission, "point"))).random(number)
                median_B = median_B * np.where(chance < redrawn.share, redrawn.factor, 1.0)
            drawn_BSW[:, s, w] = median_B
    return drawn_BSW


def interval(draws_B: FloatArray, estimate: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the ends of the 95% interval over the first axis of the draws, for each number in `estimate`.

    It is the percentile interval, widened to hold that interval moved back by twice the bias that the draws show (their
    median less the estimate). The best of several noisy medians is biased low, and drawing again doubles that:
    README.md has a table of how often either holds the true score. The ends of the percentile interval are draws, so
    that infinity is safe.
    """
    number = len(draws_B)
    tail = int((1.0 - LEVEL) / 2.0 * number)
    places = (tail, number // 2, number - 1 - tail)
    ordered = np.partition(draws_B, places, axis=0)
    low, middle, high = (ordered[place] for place in places)
    known = np.isfinite(middle) & np.isfinite(estimate)
    bias = np.subtract(middle, estimate, out=np.zeros_like(middle), where=known)
    return np.minimum(low, low - 2.0 * bias), np.maximum(high, high - 2.0 * bias)


def median_ends(times: StudyTimes) -> tuple[FloatArray, FloatArray]:
    """Return the two studies of each cell that hold the median with 95% at least, whatever its distribution, [S, W]:
    the fastest and the slowest of 6 to 8 studies.
    """
    n_SW = times.counts_SW[:, : len(times.workloads)]
    sorted_SWK = np.sort(times.times_SWK[:, : len(times.workloads)], axis=-1)
    skipped = np.array([_skipped(n) for n in range(int(n_SW.max()) + 1)])[n_SW]
    low, high = (np.take_along_axis(sorted_SWK, at[..., None], -1)[..., 0] for at in (skipped, n_SW - 1 - skipped))
    return low, high


def _skipped(n: int) -> int:
    """Return how many studies at either end lie outside: those that a median does with 2.5% at most."""
    below, skipped = 0.5**n, 0
    while below + math.comb(n, skipped + 1) * 0.5**n <= (1.0 - LEVEL) / 2.0:
        skipped += 1
        below += math.comb(n, skipped) * 0.5**n
    return skipped


@functools.lru_cache(maxsize=4_096)
def _drawn(names: tuple[str, ...], n: int, number: int, seed: int) -> npt.NDArray[np.uint16]:
    """Return how often each study is drawn, [K, B]; kept, since every clock asks for the same."""
    return _counted(np.random.default_rng(_key(seed, names)).integers(n, size=(number, n), dtype=np.uint16), n)


def _with_misses(
    missed_K: npt.NDArray[np.bool_], names: tuple[str, ...], number: int, seed: int
) -> npt.NDArray[np.uint16]:
    """Return how often each study is drawn, [K, B], where some missed and some did not.

    How often a seed misses is not known either: its probability is drawn first, from Jeffreys' posterior. Without that
    six misses of seven could become three in 1% of draws alone.
    """
    (misses,), (hits,) = np.nonzero(missed_K), np.nonzero(~missed_K)
    stream = np.random.default_rng(_key(seed, (*names, "misses")))
    chance_B1 = stream.beta(len(misses) + 0.5, len(hits) + 0.5, size=(number, 1))
    which_2BK = stream.random((2, number, len(missed_K)))
    hit_BK, miss_BK = (of[(which_2BK[1] * len(of)).astype(np.intp)] for of in (hits, misses))
    return _counted(np.where(which_2BK[0] < chance_B1, miss_BK, hit_BK), len(missed_K))


def _counted(index_BK: npt.NDArray[np.integer], n: int) -> npt.NDArray[np.uint16]:
    """Return how often each of `n` studies is among those drawn, [K, B]."""
    number = len(index_BK)
    flat = index_BK.T + n * np.arange(number)
    return np.ascontiguousarray(np.bincount(flat.ravel(), minlength=n * number).reshape(number, n).T, np.uint16)


def _key(seed: int, names: tuple[str, ...]) -> list[int]:
    return [seed, *(zlib.crc32(name.encode()) for name in names)]
