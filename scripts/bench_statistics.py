"""How often the statistics of harness/scoring are right, over simulated benchmarks: the tables of its README.

    python scripts/bench_statistics.py [PART ...] [--benchmarks N] [--runs RECORDS]

- `intervals`: how often the interval of a score holds the true one. True times differ between submissions by a stated
  spread; seeds scatter by a CV of 10% about them, processes by 2%. Where seeds miss, each misses with the probability
  stated, and the true time is the median of the whole distribution. Where points are tuned, each submission has five,
  whose true times differ by 10%: the search draws one tuning seed for all and two more for the best two, and the true
  score is the median of what repeated searches lead to.
- `equals`: how often some pair of equal submissions is called separable.
- `power`: how often two are told apart whose times differ by so much, where their seeds are the same and where each
  has its own, beside Student's t on mean log times; the correlation of what a seed does to both is stated.
- `recorded`: the correlation of log times between submissions over the studies of published records, and what sharing
  seeds does to the tests there.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy import special

from harness.record import published
from harness.scoring import bootstrap, profiles, score, separability
from harness.scoring.standings import standings
from harness.scoring.studies import FloatArray, Redrawn, StudyTimes, gather
from harness.scoring.tuned import redraw

CV, PROCESS_SD, POINT_SD, POINTS = 0.10, 0.02, 0.10, 5


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="intervals, equals, power, recorded (default: all)")
    parser.add_argument("--benchmarks", type=int, default=300, help="behind each row (default: 300)")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="published records, for `recorded`")
    args = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "intervals": lambda: intervals(args.benchmarks),
        "equals": lambda: equals(args.benchmarks),
        "power": lambda: power(args.benchmarks),
        "recorded": lambda: recorded(args.runs),
    }
    for name in args.parts or parts:
        parts[name]()


def intervals(benchmarks: int) -> None:
    """The table of coverage."""
    print("| submissions, workloads | differ by | studies | seeds that miss | tuned | percentile interval | ours |")
    print("|---|---|---|---|---|---|---|")
    for s, w, spread, k, missing, tuned in (
        (2, 2, 0.40, 7, 0.0, False),
        (11, 8, 0.40, 7, 0.0, False),
        (11, 8, 0.15, 7, 0.0, False),
        (6, 3, 0.05, 7, 0.0, False),
        (11, 8, 0.05, 7, 0.0, False),
        (11, 8, 0.05, 10, 0.0, False),
        (6, 3, 0.15, 7, 0.1, False),
        (6, 3, 0.15, 7, 0.3, False),
        (6, 3, 0.15, 7, 0.4, False),
        (6, 3, 0.15, 7, 0.45, False),
        (6, 3, 0.15, 6, 0.4, False),
        (6, 3, 0.15, 7, 0.0, True),
        (11, 8, 0.15, 7, 0.0, True),
        (6, 3, 0.05, 7, 0.1, True),
    ):
        held = [covered(s, w, spread, k, missing, tuned, seed) for seed in range(benchmarks)]
        plain, ours = (statistics.fmean(itertools.chain.from_iterable(column)) for column in zip(*held, strict=True))
        words = (f"{s}, {w}", f"{spread:.0%}", k, f"{missing:.0%}" if missing else "-", "yes" if tuned else "-")
        print(f"| {' | '.join(map(str, words))} | {plain:.0%} | {ours:.0%} |", flush=True)


def covered(
    s: int, w: int, spread: float, k: int, missing: float, tuned: bool, seed: int
) -> tuple[list[bool], list[bool]]:
    """Return for each submission of one benchmark whether the percentile interval, and ours, hold its true score."""
    random = np.random.default_rng(seed)
    true_SW = np.exp(random.normal(0.0, spread, (s, w)))
    redrawn: dict[tuple[str, str], Redrawn] = {}
    names = tuple(f"s{i:02}" for i in range(s))
    workloads = tuple(f"w{i}" for i in range(w))
    shift = math.exp(CV * statistics.NormalDist().inv_cdf(0.5 / (1.0 - missing)))  # of the median, by the misses
    if tuned:
        points_SWP = true_SW[..., None] * np.exp(np.abs(random.normal(0.0, POINT_SD, (s, w, POINTS))))
        again = [searched(points_SWP, random)[0] for _ in range(101)]
        truth_S = np.median([profiles.scores(profiles.ratios(chosen * shift)) for chosen in again], axis=0)
        true_SW, redrawn = searched(points_SWP, random, names, workloads)
    else:
        truth_S = profiles.scores(profiles.ratios(true_SW * shift))
    speeds_SWK = random.lognormal(0.0, PROCESS_SD, (s, w, k))
    times_SWK = true_SW[..., None] * random.lognormal(0.0, CV, (s, w, k))
    times_SWK[random.random(times_SWK.shape) < missing] = np.inf
    pooled_SW1 = speeds_SWK.mean(-1, keepdims=True)
    times = StudyTimes(
        names, workloads, times_SWK * pooled_SW1, paired=True, speeds_SWK=speeds_SWK / pooled_SW1, redrawn=redrawn
    )
    found = standings(times, pairs=False)
    low_S, high_S = np.quantile(profiles.scores(profiles.ratios(bootstrap.draws(times))), (0.025, 0.975), axis=0)
    ours = []
    for name, true in zip(names, truth_S.tolist(), strict=True):
        ends = found.score[name].interval
        assert ends is not None
        ours.append(ends[0] - 1e-9 <= true <= ends[1] + 1e-9)
    return ((low_S - 1e-9 <= truth_S) & (truth_S <= high_S + 1e-9)).tolist(), ours


def searched(
    points_SWP: FloatArray, random: np.random.Generator, names: tuple[str, ...] = (), workloads: tuple[str, ...] = ()
) -> tuple[FloatArray, dict[tuple[str, str], Redrawn]]:
    """Search on tuning seeds: all points on one, the best two on two more, by the median of three."""
    s, w, _ = points_SWP.shape
    cost_SWP3 = points_SWP[..., None] * random.lognormal(0.0, CV, (*points_SWP.shape, 3))
    chosen_SW, redrawn = np.empty((s, w)), {}
    for i, j in np.ndindex(s, w):
        first, second = sorted(range(points_SWP.shape[-1]), key=lambda p: cost_SWP3[i, j, p, 0])[:2]
        costs = {p: cost_SWP3[i, j, p] for p in (first, second)}
        winner = min(costs, key=lambda p: np.median(costs[p]))
        chosen_SW[i, j] = points_SWP[i, j, winner]
        if names:
            redrawn[names[i], workloads[j]] = redraw(costs[winner].tolist(), costs[first + second - winner].tolist())
    return chosen_SW, redrawn


def equals(benchmarks: int) -> None:
    """The table of false alarms."""
    print("| submissions, workloads, studies | what | seeds | tables where some pair of equals is called separable |")
    print("|---|---|---|---|")
    rows: list[tuple[tuple[int, int, int], str, bool, Callable[[int], StudyTimes]]] = []
    for shape in ((2, 1, 7), (4, 3, 5), (4, 3, 7), (8, 6, 7)):
        rows.append((shape, "all alike", False, partial(simulated, *shape, 0.0, False)))
    for shape, missing in (((4, 3, 7), 0.15), ((2, 3, 5), 0.4), ((2, 3, 6), 0.4), ((2, 3, 7), 0.4), ((8, 6, 7), 0.3)):
        rows.append((shape, f"{missing:.0%} miss", True, partial(simulated, *shape, missing, True)))
    for s, k in ((2, 5), (8, 5), (8, 7)):
        rows.append(((s, 8, k), "50% miss on one workload", False, partial(one_uncertain, s, k)))
    for k in (5, 7):
        rows.append(((3, 8, k), "one noisy cell; a third is the best", False, partial(one_noisy, k)))
    for k in (5, 7):
        what = "a third is the best and misses 40% on one workload"
        rows.append(((3, 2, k), what, False, partial(best_misses, k)))
    for row in rows:
        alarms(*row, benchmarks)


def alarms(
    shape: tuple[int, int, int], what: str, shared: bool, make: Callable[[int], StudyTimes], benchmarks: int
) -> None:
    """Print a row: how often a pair of the submissions that are equal is called separable."""
    wrong = 0
    for seed in range(benchmarks):
        pairs = standings(make(seed), draws=1_000).pairs
        wrong += any(pair.separable for pair in pairs if "best" not in (pair.a, pair.b))
    cells = (", ".join(map(str, shape)), what, "shared" if shared else "own", f"{wrong / benchmarks:.1%}")
    print(f"| {' | '.join(cells)} |", flush=True)


def one_uncertain(s: int, k: int, seed: int) -> StudyTimes:
    """Equals on eight workloads, of which one is reached by every second seed."""
    times = simulated(s, 8, k, 0.0, False, seed)
    times.times_SWK[:, 0][np.random.default_rng([seed, 1]).random((s, k)) < 0.5] = np.inf
    return times


def one_noisy(k: int, seed: int) -> StudyTimes:
    """Two equals at twice the best; seeds scatter by 1%, and by 30% for one of them on one of eight workloads."""
    random = np.random.default_rng(seed)
    times_SWK = random.lognormal(0.0, 0.01, (3, 8, k)) * np.array([2.0, 2.0, 1.0])[:, None, None]
    times_SWK[1, 0] = 2.0 * random.lognormal(0.0, 0.3, k)
    return StudyTimes(("a", "b", "best"), tuple(f"w{i}" for i in range(8)), times_SWK)


def best_misses(k: int, seed: int) -> StudyTimes:
    """Two of the same score, which trade places on two workloads; the best misses four times in ten on the first."""
    random = np.random.default_rng(seed)
    times_SWK = random.lognormal(0.0, CV, (3, 2, k)) * np.array([[2.0, 3.0], [3.0, 2.0], [1.0, 1.0]])[..., None]
    times_SWK[2, 0, random.random(k) < 0.4] = np.inf
    return StudyTimes(("a", "b", "best"), ("w0", "w1"), times_SWK)


def simulated(
    s: int, w: int, k: int, missing: float, paired: bool, seed: int, *, factor: float = 1.0, shared: float = 0.0
) -> StudyTimes:
    """Return study times of equals, but that every submission after the first is slower by `factor`; `shared` is the
    correlation between submissions of what a seed does.
    """
    random = np.random.default_rng(seed)
    own, common = random.normal(size=(s, w, k)), random.normal(size=(1, w, k))
    times_SWK = np.exp(CV * (math.sqrt(1.0 - shared) * own + math.sqrt(shared) * common))
    times_SWK[1:] *= factor
    times_SWK[random.random(times_SWK.shape) < missing] = np.inf
    names = tuple(f"s{i:02}" for i in range(s))
    return StudyTimes(names, tuple(f"w{i}" for i in range(w)), times_SWK, paired=paired)


def power(benchmarks: int) -> None:
    """The table of power: two submissions, three workloads, seven studies."""
    print("| slower by | correlation | the same seeds | seeds of their own | Student's t on mean log times |")
    print("|---|---|---|---|---|")
    for factor, shared in ((1.05, 0.0), (1.08, 0.0), (1.15, 0.0), (1.05, 0.3), (1.08, 0.3), (1.08, 0.6)):
        cells = []
        for paired in (True, False):
            tables = [
                simulated(2, 3, 7, 0.0, paired, seed, factor=factor, shared=shared * paired)
                for seed in range(benchmarks)
            ]
            cells.append(f"{sum(bool(standings(table).pairs[0].separable) for table in tables) / benchmarks:.0%}")
        means = sum(p_of_means(table) < separability.ALPHA for table in tables)
        print(f"| {factor - 1:.0%} | {shared:g} | {' | '.join(cells)} | {means / benchmarks:.0%} |", flush=True)


def p_of_means(times: StudyTimes) -> float:
    """Return the p of the difference in mean log time over the workloads, the variance that of each cell."""
    y_SWK = np.log(times.times_SWK)
    _, w, k = y_SWK.shape
    error = math.sqrt((y_SWK.var(-1, ddof=1) / k).sum()) / w
    t = abs(y_SWK[0].mean() - y_SWK[1].mean()) / error
    return 2.0 * float(special.stdtr(2 * (k - 1) * w, -t))


def recorded(files: list[Path]) -> None:
    """The table of recorded runs."""
    print("| records | pair | workload | studies | correlation of log times |\n|---|---|---|---|---|")
    for file in files:
        trials = [trial for trial in published.read(file) if not trial.spec.tuning]
        found = score.score(trials)
        assert found.clock is not None
        lists = {
            name: {w: [one.times.get(found.clock) for _, one in sorted(row.items())] for w, row in cell.items()}
            for name, cell in found.cells.items()
        }
        times = gather(lists, found.ranked)
        for a, b in itertools.combinations(range(len(times.submissions)), 2):
            for w, workload in enumerate(times.workloads):
                pair_2K = np.log(times.times_SWK[[a, b], w])
                both_2K = pair_2K[:, np.isfinite(pair_2K).all(0)]
                told = f"{np.corrcoef(both_2K)[0, 1]:+.2f}" if both_2K.shape[1] > 2 else "-"
                names = f"{times.submissions[a]} / {times.submissions[b]}"
                print(f"| {file.name} | {names} | {workload} | {both_2K.shape[1]} | {told} |")
        for paired in (True, False):
            tests = [pair.test for pair in standings(replace(times, paired=paired)).pairs]
            told = ", ".join(f"{test.difference:+.3f} +- {test.error:.3f}, p = {test.p:.2g}" for test in tests)
            print(f"{file.name}: seeds taken as {'shared' if paired else 'their own'}: {told}")


if __name__ == "__main__":
    main()
