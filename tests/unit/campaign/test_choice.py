"""From the record of a search to a point, by hand: two passes, misses last, the lower median of three tuning seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.campaign.tuned_point import Choice, choose
from harness.record import search_record
from harness.record.search_record import Asked, SearchRecord, SearchRun
from harness.search import two_passes

ASKED = Asked("s", "w", "loss", "min", 0.5, (100, 200), 600, ({"lr": 0.1}, {"lr": 0.2}))
GRID = tuple(range(50, 601, 50))


def a_run(
    lr: float, study: int, hit: int | None, *, best: float = 0.7, program: str = "p", seconds: float = 6.0, **more: Any
) -> SearchRun:
    """A run that meets the target of 0.5 at step `hit`, or ends at the budget with `best`."""
    steps = GRID if hit is None else (*(step for step in GRID if step < hit), hit)
    values: tuple[float | None, ...] = (*(0.9 - lr / 10 for _ in steps[1:]), best if hit is None else 0.4)
    about = {"status": "running", "steps": steps, "values": values} | more
    return SearchRun("w", "", "s", "", "tuning", {"lr": lr}, 0, study, seconds=seconds, machine="", workload_program="own", program=program, **about)  # fmt: skip # noqa: E501


def chosen(table: Mapping[float, Sequence[int | None]], best: Mapping[float, Sequence[float]] | None = None) -> Choice:
    """Choose between two points of which the steps to the target on three studies are given."""
    runs = [
        a_run(lr, study, hit, best=best[lr][study] if best else 0.7)
        for lr, hits in table.items()
        for study, hit in enumerate(hits)
    ]
    choice = choose(SearchRecord(ASKED, tuple(runs)))
    assert choice is not None
    return choice


@pytest.mark.parametrize(
    ("first", "second", "winner", "why"),
    [
        ((300, 300, 300), (250, 250, 400), 1, "reached the target in 250 steps, the median of 3 tuning seeds"),
        ((150, 350, 350), (300, 300, 300), 1, "reached the target in 300 steps, the median of 3 tuning seeds"),
        ((300, 300, 300), (150, None, None), 0, "reached the target in 300 steps, the median of 3 tuning seeds"),
        ((600, 600, None), (150, None, None), 0, "reached the target in 600 steps, the median of 3 tuning seeds"),
        ((None, 250, 300), (350, 350, 350), 0, "reached the target in 300 steps, the median of 3 tuning seeds"),
        ((300, 300, 300), (300, 300, 300), 0, "reached the target in 300 steps, the median of 3 tuning seeds"),
    ],
)
def test_the_lower_median_wins_and_misses_come_last(first: Any, second: Any, winner: int, why: str) -> None:
    """One lucky seed (150) chooses nothing where the point misses the others."""
    choice = chosen({0.1: first, 0.2: second})
    assert (choice.winner, choice.why) == (winner, why)
    assert choice.compared[0].steps == first
    own, other = ((math.inf if n is None else float(n) for n in row) for row in (first, second))
    assert choice.finalists == ((tuple(own), tuple(other)) if winner == 0 else (tuple(other), tuple(own)))


def test_where_both_miss_the_median_of_the_best_metric_decides() -> None:
    misses = {0.1: (None, None, None), 0.2: (None, None, 300)}
    choice = chosen(misses, {0.1: (0.6, 0.61, 0.9), 0.2: (0.55, 0.8, 0.4)})
    assert (choice.winner, choice.compared[0].best, choice.compared[1].best) == (1, 0.61, 0.55)
    assert choice.why == "missed the target in 2 of 3 tuning seeds, as the other finalist did; median best loss 0.55"
    choice = chosen(dict.fromkeys((0.1, 0.2), (None,) * 3), dict.fromkeys((0.1, 0.2), (0.6,) * 3))
    assert (choice.winner, choice.unit) == (0, "steps"), "of equal ones the first"


def test_where_larger_is_better() -> None:
    asked = replace(ASKED, mode="max", metric="accuracy")
    table = {0.1: (0.2, 0.3, 0.25), 0.2: (0.4, 0.1, 0.3)}
    runs = tuple(
        a_run(lr, study, None, steps=(600,), values=(value,))
        for lr, row in table.items()
        for study, value in enumerate(row)
    )
    choice = choose(SearchRecord(asked, runs))
    assert choice is not None
    assert (choice.winner, choice.point) == (1, {"lr": 0.2})
    assert "median best accuracy 0.3" in choice.why


def test_other_programs_are_compared_by_seconds() -> None:
    """200 steps of 0.03 s are dearer than 300 of 0.01 s; where a miss is one, its seconds say nothing."""
    fast = [a_run(0.1, study, 300, program="a", seconds=3.0) for study in range(3)]
    dear = [a_run(0.2, study, 200, program="b", seconds=6.0) for study in range(3)]
    choice = choose(SearchRecord(ASKED, (*fast, *dear)))
    assert choice is not None
    assert (choice.winner, choice.unit) == (0, "seconds")
    assert choice.finalists[0] == pytest.approx((3.0, 3.0, 3.0))
    assert choice.finalists[1] == pytest.approx((6.0, 6.0, 6.0))
    same = choose(SearchRecord(ASKED, (*(replace(run, program="b") for run in fast), *dear)))
    assert same is not None
    assert (same.winner, same.unit) == (1, "steps"), "of one program steps alone decide, whatever a run took"
    misses = [
        a_run(lr, study, None, program=program, seconds=seconds, best=best)
        for lr, program, seconds, best in ((0.1, "a", 1.0, 0.7), (0.2, "b", 9.0, 0.6))
        for study in range(3)
    ]
    missed = choose(SearchRecord(ASKED, tuple(misses)))
    assert missed is not None
    assert missed.winner == 1, "the better metric"


def five(**more: Any) -> list[SearchRun]:
    """Five points, of which the first three go on past step 100 and the third and first past 200."""
    at = {0.1: (0.8, 0.7), 0.2: (0.81, 0.75), 0.3: (0.7, 0.6), 0.4: (0.9,), 0.5: (0.95,)}
    ended = [a_run(lr, 0, None, steps=(100, 200)[: len(values)], values=values) for lr, values in at.items()]
    finals = [
        a_run(lr, study, None, steps=(100, 200, 300), values=(*at[lr], 0.4), **more)
        for lr in (0.1, 0.3)
        for study in range(3)
    ]
    return [*(run for run in ended if run.hyperparameters["lr"] not in (0.1, 0.3)), *finals]


FIVE = replace(ASKED, points=tuple({"lr": lr / 10} for lr in range(1, 6)))


def test_points_are_halved_on_the_first_seed() -> None:
    choice = choose(SearchRecord(FIVE, tuple(five())))
    assert choice is not None
    assert [one.status for one in choice.compared] == [
        "finalist",
        "ended at step 200",
        "finalist",
        "ended at step 100",
        "ended at step 100",
    ]
    assert [one.best for one in choice.compared] == [0.4, 0.75, 0.4, 0.9, 0.95]
    assert [one.steps for one in choice.compared] == [(300,) * 3, (), (300,) * 3, (), ()]
    assert len(choice.finalists) == 2


def test_one_that_diverged_goes_on_past_no_rung() -> None:
    runs = [
        replace(run, status="diverged", steps=(50,), values=(None,)) if run.hyperparameters["lr"] == 0.2 else run
        for run in five()
    ]
    fourth = next(run for run in runs if run.hyperparameters["lr"] == 0.4)
    runs.append(replace(fourth, steps=(100, 200), values=(0.9, 0.9)))
    runs.remove(fourth)
    choice = choose(SearchRecord(FIVE, tuple(runs)))
    assert choice is not None
    assert choice.compared[1].status == "diverged at step 50"
    assert choice.compared[3].status == "ended at step 200"


@given(st.permutations(five()))
def test_the_same_record_gives_the_same_choice(runs: list[SearchRun]) -> None:
    assert choose(SearchRecord(FIVE, tuple(runs))) == choose(SearchRecord(FIVE, tuple(five())))


@given(st.sets(st.integers(0, 8), min_size=1))
def test_while_any_run_is_missing_nothing_is_chosen(missing: set[int]) -> None:
    left = tuple(run for number, run in enumerate(five()) if number not in missing)
    assert choose(SearchRecord(FIVE, left)) is None


def test_a_finalist_that_was_begun_anew_changes_nothing() -> None:
    """A process that goes on with a search begins a run at step 0: it passes the rungs without stopping there."""
    again = [replace(run, steps=(50, *run.steps), values=(0.99, *run.values)) for run in five()]
    once = choose(SearchRecord(FIVE, tuple(five())))
    assert choose(SearchRecord(FIVE, tuple(again))) == once


def test_a_point_that_another_request_took_further_is_ended_where_it_was() -> None:
    further = [
        replace(run, steps=(100, 200, 300), values=(0.9, 0.2, 0.2)) if run.hyperparameters["lr"] == 0.4 else run
        for run in five()
    ]
    choice = choose(SearchRecord(FIVE, tuple(further)))
    assert choice is not None
    assert choice.compared[3].status == "ended at step 100"


def test_without_a_target_the_metric_chooses() -> None:
    choice = choose(SearchRecord(replace(ASKED, target=None), tuple(a_run(lr, s, None, best=lr) for lr in (0.1, 0.2) for s in range(3))))  # fmt: skip # noqa: E501
    assert choice is not None
    assert choice.winner == 0
    assert "missed the target" in choice.why


def test_a_record_comes_back_as_it_was(tmp_path: Any) -> None:
    file = search_record.file_of(tmp_path / "w" / "s")
    assert search_record.read(file) is None
    record = SearchRecord(FIVE, tuple(five()))
    search_record.write(file, record)
    found = search_record.read(file)
    assert found is not None
    assert sorted(map(str, found.runs)) == sorted(map(str, record.runs))
    text = file.read_text()
    search_record.write(file, SearchRecord(FIVE, tuple(reversed(record.runs))))
    assert file.read_text() == text, "whichever ended first"


# ---- several workloads with one setting


def test_one_setting_for_several_workloads_misses_few_and_is_fast() -> None:
    """Points by workload and study; (misses, geometric mean) by the lower median over the studies."""
    asked = [ASKED, replace(ASKED, workload="v")]

    def point(lr: float, *rows: Sequence[int | None]) -> two_passes.Finished:
        runs = (tuple(a_run(lr, study, hit) for study, hit in enumerate(row)) for row in rows)
        return two_passes.Finished({"lr": lr}, tuple(runs))

    slow = point(0.1, (600, 600, 600), (600, 600, 600))
    quick = point(0.2, (100, 100, 100), (None, None, None))
    mixed = point(0.3, (200, 200, 200), (500, 500, None))
    order = [one.point["lr"] for one in two_passes.ordered([quick, slow, mixed], asked)]
    assert order == [0.3, 0.1, 0.2], "sqrt(200 * 500) < 600 steps; a workload missed is worse than any time"


def test_the_most_that_a_search_takes() -> None:
    assert two_passes.most_steps(FIVE) == 5 * 100 + 3 * 100 + 2 * 400 + 4 * 600
    assert two_passes.most_steps(ASKED) == 6 * 600, "two points are not halved"
