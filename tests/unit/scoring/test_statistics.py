"""What is said about chance: intervals, ranges, tests of pairs, ranks without a workload."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.errors import ConfigError
from harness.scoring import bootstrap, profiles, separability
from harness.scoring.separability import PairTest, pair_tests
from harness.scoring.standings import Standings, ranks, standings
from harness.scoring.studies import StudyTimes, gather, medians

INF = math.inf


def cells(seed: int, factor: dict[str, float], workloads: str, studies: int, sd: float = 0.1) -> StudyTimes:
    """Log-normal study times around the factor of each submission."""
    random = np.random.default_rng(seed)
    return gather(
        {s: {w: (f * random.lognormal(0.0, sd, studies)).tolist() for w in workloads} for s, f in factor.items()},
        workloads,
    )


# ---- medians and draws


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(0.1, 100.0), st.just(INF)), min_size=1, max_size=9))
def test_median_is_that_of_numpy(times: list[float]) -> None:
    padded = np.full(9, np.nan)
    padded[: len(times)] = np.sort(times)
    with np.errstate(invalid="ignore"):
        assert medians(padded, np.array(len(times))) == pytest.approx(np.median(times))


def test_draws_are_studies_of_their_own_cell() -> None:
    times = gather({"a": {"x": [1.0, 2.0, 3.0], "y": [4.0, None]}, "b": {"x": [5.0, 6.0, 7.0], "y": [8.0, 9.0]}}, "xy")
    drawn = np.concatenate(list(bootstrap.draws(times, 3000)))
    assert drawn.shape == (3000, 2, 2, 3)
    assert set(drawn[:, 0, 0].ravel()) == {1.0, 2.0, 3.0}
    assert set(drawn[:, 0, 1, :2].ravel()) == {4.0, INF}
    assert np.isnan(drawn[:, 0, 1, 2]).all()
    assert np.mean(drawn[:, 0, 0] == 2.0) == pytest.approx(1 / 3, abs=0.02)
    assert np.all(np.diff(drawn[:, 0, 0]) >= 0)
    assert np.corrcoef(medians(drawn[:, 0, 0], np.array(3)), medians(drawn[:, 1, 0], np.array(3)))[0, 1] < 0.1


def test_draws_do_not_depend_on_chunks_or_on_others_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    both = cells(0, {"a": 1.0, "b": 2.0}, "xy", 6)
    expected = np.concatenate(list(bootstrap.draws(both, 50)))
    alone = gather({"b": {w: both.times_SWK[1, i].tolist() for i, w in enumerate("xy")}}, "xy")
    monkeypatch.setattr(bootstrap, "_CHUNK", 100)
    chunks = list(bootstrap.draws(alone, 50))
    assert len(chunks) > 1
    assert np.array_equal(np.concatenate(chunks)[:, 0], expected[:, 1])


def test_interval_by_hand() -> None:
    draws = np.arange(1000.0)[:, None]
    assert bootstrap.interval(draws, np.array([500.0])) == (25.0, 974.0)  # no bias
    low, high = bootstrap.interval(draws, np.array([600.0]))  # the draws lie 100 lower: back by 200
    assert (low.item(), high.item()) == (25.0, 1174.0)
    infinite = np.where(draws < 100, draws, INF)
    low, high = bootstrap.interval(infinite, np.array([5.0]))
    assert (low.item(), high.item()) == (25.0, INF)


@pytest.mark.parametrize(("submissions", "spread", "least"), [(2, 0.4, 0.92), (8, 0.4, 0.92), (8, 0.03, 0.8)])
def test_interval_holds_the_true_score(submissions: int, spread: float, least: float) -> None:
    # With eight that nearly tie, the percentile interval alone holds it in about half of the benchmarks.
    random, held = np.random.default_rng(7), []
    names = tuple(f"s{i}" for i in range(submissions))
    true_SW = np.exp(random.normal(0.0, spread, (submissions, 4)))
    truth = profiles.scores(profiles.ratios(true_SW))
    for _ in range(60):
        times_SWK = np.sort(true_SW[..., None] * random.lognormal(0.0, 0.1, (submissions, 4, 6)), axis=-1)
        found = standings(StudyTimes(names, tuple("wxyz"), times_SWK), draws=200, pairs=False)
        for name, score in zip(names, truth, strict=True):
            interval = found.score[name].interval
            assert interval is not None
            held.append(interval[0] <= score <= interval[1])
    assert np.mean(held) >= least


# ---- six studies for an interval, two to five for a range


@pytest.mark.parametrize("studies", range(1, 9))
def test_interval_from_six_studies_range_from_two(studies: int) -> None:
    found = standings(cells(1, {"a": 1.0, "b": 1.2, "c": 2.0}, "xy", studies), baseline="a")
    estimates = [
        *found.score.values(), *found.mean_ratio.values(), *(e for row in found.time.values() for e in row.values()),
        *(e for row in found.ratio.values() for e in row.values()), *(pair.ratio for pair in found.pairs),
        *(s.ratio for name, s in found.speed_up.items() if name != "a"),
    ]  # fmt: skip
    for estimate in estimates:
        assert estimate is not None
        assert (estimate.interval is not None) == (studies >= 6)
        assert (estimate.range is not None) == (2 <= studies <= 5)
        for low, high in filter(None, (estimate.interval, estimate.range)):
            assert low <= estimate.value <= high
    assert found.studies == (studies, studies)


def test_one_short_cell_makes_ranges_of_all() -> None:
    times = gather({"a": {"x": [1.0] * 8}, "b": {"x": [2.0, 2.1, 2.2, 2.3, 2.4]}}, "x")
    found = standings(times)
    assert all(e.interval is None and e.range is not None for e in found.score.values())


def test_range_by_hand() -> None:
    times = gather({"a": {"x": [1.0, 2.0, 4.0]}, "b": {"x": [2.0, 3.0, None]}}, "x")
    found = standings(times, baseline="a")
    assert found.time["a"]["x"].range == pytest.approx((1.0, 4.0))
    assert found.time["b"]["x"].range == (pytest.approx(2.0), INF)
    # a, median 2: with its slowest study r = 4/3 against b's 3, with its fastest it is the best.
    assert found.score["a"].range == pytest.approx(((4 - 4 / 3) / 3, 1.0))
    assert found.score["b"].value == pytest.approx((4 - 3 / 2) / 3)
    assert found.score["b"].range == pytest.approx((0.0, 1.0))
    assert found.speed_up["b"].ratio is not None
    assert found.speed_up["b"].ratio.value == pytest.approx(2 / 3)
    assert found.speed_up["b"].ratio.range == pytest.approx((0.0, 4.0 / 2.0))


def test_the_interval_of_a_score_stays_in_its_bounds() -> None:
    for seed in range(5):
        found = standings(cells(seed, {"a": 1.0, "b": 1.01, "c": 3.9}, "x", 6, sd=0.3))
        for estimate in found.score.values():
            assert estimate.interval is not None
            assert 0.0 <= estimate.interval[0] <= estimate.interval[1] <= 1.0
        for row in found.ratio.values():
            assert row["x"].interval is not None
            assert row["x"].interval[0] >= 1.0


def test_every_draw_recomputes_the_best() -> None:
    # b is the best in the point estimate; a is in many draws, and then its score is 1 and that of b less.
    found = standings(gather({"a": {"x": [1.0, 1.0, 3.2, 3.2, 3.2, 3.2, 1.0]}, "b": {"x": [3.0] * 7}}, "x"))
    assert found.score["b"].value == 1.0
    assert found.score["b"].interval is not None
    assert found.score["b"].interval[0] == pytest.approx(1 / 3)  # three times as slow as the best
    assert found.score["a"].interval is not None
    assert found.score["a"].interval[1] == 1.0


# ---- tests of pairs


def test_t_on_one_workload_is_the_pooled_two_sample_test() -> None:
    times = cells(2, {"a": 1.0, "b": 1.1}, "x", 7)
    a, b = np.log(times.times_SWK[:, 0])
    (test,) = pair_tests(times)
    assert test.method == "t"
    assert test.log_ratio == pytest.approx(b.mean() - a.mean())
    assert test.p == pytest.approx(stats.ttest_ind(a, b).pvalue, rel=1e-9)


def test_the_variance_is_pooled_over_all_that_reached() -> None:
    a, b = [1.0, 1.1, 1.2], [1.5, 1.6, 1.7]
    other = [3.0, 6.0, 9.0]
    (alone,) = pair_tests(gather({"a": {"x": a}, "b": {"x": b}}, "x"))
    with_other = pair_tests(gather({"a": {"x": a}, "b": {"x": b}, "c": {"x": other}}, "x"))
    missing = pair_tests(gather({"a": {"x": a}, "b": {"x": b}, "c": {"x": [*other[:2], None]}}, "x"))
    pooled = (sum(np.var(np.log(row), ddof=1) for row in (a, b, other))) / 3
    t = (np.mean(np.log(b)) - np.mean(np.log(a))) / math.sqrt(pooled * 2 / 3)
    assert with_other[0].p == pytest.approx(2 * stats.t.sf(t, 6), rel=1e-9)
    assert missing[0].p == pytest.approx(alone.p)


def test_t_over_workloads_weighs_them_alike() -> None:
    times = cells(3, {"a": 1.0, "b": 1.05}, "xyz", 5)
    y = np.log(times.times_SWK)
    difference = (y[1].mean(-1) - y[0].mean(-1)).mean()
    variances = y.var(-1, ddof=1).mean(0) * (2 / 5) / 9
    df = variances.sum() ** 2 / (variances**2 / 8).sum()
    (test,) = pair_tests(times)
    assert test.p == pytest.approx(2 * stats.t.sf(abs(difference) / math.sqrt(variances.sum()), df), rel=1e-9)


def test_permutation_on_one_workload_is_exact() -> None:
    times = gather({"a": {"x": [1.0, 1.2, 1.5, 1.1]}, "b": {"x": [1.4, 2.0, None, 9.0]}}, "x")
    y = np.log(np.minimum(times.times_SWK[:, 0], 4.0))  # a miss and 9.0 are worth 4 times the fastest
    (test,) = pair_tests(times)
    assert test.method == "permutation"
    assert test.log_ratio == pytest.approx(y[1].mean() - y[0].mean())

    def statistic(a, b, axis):
        return b.mean(axis) - a.mean(axis)

    expected = stats.permutation_test((y[0], y[1]), statistic, n_resamples=np.inf, alternative="two-sided").pvalue
    assert test.p == pytest.approx(expected)


def test_permutation_is_within_workloads() -> None:
    # Every combination of labels within x and y, counted one by one.
    found = {"a": {"x": [1.0, 1.2, 1.5], "y": [100.0, 130.0]}, "b": {"x": [1.4, 2.0, None], "y": [140.0, 160.0]}}
    times = gather(found, "xy")
    y = separability.log_times(times.times_SWK, cut=True)
    pooled = [np.concatenate([row[~np.isnan(row)] for row in y[:, w]]) for w in (0, 1)]

    def part(w: int, chosen: tuple[int, ...]) -> float:
        is_a = np.isin(np.arange(len(pooled[w])), chosen)
        return float(pooled[w][~is_a].mean() - pooled[w][is_a].mean())

    ways = [
        part(0, x) + part(1, z)
        for x in itertools.combinations(range(6), 3)
        for z in itertools.combinations(range(4), 2)
    ]
    observed = part(0, (0, 1, 2)) + part(1, (0, 1))
    (test,) = pair_tests(times)
    assert test.log_ratio == pytest.approx(observed / 2)
    assert test.p == pytest.approx(np.mean(np.abs(ways) >= abs(observed) - 1e-9), abs=1e-9)


def test_permutation_that_is_sampled_agrees_with_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    found = {
        s: {w: [*(f * random.lognormal(0.0, 0.2, 6)), None] for w in "xy"} for s, f in {"a": 1.0, "b": 1.15}.items()
    }
    (exact,) = pair_tests(gather(found, "xy"))
    monkeypatch.setattr(separability, "_LABELLINGS", (1_500, 1_500))
    (sampled,) = pair_tests(gather(found, "xy"))
    assert exact.p is not None
    assert sampled.p != exact.p
    assert sampled.p == pytest.approx(exact.p, rel=0.15)


def test_where_nobody_reached_a_workload_says_nothing() -> None:
    one = gather({"a": {"x": [1.0, 1.1, 1.2]}, "b": {"x": [1.2, 1.3, None]}}, "x")
    two = gather(
        {s: {"x": ts.tolist(), "y": [None] * 3} for s, ts in zip("ab", one.times_SWK[:, 0], strict=True)}, "xy"
    )
    (alone,), (with_y,) = pair_tests(one), pair_tests(two)
    assert with_y.p == pytest.approx(alone.p)
    assert with_y.log_ratio == pytest.approx(alone.log_ratio / 2)


def test_without_any_spread_labels_are_permuted() -> None:
    (test,) = pair_tests(gather({"a": {"x": [1.0] * 4}, "b": {"x": [2.0] * 4}}, "x"))
    assert (test.method, test.p) == ("permutation", pytest.approx(2 / math.comb(8, 4)))
    (same,) = pair_tests(gather({"a": {"x": [1.0] * 4}, "b": {"x": [1.0] * 4}}, "x"))
    assert (same.p, same.separable, same.seeds) == (1.0, False, None)


def test_one_study_is_not_tested() -> None:
    tests = pair_tests(gather({"a": {"x": [1.0]}, "b": {"x": [2.0, 2.1]}, "c": {"x": [4.0, 4.1, 4.2]}}, "x"))
    assert [t.method for t in tests] == [None, None, "t"]
    assert [t.separable for t in tests] == [None, None, True]
    assert tests[2].p_holm == tests[2].p  # the pairs that were tested are the only hypotheses


def test_holm_by_hand() -> None:
    tests = [PairTest(i, i + 1, 0.1, "t", p) for i, p in enumerate([0.01, 0.04, 0.03, 0.005])]
    assert [t.p_holm for t in separability.holm(tests)] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [t.separable for t in separability.holm(tests)] == [True, False, False, True]


@pytest.mark.parametrize(("cv", "difference", "expected"), [(0.02, 0.01, 63), (0.04, 0.05, 10), (0.1, 0.1, 16)])
def test_seeds_needed_is_the_textbook_number(cv: float, difference: float, expected: int) -> None:
    # n per arm = 2 (z_0.975 + z_0.8)**2 (CV / difference)**2 = 15.7 (CV / difference)**2, and one or two more for t.
    spread = separability.Spread(np.array([cv**2]), np.array([20]), np.array([2]))
    found = separability.seeds_needed(difference, spread, 0.05)
    assert found is not None
    assert expected <= found <= expected + 2
    assert separability.seeds_needed(-difference, spread, 0.05) == found
    assert separability.seeds_needed(difference, spread, 0.05 / 10) > found
    assert separability.seeds_needed(1e-6, spread, 0.05) is None
    assert separability.seeds_needed(0.0, spread, 0.05) is None


def test_so_many_seeds_do_separate() -> None:
    found = [pair_tests(cells(seed, {"a": 1.0, "b": 1.08}, "xy", 4))[0].seeds for seed in range(20)]
    typical = int(np.median([n for n in found if n is not None]))
    power = np.mean(
        [bool(pair_tests(cells(100 + i, {"a": 1.0, "b": 1.08}, "xy", typical))[0].separable) for i in range(60)]
    )
    assert 0.6 < power < 0.98


@pytest.mark.parametrize("missed", [0.0, 0.15])
def test_equals_are_seldom_called_separable(missed: float) -> None:
    random, wrong = np.random.default_rng(11), 0
    for _ in range(150):
        times_SWK = random.lognormal(0.0, 0.1, (4, 3, 5))
        times_SWK[random.random(times_SWK.shape) < missed] = INF
        tests = pair_tests(StudyTimes(tuple("abcd"), tuple("xyz"), np.sort(times_SWK, axis=-1)))
        wrong += any(test.separable for test in tests)
    assert wrong <= 150 * 0.05 + 2.6 * math.sqrt(150 * 0.05 * 0.95)


def test_overlap_of_intervals_is_not_the_test() -> None:
    # The scores of a and b are both relative to c and move together: their intervals overlap, they are separable.
    found = standings(cells(4, {"a": 2.0, "b": 2.15, "c": 1.0}, "xyz", 8, sd=0.05), draws=500)
    a, b = found.score["a"].interval, found.score["b"].interval
    assert a is not None
    assert b is not None
    assert b[1] > a[0]
    (pair,) = (pair for pair in found.pairs if {pair.a, pair.b} == {"a", "b"})
    assert pair.test.separable


def test_win_probability_by_hand() -> None:
    times = gather({"a": {"x": [1.0, 3.0], "y": [None, 5.0]}, "b": {"x": [2.0, 3.0, 4.0], "y": [None]}}, "xy")
    (win,) = separability.win_probabilities(times, separability.all_pairs(2))
    x = (3 + 1.5) / 6  # 1 beats all three; 3 beats 4, ties 3, loses to 2
    y = (0.5 + 1) / 2
    assert win == pytest.approx((x + y) / 2)


# ---- standings


def test_pairs_put_the_higher_rank_first_and_say_who_is_faster() -> None:
    # b has the higher score, for a is over four times slower on x; by the mean log ratio, cut there, a is the faster.
    random = np.random.default_rng(0)

    def study(t: float) -> list[float]:
        return (t * random.lognormal(0.0, 0.01, 6)).tolist()

    found = standings(
        gather(
            {"a": {"x": study(4.0), "y": study(1.0)}, "b": {"x": study(1.0), "y": study(3.9)}, "c": {"x": study(9.0)}},
            "xy",
        )
    )
    assert found.rank == {"a": 2, "b": 1, "c": 3}
    pair = found.pairs[0]
    assert (pair.a, pair.b) == ("b", "a")
    assert pair.ratio.value == pytest.approx(math.sqrt(4.0 / 3.9), rel=0.02)
    assert pair.ratio.interval is not None
    assert pair.ratio.interval[0] < pair.ratio.value < pair.ratio.interval[1]
    assert [(p.a, p.b) for p in found.pairs] == [("b", "a"), ("b", "c"), ("a", "c")]
    assert found.pairs[1].faster == "b"


def test_ranks() -> None:
    assert ranks({"a": 0.5, "b": 0.7, "c": 0.5 + 1e-15, "d": 0.1}) == {"a": 2, "b": 1, "c": 2, "d": 4}


def test_ranks_without_a_workload() -> None:
    found = standings(
        gather({"a": {"x": [1.0], "y": [1.0], "z": [9.0]}, "b": {"x": [3.0], "y": [3.0], "z": [1.0]}}, "xyz")
    )
    assert found.rank == {"a": 1, "b": 2}
    assert found.rank_without == {"x": {"a": 2, "b": 1}, "y": {"a": 2, "b": 1}, "z": {"a": 1, "b": 2}}


def test_ranks_without_equal_those_of_the_smaller_table() -> None:
    random = np.random.default_rng(3)
    table = {s: {w: [float(random.lognormal())] for w in "xyzuv"} for s in "abcd"}
    times = gather(table, "xyz", {"u": "x", "v": "y"})
    for workload, found in standings(times).rank_without.items():
        assert found == standings(times.only(w for w in "xyz" if w != workload)).rank


def test_speed_up_is_over_the_workloads_that_both_reached() -> None:
    found: Standings = standings(
        gather({"a": {"x": [2.0], "y": [8.0], "z": [1.0]}, "b": {"x": [1.0], "y": [1.0]}, "c": {}}, "xyz"), baseline="a"
    )
    assert found.speed_up["a"].ratio is not None
    assert found.speed_up["a"].ratio.value == 1.0
    assert found.speed_up["b"].ratio is not None
    assert found.speed_up["b"].ratio.value == pytest.approx(4.0)
    assert found.speed_up["b"].common == ("x", "y")
    assert found.speed_up["c"].ratio is None
    with pytest.raises(ConfigError, match="there is no submission 'd' to be the baseline"):
        standings(gather({"a": {"x": [1.0]}}, "x"), baseline="d")


def test_a_miss_in_some_draws_leaves_the_speed_up_without_a_bound() -> None:
    times = gather({"a": {"x": [1.0] * 6}, "b": {"x": [2.0, 2.0, 2.0, 2.0, None, None]}}, "x")
    found = standings(times, baseline="a")
    assert found.speed_up["b"].ratio is not None
    assert found.speed_up["b"].ratio.interval == pytest.approx((0.0, 0.5))
