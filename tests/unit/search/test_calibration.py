"""One configuration for all workloads: each is judged at a point that its own runs had no part in, by fresh seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pytest

from harness.record.search_record import Asked, SearchRun
from harness.search import calibration
from harness.search.calibration import JUDGES, Calibration
from harness.search.two_passes import STUDIES, Ask, Table, Values

OPTIMA = {"a": 0.1, "b": 0.1, "c": 0.8}
POINTS: tuple[dict, ...] = ({"lr": 0.1}, {"lr": 0.2}, {"lr": 0.4}, {"lr": 0.8})
DEFAULT = {"lr": 0.3}
BUDGET = 1000


def needed(workload: str, point: Values) -> int:
    """Steps to the target: 100 at the optimum, and 100 more for each factor of two away from it; measured each 50th."""
    return 50 * round(2 * (1 + abs(math.log2(float(point["lr"]) / OPTIMA[workload]))))


class Runs:
    """Answers by a formula, and keeps (workload, lr, study) of each run."""

    def __init__(self, steps: Callable[[str, Values], int] = needed):
        self.steps, self.ran = steps, set[tuple[str, float, int]]()
        self.asked_on: list[tuple[str, ...]] = []

    def on(self, numbers: Sequence[int]) -> Ask:
        names = [list(OPTIMA)[n] for n in numbers]
        self.asked_on.append(tuple(names))

        def ask(points: Sequence[Values], studies: Sequence[int], until: Sequence[int] | None = None) -> Table:
            ends = [BUDGET] * len(names) if until is None else until
            return [
                [[self._run(w, point, study, end, to_target=until is None) for study in studies] for point in points]
                for w, end in zip(names, ends, strict=True)
            ]

        return ask

    def _run(self, workload: str, point: Values, study: int, until: int, *, to_target: bool) -> SearchRun:
        self.ran.add((workload, float(point["lr"]), study))
        hit = self.steps(workload, point)
        last = min(hit, until) if to_target else until
        steps = tuple(range(50, last + 1, 50))
        return SearchRun(
            workload, "", "it", "", "tuning", dict(point), 0, study, "running", steps,
            tuple(hit / step for step in steps), 1.0, "", program="p",
        )  # fmt: skip


def calibrated(runs: Runs, points: tuple[dict, ...] = POINTS) -> Calibration:
    asked = [Asked("it", name, "loss", "min", 1.0, (50, 100), BUDGET, points) for name in OPTIMA]
    return calibration.calibrate("it", asked, DEFAULT, runs.on)


def test_the_others_choose_and_the_price_is_what_that_costs() -> None:
    found = {one.asked.workload: one for one in calibrated(Runs()).held}
    # without c, a and b agree on 0.1; without a or b, 0.1 and 0.8 tug at the mean logarithm of the steps
    assert found["c"].chosen_on == ("a", "b") and found["c"].left_out.point == {"lr": 0.1}
    assert found["c"].tuned.point == {"lr": 0.8}
    assert (found["c"].left_out.steps, found["c"].tuned.steps) == ((400, 400, 400), (100, 100, 100))
    assert found["c"].price == pytest.approx(4.0) and found["c"].unit == "steps"
    assert found["c"].default.steps[0] is not None and found["a"].default.point == DEFAULT


def test_the_price_is_a_geometric_mean() -> None:
    one = calibrated(Runs())
    prices = [held.price for held in one.held]
    assert one.price == pytest.approx(math.prod(p for p in prices if p is not None) ** (1 / 3)) and one.priced == 3
    assert one.everywhere == {"lr": 0.1} and one.missed == ()


def test_what_is_left_out_has_no_part_in_the_choice() -> None:
    """The point of a and b is the same whatever c does, and seeds that judge choose nothing."""
    runs = Runs(lambda w, point: needed(w, point) if w != "c" else 600 - needed(w, point))
    held = {one.asked.workload: one for one in calibrated(runs).held}["c"]
    assert held.left_out.point == {"lr": 0.1} and held.tuned.point != {"lr": 0.8}
    assert set(STUDIES).isdisjoint(JUDGES)
    judged = {(w, lr) for w, lr, study in runs.ran if study in JUDGES}
    assert all((w, DEFAULT["lr"]) in judged for w in OPTIMA)
    assert not {(lr, study) for _, lr, study in runs.ran if lr == DEFAULT["lr"] and study in STUDIES}


def test_a_miss_has_no_price_and_is_named() -> None:
    runs = Runs(lambda w, point: needed(w, point) if w != "c" or point["lr"] == 0.8 else 2 * BUDGET)
    one = calibrated(runs)
    held = one.held[2]
    assert held.left_out.cost is None and held.left_out.best == 2.0 and math.isinf(held.price or 0)
    assert one.missed == ("c",) and one.priced == 2 and math.isfinite(one.price or math.inf)
    nowhere = calibrated(Runs(lambda w, point: 2 * BUDGET))
    assert nowhere.price is None and [held.price for held in nowhere.held] == [None] * 3


def test_one_point_searches_nothing() -> None:
    runs = Runs()
    one = calibrated(runs, (DEFAULT,))
    assert one.price == 1.0 and {study for *_, study in runs.ran} == set(JUDGES)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_no_more_steps_than_told(count: int) -> None:
    points = tuple({"lr": 0.1 * 2**n} for n in range(count))
    asked = [Asked("it", name, "loss", "min", 1.0, (50, 100), BUDGET, points) for name in OPTIMA]
    furthest: dict[tuple, int] = {}
    runs = Runs(lambda w, point: 2 * BUDGET)
    run = runs._run

    def kept(workload: str, point: Values, study: int, until: int, *, to_target: bool) -> SearchRun:
        key = workload, point["lr"], study
        furthest[key] = max(furthest.get(key, 0), until)
        return run(workload, point, study, until, to_target=to_target)

    runs._run = kept  # type: ignore[method-assign]
    calibration.calibrate("it", asked, DEFAULT, runs.on)
    assert 0 < sum(furthest.values()) <= sum(calibration.most_steps(asked))
    assert list(itertools.chain(*runs.asked_on)).count("a") > 3
