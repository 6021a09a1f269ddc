"""Schedules beside numbers worked by hand, and what all of them have in common."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import SubmissionError
from harness.optim import schedules
from harness.optim.schedules import scheduled, warmup_cosine, warmup_linear

DECAYING = {
    "cosine": schedules.cosine,
    "linear": schedules.linear,
    "wsd": schedules.wsd,
    "wsd 1-sqrt": partial(schedules.wsd, decay="1-sqrt"),
    "rex": schedules.rex,
    "infinite": partial(schedules.infinite, final=1e-9),
}
ALL = DECAYING | {"constant": schedules.constant}
# 1 + cos(pi k / 8), k = 0..7
COSINE_8 = [2.0, 1.92388, 1.70711, 1.38268, 1.0, 0.61732, 0.29289, 0.07612]


def shares(shape, steps, total, **options) -> list[float]:
    return [float(shape(jnp.int32(t), total, **options)) for t in steps]


def test_warmup_cosine_by_hand():
    schedule = warmup_cosine(peak=2.0, total_steps=12, warmup_fraction=1 / 3)  # w = 4, then 8 steps of decay
    rates = [float(schedule(jnp.int32(t))) for t in range(16)]
    np.testing.assert_allclose(rates, [0.5, 1.0, 1.5, 2.0, *COSINE_8, 0, 0, 0, 0], atol=1e-5)
    assert rates[12:] == [0, 0, 0, 0]


def test_warmup_linear_by_hand():
    schedule = warmup_linear(peak=2.0, total_steps=6, warmup_fraction=1 / 3)  # w = 2, then 4 steps of decay
    rates = [float(schedule(jnp.int32(t))) for t in range(8)]
    np.testing.assert_allclose(rates, [1.0, 2.0, 2.0, 1.5, 1.0, 0.5, 0, 0], atol=1e-6)


def test_linear_warmup_by_hand():
    np.testing.assert_allclose(shares(schedules.linear_warmup, range(5), 4), [0.25, 0.5, 0.75, 1, 1])


def test_constant_by_hand():
    np.testing.assert_allclose(shares(schedules.constant, [0, 1, 2, 9, 10, 99], 10, warmup=2), [0.5, 1, 1, 1, 1, 1])


def test_cosine_and_linear_end_where_they_are_told():
    ends = [0, 4, 8, 9]
    np.testing.assert_allclose(shares(schedules.cosine, ends, 8, final=0.2), [1, 0.6, 0.2, 0.2], atol=1e-6)
    np.testing.assert_allclose(shares(schedules.linear, ends, 8, final=0.2), [1, 0.6, 0.2, 0.2], atol=1e-6)


def test_wsd_by_hand():
    """20 steps, 4 of warm-up, the last 4 of decay: q = 0, 1/4, 1/2, 3/4, and 1 at the end."""
    options = {"total": 20, "warmup": 4}
    steps = [0, 3, 4, 15, 16, 17, 18, 19, 20, 21]
    plateau = [0.25, 1, 1, 1, 1]
    linear = shares(partial(schedules.wsd, decay="linear"), steps, **options)
    np.testing.assert_allclose(linear, [*plateau, 0.75, 0.5, 0.25, 0, 0], atol=1e-6)
    root = shares(partial(schedules.wsd, decay="1-sqrt"), steps, **options)
    np.testing.assert_allclose(root, [*plateau, 0.5, 1 - 0.5**0.5, 1 - 0.75**0.5, 0, 0], atol=1e-6)


def test_rex_by_hand():
    """(1 - p) / (1/2 + (1 - p) / 2) at p = 0, 1/4, 1/2, 3/4, 1: 1, 6/7, 2/3, 2/5, 0."""
    np.testing.assert_allclose(shares(schedules.rex, range(6), 4), [1, 6 / 7, 2 / 3, 2 / 5, 0, 0], atol=1e-6)


def test_infinite_by_hand():
    """100 steps: warm-up to 5, cosine from 1 to 0.1 at 15, constant to 80, then 0.1 to 0.01 as 0.1 * 0.1^u."""
    steps = [0, 4, 5, 10, 15, 50, 79, 80, 90, 100, 200]
    hand = [0.2, 1, 1, 0.55, 0.1, 0.1, 0.1, 0.1, 0.1 * 0.1**0.5, 0.01, 0.01]
    np.testing.assert_allclose(shares(schedules.infinite, steps, 100, warmup=5), hand, rtol=1e-5)


@settings(deadline=None, max_examples=15)
@given(st.sampled_from(sorted(ALL)), st.floats(1e-6, 10), st.integers(20, 2000), st.floats(0, 0.1))
def test_every_schedule(name, peak, total, fraction):
    rates = np.asarray(scheduled(ALL[name], peak, total, fraction)(np.arange(total + 3)))
    warmup = max(1, round(fraction * total))
    assert rates.shape == (total + 3,)
    assert rates[0] > 0, "the first step is never wasted"
    assert rates.max() == pytest.approx(peak, rel=1e-6)
    assert rates[warmup - 1] == pytest.approx(peak, rel=1e-6)
    assert (np.diff(rates[:warmup]) >= 0).all()
    assert (np.diff(rates[warmup - 1 :]) <= peak * 1e-6).all()
    assert rates[total - 1] > 0
    if name in DECAYING:
        assert rates[total:] == pytest.approx(0, abs=1e-8 * peak)


@pytest.mark.parametrize("name", ALL)
def test_under_jit_and_without_warmup(name):
    schedule = scheduled(ALL[name], 0.3, 10)
    assert float(schedule(jnp.int32(0))) == pytest.approx(0.3)
    jitted = jax.jit(schedule)
    assert [float(jitted(jnp.int32(t))) for t in (0, 4, 9)] == pytest.approx([float(schedule(t)) for t in (0, 4, 9)])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: schedules.wsd(0, 10, decay="sqrt"), "did you mean '1-sqrt'"),
        (lambda: schedules.wsd(0, 10, decay_fraction=0.0), "wsd: decay_fraction"),
        (lambda: schedules.infinite(0, 10, stable=0.0), "infinite: stable"),
        (lambda: scheduled(schedules.rex, 1.0, 0), "total_steps: expected a whole number of at least 1, got 0"),
        (lambda: warmup_linear(1.0, 10, -0.1), "warmup_fraction"),
    ],
)
def test_out_of_range(build, message):
    with pytest.raises(SubmissionError, match=message):
        build()
