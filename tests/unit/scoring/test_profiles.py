"""Scores against numbers worked by hand, and what holds for any times: the properties that make a score trustworthy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scoring import profiles
from harness.scoring.standings import standings
from harness.scoring.studies import StudyTimes, gather, medians

Table = dict[str, dict[str, float | None]]


def scores(found: Table, workloads: str = "xyz", held_out: dict[str, str] | None = None) -> dict[str, float]:
    """Scores of submissions with one study each."""
    times = gather({s: {w: [t] for w, t in row.items()} for s, row in found.items()}, workloads, held_out)
    median = profiles.apply_held_out(medians(times.times_SWK, times.counts_SW), times.variants)
    return dict(zip(times.submissions, profiles.scores(profiles.ratios(median)).tolist(), strict=True))


def test_score_by_hand() -> None:
    # a: r = 1 and 2; b: r = 2.5 and 1; c: r = 5 (beyond r_max) and a miss.
    found: Table = {"a": {"x": 2.0, "y": 8.0}, "b": {"x": 5.0, "y": 4.0}, "c": {"x": 10.0, "y": None}}
    assert scores(found, "xy") == {"a": pytest.approx((1 + 2 / 3) / 2), "b": pytest.approx((1.5 / 3 + 1) / 2), "c": 0.0}
    ratios = profiles.ratios(np.array([[2.0, 8.0], [5.0, 4.0], [10.0, math.inf]]))
    assert ratios.tolist() == [[1.0, 2.0], [2.5, 1.0], [5.0, math.inf]]
    assert profiles.geometric_means(ratios).tolist() == pytest.approx([math.sqrt(2), math.sqrt(2.5), math.inf])


def test_a_workload_nobody_reached_counts_for_all() -> None:
    assert scores({"a": {"x": 2.0, "y": None}, "b": {"x": 2.0}}, "xy") == {"a": 0.5, "b": 0.5}


def test_closed_form_is_the_integral_of_the_profile() -> None:
    ratios = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, 1.75, 3.2, math.inf]])
    knots = sorted({1.0, 4.0, *(r for r in ratios[1] if r < 4)})
    integral = sum((b - a) * profiles.profile(ratios[1], a) for a, b in itertools.pairwise(knots)) / 3
    assert profiles.scores(ratios)[1] == pytest.approx(integral)


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(1.0, 6.0), st.just(math.inf), st.sampled_from(profiles.GRID.tolist())), min_size=1))
def test_grid_is_the_trapezoid_over_100_points(ratios: list[float]) -> None:
    # As AlgoPerf computes it: np.trapezoid of (r <= tau).sum() / n over linspace(1, 4, 100), divided by 3.
    rho = [profiles.profile(np.array(ratios), tau) for tau in profiles.GRID]
    assert profiles.scores(np.array([ratios]), "grid")[0] == pytest.approx(np.trapezoid(rho, profiles.GRID) / 3)
    assert profiles.scores(np.array([ratios]), "grid")[0] == pytest.approx(
        profiles.scores(np.array([ratios]))[0], abs=0.02
    )


# ---- held-out variants


def test_a_variant_takes_a_result_away() -> None:
    held_out = {"v": "x"}
    reached: Table = {"a": {"x": 2.0, "v": 3.0}, "b": {"x": 4.0, "v": 4.0}}
    assert scores(reached, "x", held_out) == {"a": 1.0, "b": pytest.approx(2 / 3)}
    missed = reached | {"a": {"x": 2.0, "v": None}}
    assert scores(missed, "x", held_out) == {"a": 0.0, "b": 1.0}  # b is the best of those that remain
    absent = reached | {"a": {"x": 2.0}}
    assert scores(absent, "x", held_out) == {"a": 0.0, "b": 1.0}
    slow = reached | {"b": {"x": 4.0, "v": 12.1}}  # beyond 4 times 3.0 on the variant
    assert scores(slow, "x", held_out) == {"a": 1.0, "b": 0.0}


def test_a_base_that_was_missed_does_not_set_the_pace_on_its_variant() -> None:
    found: Table = {"a": {"x": None, "v": 1.0}, "b": {"x": 4.0, "v": 4.1}}
    assert scores(found, "x", {"v": "x"}) == {"a": 0.0, "b": 1.0}


def test_the_cut_on_a_base_knows_no_variant() -> None:
    # c is beyond 4 times a on x, and a is taken away afterwards: upstream's order, which the published scores have.
    found: Table = {"a": {"x": 1.0, "v": None}, "b": {"x": 3.0, "v": 1.0}, "c": {"x": 4.5, "v": 1.0}}
    assert scores(found, "x", {"v": "x"}) == {"a": 0.0, "b": 1.0, "c": 0.0}


# ---- properties

seconds = st.one_of(st.none(), st.floats(0.01, 1e4))
columns = "xyzv"  # v is a held-out variant of x, or a workload like any other
tables = st.dictionaries(st.sampled_from("abcdef"), st.fixed_dictionaries({w: seconds for w in columns}), min_size=1)
variants = st.sampled_from([None, {"v": "x"}])


def scored(found: Table, held_out: dict[str, str] | None) -> dict[str, float]:
    return scores(found, "xyz" if held_out else "xyzv", held_out)


@settings(deadline=None)
@given(tables, variants)
def test_scores_lie_between_0_and_1(found: Table, held_out: dict[str, str] | None) -> None:
    assert all(0.0 <= score <= 1.0 for score in scored(found, held_out).values())


@settings(deadline=None)
@given(
    tables, variants, st.fixed_dictionaries({w: st.sampled_from([2.0**-9, 0.5, 1.0, 8.0, 2.0**10]) for w in columns})
)
def test_the_unit_of_time_changes_nothing(
    found: Table, held_out: dict[str, str] | None, factor: dict[str, float]
) -> None:
    # Each workload may have a unit of its own. Powers of two, so that a time at the cut stays on its side.
    scaled = {s: {w: None if t is None else factor[w] * t for w, t in row.items()} for s, row in found.items()}
    assert scored(scaled, held_out) == scored(found, held_out)


@settings(deadline=None)
@given(tables, variants, st.data())
def test_a_faster_submission_never_scores_lower(
    found: Table, held_out: dict[str, str] | None, data: st.DataObject
) -> None:
    name, workload = data.draw(st.sampled_from(sorted(found))), data.draw(st.sampled_from(columns))
    time = found[name][workload]
    quicker = data.draw(st.floats(0.001, 1e4 if time is None else time))
    before = scored(found, held_out)
    after = scored(found | {name: found[name] | {workload: quicker}}, held_out)
    assert after[name] >= before[name] - 1e-12
    for other in set(found) - {name}:
        assert after[other] <= before[other] + 1e-12


@settings(deadline=None)
@given(tables, variants, st.floats(1.0, 10.0))
def test_one_slower_than_all_moves_nobody(found: Table, held_out: dict[str, str] | None, slower: float) -> None:
    slow: dict[str, float | None] = {}
    for w in columns:
        times = [row[w] for row in found.values()]
        slow[w] = None if None in times else slower * max(t for t in times if t is not None)
    after = scored(found | {"slow": slow}, held_out)
    assert {s: after[s] for s in found} == scored(found, held_out)


@settings(deadline=None)
@given(tables, st.data())
def test_one_that_is_best_nowhere_moves_nobody(found: Table, data: st.DataObject) -> None:
    # It may beat any one of them on some workload: enough that somebody is as fast as it on each, since the others are
    # compared with the best alone. With held-out variants this is not enough, and the next test shows it.
    best = {w: min((t for row in found.values() if (t := row[w]) is not None), default=None) for w in columns}
    slow = {w: None if t is None else t * data.draw(st.floats(1.0, 10.0)) for w, t in best.items()}
    after = scored(found | {"slow": slow}, None)
    assert {s: after[s] for s in found} == scored(found, None)


def test_one_that_is_best_nowhere_may_be_the_best_that_remains() -> None:
    # a is the fastest on x and loses x to its variant; b remains. The newcomer is between them: best nowhere.
    held_out = {"v": "x"}
    found: Table = {"a": {"x": 1.0, "v": None}, "b": {"x": 3.0, "v": 1.0}}
    assert scores(found, "x", held_out)["b"] == 1.0
    assert scores(found | {"new": {"x": 2.0, "v": 1.0}}, "x", held_out)["b"] == pytest.approx(2.5 / 3)


def test_one_that_is_best_somewhere_may_turn_the_order_of_others() -> None:
    # Scores are relative to the best: a newcomer that halves the best time on x costs a much there and b, who is far
    # behind already, little. It is slower than both on y.
    found: Table = {"a": {"x": 1.0, "y": 2.5}, "b": {"x": 3.5, "y": 1.0}}
    before = scores(found, "xy")
    after = scores(found | {"new": {"x": 0.3, "y": 9.0}}, "xy")
    assert before["a"] > before["b"]
    assert after["a"] < after["b"]


study_tables = st.dictionaries(
    st.sampled_from("abc"),
    st.fixed_dictionaries({w: st.lists(seconds, min_size=6, max_size=8) for w in "xy"}),
    min_size=2,
)


@settings(deadline=None, max_examples=25)
@given(study_tables, st.randoms(use_true_random=False))
def test_permuting_studies_changes_nothing(found: dict[str, dict[str, list[float | None]]], random) -> None:
    def results(cells: dict[str, dict[str, list[float | None]]]):
        return standings(gather(cells, "xy"), baseline=min(cells), draws=40)

    shuffled = {s: {w: random.sample(ts, len(ts)) for w, ts in row.items()} for s, row in reversed(found.items())}
    assert results(shuffled) == results(found)


def test_gather_refuses_what_is_no_time() -> None:
    with pytest.raises(ValueError, match=r"a on x: a time to target of 0\.0 is not positive"):
        gather({"a": {"x": [0.0]}}, "x")


def test_only_leaves_a_workload_out_with_its_variants() -> None:
    times = gather({"a": {"x": [1.0], "y": [2.0], "v": [3.0]}}, "xy", {"v": "x"})
    assert isinstance(times, StudyTimes)
    assert times.only("y").times_SWK.tolist() == [[[2.0]]]
    assert times.only("x").times_SWK.tolist() == [[[1.0], [3.0]]]
    assert times.only("x").variants == ((1, 0),)
