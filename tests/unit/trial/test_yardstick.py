"""How many pairs a step ratio takes, and how well it is known then."""

from __future__ import annotations

import random
import statistics

import pytest

from harness.trial import yardstick
from harness.trial.yardstick import MAX_PAIRS, MAX_SECONDS, MIN_PAIRS, SECONDS, median_error


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    draw = random.Random(0)
    for count in (10, 27, 100):
        held = 0
        for _ in range(1000):
            values = [draw.expovariate(1.0) + 1.0 for _ in range(count)]  # skewed, as times are
            middle, half = statistics.median(values), median_error(values) * statistics.median(values)
            held += abs(middle - (1.0 + 0.6931)) <= 2 * half
        assert held >= 930, count


def test_the_error_by_hand() -> None:
    assert median_error([1.0] * 10) == 0
    assert median_error([0.5, *[1.0] * 8, 1.5]) == 0, "one at each end of ten is left out"
    assert median_error([0.9, 0.9, *[1.0] * 6, 1.1, 1.1]) == pytest.approx(0.1)


def test_a_quiet_machine_takes_few_pairs_and_a_noisy_one_more() -> None:
    quiet = [1.0] * MIN_PAIRS
    noisy = [0.9, 1.1] * (MIN_PAIRS // 2)
    assert yardstick._more_pairs(quiet[:-1], 100.0), "never fewer than the least"
    assert yardstick._more_pairs(quiet, SECONDS - 0.1), "short steps: as many as there is time for"
    assert not yardstick._more_pairs(quiet, SECONDS)
    assert yardstick._more_pairs(noisy, SECONDS)
    assert not yardstick._more_pairs(noisy, MAX_SECONDS)
    assert not yardstick._more_pairs(noisy * 10, 0.0), "never more than the most"
    assert len(noisy * 10) == MAX_PAIRS
