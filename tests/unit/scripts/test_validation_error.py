"""What chance a validation slice leaves: by hand, and as another draw of the slice really has it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


@pytest.fixture(scope="module")
def script() -> Any:
    sys.path.insert(0, str(SCRIPTS))
    try:
        import validation_error
    finally:
        sys.path.remove(str(SCRIPTS))
    return validation_error


def test_by_hand(script: Any) -> None:
    same = script.figures(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]))
    assert (same["mean"], same["spread"], same["between"]) == (2.0, 0.0, 0.0)
    assert same["level"] == pytest.approx(1 / np.sqrt(3))  # examples differ by a standard deviation of 1
    # Seeds that disagree on each example and agree in the mean: the deviations are 1 each way, with one degree of
    # freedom over seeds and one over examples.
    crossed = script.figures(np.array([[0.0, 2.0], [2.0, 0.0]]))
    assert (crossed["spread"], crossed["between"]) == (0.0, pytest.approx(np.sqrt(2)))


def test_between_is_what_another_slice_draws_anew(script: Any) -> None:
    rng = np.random.default_rng(0)
    seeds = 0.02 * rng.standard_normal((40, 1))
    seen, moved = [], []
    for _ in range(200):
        slice_ = seeds + rng.standard_normal((1, 50)) + 0.5 * rng.standard_normal((40, 50))
        seen.append(script.figures(slice_)["between"])
        moved.append(slice_.mean(axis=1) - slice_.mean())
    assert np.mean(seen) == pytest.approx(np.std(moved, axis=0, ddof=1).mean(), rel=0.03)
    assert np.mean(seen) == pytest.approx(0.5 / np.sqrt(50), rel=0.03)


def test_the_table_is_of_what_was_measured(script: Any) -> None:
    found = script.figures(np.array([[1.0, 2.0, 3.0], [1.5, 2.0, 3.0]])) | {"views": 2, "workload_hash": "h"}
    (line,) = script.table({"mae_digits": found}).splitlines()[2:]
    assert line.startswith("| mae_digits | 3 x 2 | 2 | 2.0833 | 0.1179 |")
