"""Speed-ups and turns of a ladder against planted ones: laws in closed form, and draws of noisy seeds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from harness.search import scale_ladder
from harness.search.scale_ladder import Ladder, speed_ups, turns

RATIOS, STEPS = (1.0, 2.0, 4.0, 8.0), (150, 300, 600, 1200)
CURVE = tuple(round(150 * ratio) for ratio in scale_ladder.between(RATIOS))


def law(steps):
    """A loss that falls by a power of the data to 0.5."""
    return 0.5 + 8.0 * np.asarray(steps, float) ** -0.6


def ladder(finals, widths=(32,), mode="min"):
    """A ladder of `finals`, by submission an array [widths, amounts, seeds]."""
    held = {name: tuple(tuple(map(tuple, of)) for of in np.asarray(rows).tolist()) for name, rows in finals.items()}
    names = tuple(f"task_w{width}" for width in widths)
    return Ladder("task", "loss", mode, tuple(finals), names, widths, RATIOS, STEPS, CURVE, held)


def exact(speed_ups, seeds=3, loss=law, **options):
    """A ladder without chance: a submission with speed-up s ends where the baseline would with s times the data."""
    finals = {"base": loss(CURVE)} | {name: loss(s * np.array(STEPS)) for name, s in speed_ups.items()}
    return ladder({name: np.repeat(of[None, :, None], seeds, 2) for name, of in finals.items()}, **options)


def by_name(found, name):
    return [one for one in found if one.submission == name and one.ratio is not None]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_planted_speed_ups_of_a_power_law_are_found_exactly(mode) -> None:
    sign = 1.0 if mode == "min" else -1.0
    made = exact({"a": 1.4, "b": 1.1, "slow": 0.8, "fast": 2.0}, loss=lambda steps: sign * law(steps), mode=mode)
    found = speed_ups(made)
    for name, planted in (("a", 1.4), ("b", 1.1), ("slow", 0.8), ("fast", 2.0)):
        for one in found:
            if one.submission == name:
                assert one.value == pytest.approx(planted, rel=1e-3), one
                assert one.low == pytest.approx(planted, rel=1e-2) and one.high == pytest.approx(planted, rel=1e-2)
    # beyond 1,697 steps, or before 150, the law goes on, and the rung is marked and in no mean
    assert [one.extrapolated for one in by_name(found, "a")] == [False] * 4
    assert [one.extrapolated for one in by_name(found, "fast")] == [False, False, False, True]
    assert [one.extrapolated for one in by_name(found, "slow")] == [True, False, False, False]
    assert by_name(found, "a")[0].final == pytest.approx(sign * law(1.4 * 150))


def test_a_loss_that_falls_fast_at_first_is_no_power_law_and_still_told() -> None:
    """As lm_grammar's does: 1.21, 0.70, 0.57 and 0.53."""

    def fast(steps):
        r = np.asarray(steps, float) / 150
        return 0.476 + 0.13 * r**-0.55 + 0.6 * r**-2.17

    found = speed_ups(exact({"a": 1.3, "b": 1.1}, loss=fast))
    for name, planted in (("a", 1.3), ("b", 1.1)):
        assert [one.value for one in by_name(found, name)] == pytest.approx([planted] * 4, rel=0.01)


def drawn(rng, speed_ups, seeds, widths=(32,)):
    """Seeds that are worth more data or less for all submissions alike, and chance of each run on top."""
    shared = rng.normal(0.0, 0.07, (len(widths), 1, seeds))

    def of(steps, s):
        chance = shared + rng.normal(0.0, 0.06, (len(widths), len(steps), seeds))
        return law(np.array(steps)[None, :, None] * s * np.exp(chance))

    return ladder({name: of(CURVE if name == "base" else STEPS, s) for name, s in speed_ups.items()}, widths)


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_hold_what_was_planted_as_often_as_they_say(seeds) -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(150):
        found = speed_ups(drawn(rng, {"base": 1.0, "a": 1.4, "b": 1.1}, seeds))
        for name, planted in (("a", 1.4), ("b", 1.1)):
            held.append([(one.low or 0.0) <= planted <= (one.high or math.inf) for one in found if one.submission == name])  # fmt: skip # noqa: E501
    shares = np.mean(held, 0)
    assert len(shares) == 5, "four rungs, and the mean over them"
    assert 0.91 <= shares.mean() <= 0.98 and shares.min() > 0.88, shares


def test_what_a_seed_does_to_all_alike_is_no_chance() -> None:
    shared = np.exp(np.random.default_rng(2).normal(0.0, 0.2, (1, 1, 3)))
    made = {
        "base": law(np.array(CURVE)[None, :, None] * shared),
        "a": law(1.2 * np.array(STEPS)[None, :, None] * shared),
    }
    for one in speed_ups(ladder(made)):
        assert one.low is not None and one.high is not None
        assert one.low > 1.15 and one.high < 1.25, "by far narrower than the seeds' own 20%"


def test_a_curve_tells_its_own_doubt() -> None:
    """On a loss that hardly falls at first the curve is off, and says about how much; on one law it has no doubt."""
    x, places = np.log(CURVE).tolist(), np.log(np.linspace(160, 1200, 50))
    late = lambda steps: 0.55 + 0.09 * (steps / 600) ** -0.6 + 1.15 / (1.0 + (steps / 250) ** 4)  # noqa: E731
    y = late(np.array(CURVE, float)).tolist()
    made = scale_ladder.curve(x, y)
    assert made is not None
    off, doubt = abs(made(places) - late(np.exp(places))), scale_ladder.doubt(x, y, places)
    assert 5e-3 < off.max() < doubt.max()
    assert scale_ladder.doubt(x, law(CURVE).tolist(), places).max() < 1e-6


def test_no_amount_of_data_gets_below_the_floor() -> None:
    made = exact({"a": 1.0})
    rows = np.array(made.finals["a"])
    rows[0, 3] = [0.45, 0.46, 0.44]  # below 0.5, where the baseline's law ends
    made = replace(made, finals=made.finals | {"a": tuple(tuple(map(tuple, of)) for of in rows.tolist())})
    last = by_name(speed_ups(made), "a")[3]
    assert (last.value, last.high, last.extrapolated) == (None, None, True)
    assert last.low is not None and last.low > 1.0 and "no amount of data" in last.why


def test_what_cannot_be_told_says_why() -> None:
    flat = exact({"a": 1.4}, loss=lambda steps: np.maximum(law(steps), law(500)))
    assert {one.why for one in by_name(speed_ups(flat), "a")} == {"base is no better after 849 steps than after 600"}
    assert speed_ups(flat)[-1].value is None
    rows = np.array(exact({"a": 1.4}).finals["a"], object)
    rows[0, 1, 2] = None
    made = exact({"a": 1.4})
    broken = replace(made, finals=made.finals | {"a": tuple(tuple(map(tuple, of)) for of in rows.tolist())})
    found = by_name(speed_ups(broken), "a")
    assert [one.why for one in found] == ["", "a run diverged", "", ""] and found[1].value is None
    two = speed_ups(exact({"a": 1.4}, seeds=2))
    assert {(one.interval, one.low, one.high) for one in two} == {(False, None, None)}
    assert two[0].value == pytest.approx(1.4, rel=1e-3)


def test_an_order_that_turns_over_is_flagged_and_chance_is_not() -> None:
    rng = np.random.default_rng(1)
    noise = lambda amounts=4: rng.normal(0.0, 0.004, (2, amounts, 5))  # noqa: E731
    rows = law(STEPS)[None, :, None]
    tilt = np.array([-0.06, -0.03, 0.03, 0.06])[None, :, None] * np.array([1.0, 0.5])[:, None, None]
    made = ladder(
        {"base": law(CURVE)[None, :, None] + 0.2 + noise(8), "early": rows + tilt + noise(), "late": rows + noise()},
        (32, 64),
    )
    (turn,) = turns(made)
    assert (turn.first, turn.second) == ("early", "late")
    assert turn.first_ahead[1] < 4.0 <= turn.second_ahead[1]
    alike = [turns(drawn(rng, dict.fromkeys(("base", "a", "b"), 1.0), 3, (32, 64))) for _ in range(100)]
    assert sum(map(bool, alike)) <= 5
    assert turns(exact({"a": 1.4}, seeds=2)) == []


def test_a_curve_goes_through_its_points_and_on() -> None:
    x, y = [0.0, 0.5, 2.0, 3.0], [4.0, 2.0, 1.5, 0.2]  # of no even spacing, and the last law falls ever faster
    made = scale_ladder.curve(x, y)
    assert made is not None
    assert made(np.array(x)) == pytest.approx(y)
    places = made(np.linspace(-1.0, 6.0, 400))
    assert (np.diff(places) < 0).all() and np.isfinite(places).all()
    assert made(np.array([4.0, 5.0]))[0] - made(np.array([5.0]))[0] == pytest.approx(
        made(np.array([5.0]))[0] - made(np.array([6.0]))[0]
    ), "on a straight line, not ever faster"
    straight = scale_ladder.curve([0.0, 1.0], [2.0, 1.0])
    assert straight is not None and straight(np.array([2.0]))[0] == 0.0
    assert scale_ladder.curve([0.0, 1.0, 2.0], [2.0, 1.0, 1.0]) is None
