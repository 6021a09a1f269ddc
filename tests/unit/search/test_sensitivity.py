"""Learning-rate sensitivity against values worked by hand."""

from __future__ import annotations

import pytest

from harness.search.sensitivity import Curve, best_of, grid, sensitivity


def test_a_grid_goes_by_factors_of_two() -> None:
    assert grid(0.01, 2) == (0.0025, 0.005, 0.01, 0.02, 0.04)


@pytest.mark.parametrize(
    ("finals", "start", "mode", "expected"),
    [
        ((0.3, 0.1, 0.2), 1.0, "min", (0.2 + 0.0 + 0.1) / 3),
        ((0.3, 0.1, 5.0), 1.0, "min", (0.2 + 0.0 + 0.9) / 3),  # no worse than at the start
        ((0.3, 0.1, None), 1.0, "min", (0.2 + 0.0 + 0.9) / 3),  # as diverged
        ((0.7, 0.9, None), 0.1, "max", (0.2 + 0.0 + 0.8) / 3),
        ((0.7, 0.9, 0.05), 0.1, "max", (0.2 + 0.0 + 0.8) / 3),
        ((0.2, 0.2, 0.2), 1.0, "min", 0.0),
        ((2.0, 3.0, 4.0), 1.0, "min", 0.0),  # nothing trained: all as at the start
        ((0.3, 0.1, 0.2), None, "min", 0.1),
        ((0.3, None, 0.2), None, "min", None),
        ((None, None, None), 1.0, "min", None),
    ],
)
def test_sensitivity(finals, start, mode, expected) -> None:
    found = sensitivity(finals, start, mode)
    assert found is None if expected is None else found == pytest.approx(expected)


def test_a_best_value_at_an_end_of_the_grid_is_told() -> None:
    curve = Curve("it", "task", "loss", "min", (1.0, 2.0, 4.0), (0.1, 0.2, None), 1.0, 10)
    assert curve.best == 0 and curve.at_the_end
    assert best_of((0.1, 0.2, None), "max") == 1
