"""Points cover a search space and are the same each time; what they reached is ranked by hand-worked numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise, product

import pytest

from harness.errors import SubmissionError
from harness.program.search_space import corner_points, draw_points
from harness.program.submission import Dimension, SubmissionInfo
from harness.search.halving import better, ranks

INFO = SubmissionInfo(
    name="mine", description="", authors=("me",), licence="MIT", tuning="external",
    defaults={"lr": 0.1, "decay": 0.0, "fast": True, "b": 0.9},
    space={
        "lr": Dimension(min=1e-3, max=1e-1, scaling="log"),
        "decay": Dimension(min=-1.0, max=1.0),
        "fast": Dimension(values=(True, False)),
    },
)  # fmt: skip


def test_points_are_the_same_each_time_and_a_longer_search_keeps_the_shorter() -> None:
    short, long = (draw_points(INFO, ("lr", "decay"), count, 0) for count in (4, 16))
    assert long[:4] == short == draw_points(INFO, ("lr", "decay"), 4, 0)
    assert draw_points(INFO, ("lr", "decay"), 4, 1) != short
    assert all((p["fast"], p["b"]) == (True, 0.9) for p in long), "what is not searched stays at its default"


def test_points_cover_the_space_evenly() -> None:
    points = draw_points(INFO, ("lr", "decay"), 16, 0)
    lr = sorted(math.log10(p["lr"]) for p in points)
    assert -3 <= lr[0] < -2.75
    assert -1.25 < lr[-1] <= -1
    assert max(b - a for a, b in pairwise(lr)) < 0.3, "evenly in the logarithm: 16 points over two decades"
    decay = sorted(p["decay"] for p in points)
    assert -1 <= decay[0] < -0.6
    assert 0.6 < decay[-1] <= 1
    assert {p["fast"] for p in draw_points(INFO, ("fast",), 8, 0)} == {True, False}
    assert all(p["lr"] == float(f"{p['lr']:.3g}") for p in points)


def test_points_stay_within_the_space_and_whole_where_the_default_is() -> None:
    info = replace(
        INFO,
        defaults={"b2": 0.99, "gap": 200},
        space={"b2": Dimension(min=0.98765, max=0.99999), "gap": Dimension(min=10, max=1e4, scaling="log")},
    )
    points = draw_points(info, ("b2", "gap"), 200, 0) + corner_points(info)
    assert all(0.98765 <= p["b2"] <= 0.99999 for p in points), "three digits of 0.99999 are 1"
    assert {type(p["gap"]) for p in points} == {int}
    assert min(p["gap"] for p in points) == 10
    assert max(p["gap"] for p in points) == 10_000


def test_corners() -> None:
    corners = corner_points(INFO)
    assert len(corners) == 8
    assert {(p["lr"], p["decay"], p["fast"]) for p in corners} == set(product((1e-3, 0.1), (-1.0, 1.0), (True, False)))
    assert all(p["b"] == 0.9 for p in corners)
    many = replace(INFO, defaults=dict.fromkeys("abcde", 0.5), space=dict.fromkeys("abcde", Dimension(min=0, max=1)))
    points = [tuple(p.values()) for p in corner_points(many)]
    assert points[:3] == [(0,) * 5, (1,) * 5, (0, 0.5, 0.5, 0.5, 0.5)]
    assert len(points) == 12
    assert corner_points(replace(INFO, space={})) == [INFO.defaults], "no space: the defaults"


def test_an_unknown_dimension_is_refused() -> None:
    with pytest.raises(SubmissionError, match="mine: no search space for 'decoy'; did you mean 'decay'"):
        draw_points(INFO, ("decoy",), 4, 0)


def test_ranks_by_hand() -> None:
    assert ranks([0.3, 0.1, None, 0.2], "min") == [2, 0, 3, 1]
    assert ranks([0.3, 0.1, None, 0.2], "max") == [0, 2, 3, 1]
    assert ranks([0.2, 0.1, 0.2, None, None], "min") == [1.5, 0, 1.5, 3.5, 3.5]


def test_the_better_half_by_mean_rank_over_workloads() -> None:
    points = ["a", "b", "c", "d", "e"]
    assert better(points, [[0, 1, 2, 3, 4], [4, 3, 0, 1, 2]], 3) == ["a", "b", "c"], (
        "sums 4 4 2 4 6: a and b come first"
    )
    assert better(points[:4], [[3, 2, 1, 0]], 2) == ["c", "d"]
    assert better(["only"], [[0]], 1) == ["only"]
