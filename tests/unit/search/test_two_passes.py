"""A miss next to the target is not thrown away with one far from it."""

from __future__ import annotations

import pytest

from harness.record.search_record import Asked, SearchRun
from harness.search.two_passes import Finished, budgets, ordered

ASKED = [Asked("s", name, "loss", "min", 0.5, (100, 200), 600, ()) for name in "ab"]


def a_run(hit: int | None, best: float | None = 0.4, status: str = "running") -> SearchRun:
    """A run that meets the target at step `hit`, or ends with the budget at the metric `best`."""
    return SearchRun(
        "w", "", "s", "", "tuning", {"lr": 0.1}, 0, 0, status, (hit or 600,), (best,), 6.0, "",
        workload_program="own", program="p",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("best", "status", "mode", "count"),
    [
        (0.5001, "running", "min", 1.002),
        (0.525, "running", "min", 1.5),
        (0.55, "running", "min", 2.0),
        (5.0, "running", "min", 2.0),
        (0.475, "running", "max", 1.5),
        (0.51, "diverged", "min", 2.0),
        (None, "running", "min", 2.0),
    ],
)
def test_a_miss_counts_as_one_to_two_budgets(best: float | None, status: str, mode: str, count: float) -> None:
    asked = Asked("s", "w", "loss", mode, 0.5, (100, 200), 600, ())
    assert budgets(a_run(None, best, status), asked) == pytest.approx(count)


def test_over_workloads_the_nearer_miss_wins_and_none_at_all_before_it() -> None:
    """At the first point the one workload is missed by a hair, at the second the other is never learnt, but fast."""
    near = Finished({"lr": 0.1}, ((a_run(400),), (a_run(None, 0.5001),)))
    far = Finished({"lr": 0.2}, ((a_run(None, 0.9),), (a_run(250),)))
    slow = Finished({"lr": 0.3}, ((a_run(600),), (a_run(600),)))
    assert [one.point["lr"] for one in ordered([far, near], ASKED)] == [0.1, 0.2]
    assert [one.point["lr"] for one in ordered([far, near, slow], ASKED)] == [0.3, 0.1, 0.2]
