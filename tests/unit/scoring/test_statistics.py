"""What is said about chance: intervals, ranges, tests of pairs, ranks without a workload."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.errors import ConfigError
from harness.scoring import bootstrap, profiles, separability
from harness.scoring.separability import PairTest
from harness.scoring.standings import Standings, ranks, standings
from harness.scoring.studies import Redrawn, StudyTimes, gather, medians
from harness.scoring.tuned import redraw

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


def test_draws_are_medians_of_studies_of_their_own_cell() -> None:
    times = gather({"a": {"x": [1.0, 2.0, 3.0], "y": [4.0, 5.0]}, "b": {"x": [5.0, 6.0, 7.0], "y": [8.0, 9.0]}}, "xy")
    drawn = bootstrap.draws(times, 3000)
    assert drawn.shape == (3000, 2, 2)
    assert set(drawn[:, 0, 0]) == {1.0, 2.0, 3.0}
    assert set(drawn[:, 0, 1]) == {4.0, 4.5, 5.0}
    # The middle of three draws of three is the middle one with probability 13 / 27.
    assert np.mean(drawn[:, 0, 0] == 2.0) == pytest.approx(13 / 27, abs=0.03)
    assert abs(np.corrcoef(drawn[:, 0, 0], drawn[:, 1, 0])[0, 1]) < 0.06


def test_studies_that_share_seeds_are_drawn_together() -> None:
    times = gather({"a": {"x": [1.0, 2.0, 3.0]}, "b": {"x": [11.0, 12.0, 13.0]}}, "x", paired=True)
    drawn = bootstrap.draws(times, 100)
    assert np.array_equal(drawn[:, 1], drawn[:, 0] + 10.0)
    turned = gather({"a": {"x": [1.0, 2.0, 3.0]}, "b": {"x": [13.0, 12.0, 11.0]}}, "x", paired=True)
    assert np.array_equal(bootstrap.draws(turned, 100)[:, 1], 14.0 - drawn[:, 0])


def test_draws_do_not_depend_on_others_in_the_table() -> None:
    both = cells(0, {"a": 1.0, "b": 2.0}, "xy", 6)
    alone = gather({"b": {w: both.times_SWK[1, i].tolist() for i, w in enumerate("xy")}}, "xy")
    for paired in (False, True):
        one, two = (replace(t, paired=paired) for t in (alone, both))
        assert np.array_equal(bootstrap.draws(one, 50)[:, 0], bootstrap.draws(two, 50)[:, 1])


def test_draws_hold_that_misses_are_chance() -> None:
    times = gather({"a": {"x": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, None]}, "b": {"x": [*[None] * 6, 1.0]}}, "x")
    drawn = bootstrap.draws(times, 4000)[..., 0]
    one_miss = np.isinf(drawn[:, 0]).mean()  # four of seven, with a probability drawn from Beta(1.5, 6.5)
    exact = stats.betabinom.sf(3, 7, 1.5, 6.5)
    assert one_miss == pytest.approx(exact, abs=0.01)
    assert np.isfinite(drawn[:, 1]).mean() == pytest.approx(exact, abs=0.01)
    assert set(drawn[np.isfinite(drawn[:, 0]), 0]) <= {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}


def test_draws_take_a_study_with_its_processes() -> None:
    # All scatter is that of processes: the mean of the drawn ones moves every draw.
    speeds = [0.97, 0.98, 0.99, 1.00, 1.01, 1.02, 1.03]
    times = gather({"a": {"x": [2.0] * 7}}, "x", speeds={"a": {"x": speeds}})
    drawn = bootstrap.draws(times, 2000)[:, 0, 0]
    assert drawn.mean() == pytest.approx(2.0, rel=1e-3)
    assert drawn.std() == pytest.approx(2.0 * np.std(speeds) / math.sqrt(7), rel=0.05)


def test_draws_choose_the_point_again() -> None:
    times = gather({"a": {"x": [2.0] * 7}}, "x", redrawn={("a", "x"): Redrawn(0.25, 1.5)})
    drawn = bootstrap.draws(times, 4000)[:, 0, 0]
    assert set(drawn) == {2.0, 3.0}
    assert np.mean(drawn == 3.0) == pytest.approx(0.25, abs=0.02)
    never = gather({"a": {"x": [2.0] * 7}}, "x", redrawn={("a", "x"): Redrawn(0.25, INF)})
    assert np.isinf(bootstrap.draws(never, 4000)[:, 0, 0]).mean() == pytest.approx(0.25, abs=0.02)


def test_what_other_tuning_seeds_choose() -> None:
    assert redraw([10.0, 11.0, 12.0], [20.0, 21.0, 22.0]) == Redrawn(0.0, 21.0 / 11.0)
    # The runner-up is ahead where study 2 is drawn at least twice of three: 7 of 27 ways.
    assert redraw([10.0, 10.0, 12.0], [11.0, 11.0, 11.0]) == Redrawn(7 / 27, 1.1)
    assert redraw([10.0, 10.0, INF], [11.0, INF, 11.0]).factor == 1.1
    assert redraw([10.0, 10.0, 12.0], [9.0, INF, INF]) == Redrawn(7 / 27, INF)
    assert redraw([INF, INF, 1.0], [INF, INF, INF]).factor == 1.0


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


def pair_tests(times: StudyTimes) -> list[PairTest]:
    found = standings(times)
    rows = {name: i for i, name in enumerate(times.submissions)}
    return sorted((pair.test for pair in found.pairs), key=lambda t: sorted((rows[times.submissions[t.a]], t.b)))


def test_the_test_is_of_the_difference_of_scores() -> None:
    times = cells(3, {"a": 1.0, "b": 1.05, "c": 1.5}, "xyz", 7)
    parts_BSW = np.maximum(0.0, 4.0 - profiles.ratios(bootstrap.draws(times))) / 9.0
    scores_S = profiles.scores(profiles.ratios(times.medians_SW))
    difference_B = parts_BSW[:, 0].sum(-1) - parts_BSW[:, 1].sum(-1)
    variance = parts_BSW[:, :2].var(0)
    degrees = variance.sum() ** 2 / (variance**2 / 6).sum()
    test = pair_tests(times)[0]
    assert test.difference == pytest.approx(scores_S[0] - scores_S[1])
    assert test.error == pytest.approx(difference_B.std())
    assert 6 <= degrees <= 36
    expected = 2 * stats.t.sf(abs(test.difference) / difference_B.std(), degrees)
    assert test.p == pytest.approx(max(expected, 2 * np.mean(difference_B * test.difference <= 0)))


def test_one_noisy_cell_has_its_own_degrees_of_freedom() -> None:
    # All but one cell are steady: the error is that of seven studies, not of seven on each of eight workloads.
    random, wrong = np.random.default_rng(3), 0
    for _ in range(60):
        times_SWK = random.lognormal(0.0, 0.01, (3, 8, 7)) * np.array([2.0, 2.0, 1.0])[:, None, None]
        times_SWK[1, 0] = 2.0 * random.lognormal(0.0, 0.3, 7)
        found = standings(StudyTimes(tuple("abc"), tuple("stuvwxyz"), times_SWK), draws=500)
        (pair,) = (pair for pair in found.pairs if {pair.a, pair.b} == {"a", "b"})
        wrong += pair.test.p < 0.05
    assert wrong <= 8


def test_a_best_that_sometimes_misses_is_no_proof_against_the_others() -> None:
    # c is the best on x and misses four times in ten; a and b trade places and have the same true score.
    random, wrong = np.random.default_rng(4), 0
    for _ in range(60):
        times_SWK = random.lognormal(0.0, 0.1, (3, 2, 7)) * np.array([[2.0, 3.0], [3.0, 2.0], [1.0, 1.0]])[..., None]
        times_SWK[2, 0, random.random(7) < 0.4] = INF
        found = standings(StudyTimes(tuple("abc"), tuple("xy"), times_SWK), draws=500)
        wrong += any(pair.separable for pair in found.pairs if {pair.a, pair.b} == {"a", "b"})
    assert wrong <= 8


def test_misses_of_two_submissions_are_drawn_apart() -> None:
    # With the same seeds, and as many misses each in other studies: whether one misses says nothing on the other.
    a, b = [None, None, None, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, None, None, None]
    missed = np.isinf(bootstrap.draws(gather({"a": {"x": a}, "b": {"x": b}}, "x", paired=True)))[..., 0]
    assert abs(np.corrcoef(missed.T)[0, 1]) < 0.08


def test_pairs_are_tested_by_the_rule_on_held_out_variants_too() -> None:
    # a is the faster on x and misses the variant, which takes its result away: b is the better.
    random = np.random.default_rng(0)
    x = {s: (t * random.lognormal(0.0, 0.02, 7)).tolist() for s, t in {"a": 1.0, "b": 2.0}.items()}
    times = gather({"a": {"x": x["a"], "v": [None] * 7}, "b": {"x": x["b"], "v": x["b"]}}, "x", {"v": "x"})
    found = standings(times)
    assert found.score["b"].value == 1.0
    assert (found.pairs[0].a, found.pairs[0].separable) == ("b", True)


def test_without_any_spread_the_ways_to_deal_studies_bound_p() -> None:
    (test,) = pair_tests(gather({"a": {"x": [1.0] * 5}, "b": {"x": [2.0] * 5}}, "x"))
    assert test.p == pytest.approx(2 / math.comb(10, 5))
    (test,) = pair_tests(gather({"a": {"x": [1.0] * 5, "y": [None] * 5}, "b": {"x": [1.0] * 5, "y": [2.0] * 5}}, "xy"))
    assert test.p == pytest.approx(2 / math.comb(10, 5) ** 2)
    (same,) = pair_tests(gather({"a": {"x": [1.0] * 5}, "b": {"x": [1.0] * 5}}, "x"))
    assert (same.p, same.separable, same.seeds) == (1.0, False, None)


def test_where_nobody_reached_a_workload_says_nothing() -> None:
    one = cells(1, {"a": 1.0, "b": 1.2}, "x", 7)
    rows = {s: {"x": one.times_SWK[i, 0].tolist(), "y": [None] * 7} for i, s in enumerate("ab")}
    (alone,), (with_y,) = pair_tests(one), pair_tests(gather(rows, "xy"))
    assert with_y.difference == pytest.approx(alone.difference / 2)
    assert with_y.error == pytest.approx(alone.error / 2)


def test_under_five_studies_are_not_tested() -> None:
    tests = pair_tests(cells(0, {"a": 1.0, "b": 9.0}, "xyz", 5))
    assert [t.separable for t in tests] == [True]
    five, four = ([1.0 + 0.1 * k for k in range(n)] for n in (5, 4))
    tests = pair_tests(gather({"a": {"x": four}, "b": {"x": five}, "c": {"x": [2 * t for t in five]}}, "x"))
    assert [t.separable is None for t in tests] == [True, True, False]
    assert tests[2].p_holm == tests[2].p  # the pairs that were tested are the only hypotheses
    assert all(pair.separable is None for pair in standings(cells(0, {"a": 1.0, "b": 9.0}, "xyz", 4)).pairs)


def test_holm_by_hand() -> None:
    tests = [PairTest(i, i + 1, 0.1, 0.1, p) for i, p in enumerate([0.01, 0.04, 0.03, 0.005])]
    assert [t.p_holm for t in separability.holm(tests)] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [t.separable for t in separability.holm(tests)] == [True, False, False, True]


def test_seeds_needed_is_the_textbook_number() -> None:
    # n = n0 (z_0.975 + z_0.8)**2 (error / difference)**2, and the error is that of n0 studies.
    assert separability.seeds_needed(0.1, 0.1, 7, 0.05) == math.ceil(7 * 7.8489)
    assert separability.seeds_needed(-0.1, 0.1, 7, 0.05) == math.ceil(7 * 7.8489)
    assert separability.seeds_needed(0.1, 0.1, 7, 0.005) == math.ceil(7 * (2.80703 + 0.84162) ** 2)
    assert separability.seeds_needed(1e-6, 0.1, 7, 0.05) is None
    assert separability.seeds_needed(0.0, 0.1, 7, 0.05) is None
    assert separability.seeds_needed(1.0, 0.001, 7, 0.05) == 5


def test_so_many_seeds_do_separate() -> None:
    found = [pair_tests(cells(seed, {"a": 1.0, "b": 1.12}, "xy", 5))[0].seeds for seed in range(20)]
    typical = int(np.median([n for n in found if n is not None]))
    tests = [pair_tests(cells(100 + i, {"a": 1.0, "b": 1.12}, "xy", typical))[0] for i in range(60)]
    power = np.mean([bool(test.separable) for test in tests])
    assert 0.6 < power < 0.98


@pytest.mark.parametrize(
    ("submissions", "studies", "missed", "paired"),
    [
        (4, 5, 0.0, False),
        (4, 5, 0.15, False),
        (4, 7, 0.0, True),
        (2, 7, 0.4, True),
        (2, 6, 0.4, True),
        (2, 5, 0.5, False),
    ],
)
def test_equals_are_seldom_called_separable(submissions: int, studies: int, missed: float, paired: bool) -> None:
    random, wrong = np.random.default_rng(11), 0
    for _ in range(100):
        times_SWK = random.lognormal(0.0, 0.1, (submissions, 3, studies))
        times_SWK[random.random(times_SWK.shape) < missed] = INF
        found = standings(StudyTimes(tuple("abcd")[:submissions], tuple("xyz"), times_SWK, paired=paired), draws=500)
        wrong += any(pair.separable for pair in found.pairs)
    assert wrong <= 100 * 0.05 + 2.6 * math.sqrt(100 * 0.05 * 0.95)


@pytest.mark.parametrize("studies", [6, 7, 9])
def test_the_interval_of_a_time_holds_the_median(studies: int) -> None:
    random, held = np.random.default_rng(studies), []
    for _ in range(60):
        times_SWK = random.lognormal(0.0, 0.1, (2, 4, studies))
        found = standings(StudyTimes(("a", "b"), tuple("wxyz"), times_SWK), draws=500, pairs=False)
        held += [
            e.interval[0] <= 1.0 <= e.interval[1] for row in found.time.values() for e in row.values() if e.interval
        ]
    assert len(held) == 480
    assert np.mean(held) >= 0.93


def test_sharing_seeds_tells_more_apart() -> None:
    # What a seed does to one it does to the other; drawn apart it looks like noise.
    random, apart = np.random.default_rng(2), {True: 0, False: 0}
    for _ in range(40):
        common = random.normal(0.0, 0.1, (1, 3, 7))
        times_SWK = np.exp(common + random.normal(0.0, 0.04, (2, 3, 7))) * np.array([1.0, 1.08])[:, None, None]
        for paired in apart:
            (pair,) = standings(StudyTimes(("a", "b"), tuple("xyz"), times_SWK, paired=paired), draws=500).pairs
            apart[paired] += bool(pair.separable)
    assert apart[True] > apart[False] + 10


def test_overlap_of_intervals_is_not_the_test() -> None:
    # The scores of a and b are both relative to c and move together: their intervals overlap, they are separable.
    found = standings(cells(4, {"a": 2.0, "b": 2.15, "c": 1.0}, "xyz", 9, sd=0.05))
    a, b = found.score["a"].interval, found.score["b"].interval
    assert a is not None
    assert b is not None
    assert b[1] > a[0]
    (pair,) = (pair for pair in found.pairs if {pair.a, pair.b} == {"a", "b"})
    assert pair.separable


def test_win_probability_by_hand() -> None:
    times = gather({"a": {"x": [1.0, 3.0], "y": [None, 5.0]}, "b": {"x": [2.0, 3.0, 4.0], "y": [None]}}, "xy")
    (win,) = separability.win_probabilities(times, separability.all_pairs(2))
    x = (3 + 1.5) / 6  # 1 beats all three; 3 beats 4, ties 3, loses to 2
    y = (0.5 + 1) / 2
    assert win == pytest.approx((x + y) / 2)


# ---- standings


def test_the_test_never_says_that_the_lower_in_rank_is_the_better() -> None:
    # b has the higher score, for a is over four times slower on x; by the mean log ratio, cut there, a is the faster.
    random = np.random.default_rng(0)

    def study(t: float) -> list[float]:
        return (t * random.lognormal(0.0, 0.01, 7)).tolist()

    found = standings(
        gather(
            {"a": {"x": study(4.0), "y": study(1.0)}, "b": {"x": study(1.0), "y": study(3.9)}, "c": {"x": study(9.0)}},
            "xy",
        )
    )
    assert found.rank == {"a": 2, "b": 1, "c": 3}
    assert [(p.a, p.b) for p in found.pairs] == [("b", "a"), ("b", "c"), ("a", "c")]
    for pair in found.pairs:
        better, worse = (found.submissions.index(name) for name in (pair.a, pair.b))
        assert pair.test.better in (None, better)
        assert pair.test.difference * (1 if pair.test.a == better else -1) >= 0
        if pair.separable:
            assert found.rank_set[pair.a][1] < found.rank_set[pair.b][1] or worse == better
    assert found.rank_set["c"] == (3, 3)


def test_ranks_are_sets() -> None:
    found = standings(cells(0, {"a": 1.0, "b": 1.01, "c": 2.0, "d": 2.02, "e": 3.9}, "xyz", 7))
    assert found.rank_set == {"a": (1, 2), "b": (1, 2), "c": (3, 4), "d": (3, 4), "e": (5, 5)}
    unknown = standings(cells(0, {"a": 1.0, "b": 9.0}, "xyz", 2))
    assert unknown.rank_set == {"a": (1, 2), "b": (1, 2)}


def test_how_many_times_as_fast_agrees_with_times_the_best() -> None:
    found = standings(cells(5, {"a": 1.0, "b": 1.2, "c": 1.7}, "xyz", 7))
    for pair in found.pairs:
        assert pair.ratio.value == pytest.approx(found.mean_ratio[pair.b].value / found.mean_ratio[pair.a].value)


def test_a_score_in_two_parts_is_shown_as_such() -> None:
    times = gather({"a": {"x": [1.0] * 7, "y": [1.0] * 4 + [None] * 3}, "b": {"x": [2.0] * 7, "y": [2.0] * 7}}, "xy")
    found = standings(times)
    both, one = found.score["a"].parts
    assert (both.reached, both.low, both.high) == (2, 1.0, 1.0)
    assert (one.reached, one.low, one.high) == (1, 0.5, 0.5)
    assert both.share + one.share == 1.0
    assert one.share == pytest.approx(stats.betabinom.sf(3, 7, 3.5, 4.5), abs=0.03)
    assert found.score["b"].parts == ()


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
