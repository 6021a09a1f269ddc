"""Schedules and NadamW beside numbers worked by hand."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.optim.nadamw import nadamw, scale_by_nadam
from harness.optim.schedules import warmup_cosine


def test_warmup_cosine_by_hand():
    schedule = warmup_cosine(peak=2.0, total_steps=12, warmup_fraction=1 / 3)  # w = 4, then 8 steps of decay
    rates = [float(schedule(jnp.int32(t))) for t in range(16)]
    warmup = [0.5, 1.0, 1.5, 2.0]
    # 1 + cos(pi k / 8), k = 0..7
    decay = [2.0, 1.92388, 1.70711, 1.38268, 1.0, 0.61732, 0.29289, 0.07612]
    np.testing.assert_allclose(rates, [*warmup, *decay, 0, 0, 0, 0], atol=1e-5)
    assert rates[12:] == [0, 0, 0, 0]


@settings(deadline=None, max_examples=20)
@given(st.floats(1e-6, 10), st.integers(20, 2000), st.floats(0, 0.9))
def test_warmup_cosine_everywhere(peak, total, fraction):
    schedule = warmup_cosine(peak, total, fraction)
    rates = np.asarray(schedule(np.arange(total + 3)))
    warmup = max(1, round(fraction * total))
    assert rates[0] > 0, "the first step is never wasted"
    assert rates.max() == pytest.approx(peak, rel=1e-6)
    assert rates[warmup - 1] == pytest.approx(peak, rel=1e-6)
    assert (np.diff(rates[:warmup]) >= 0).all()
    assert (np.diff(rates[warmup - 1 :]) <= peak * 1e-6).all()
    assert (rates[total:] == 0).all()
    assert rates[total - 1] > 0


def test_no_warmup_starts_at_the_peak():
    assert float(warmup_cosine(0.3, 10, 0.0)(jnp.int32(0))) == pytest.approx(0.3)


def test_nadamw_first_two_steps_by_hand():
    """b1 = 0.5, b2 = 0.75, gradients 2 and 4, lr 0.1, decay 0.1 on a only."""
    rule = nadamw(0.1, b1=0.5, b2=0.75, eps=0.0, weight_decay=0.1, mask={"a": True, "b": False})
    params = {"a": jnp.array([10.0]), "b": jnp.array([10.0])}
    state = rule.init(params)
    grads = {"a": jnp.array([2.0]), "b": jnp.array([2.0])}
    updates, state = rule.update(grads, state, params)
    # m = 1, v = 1; u = (0.5 x 1 + 0.5 x 2) / 0.5 = 3; vh = 1 / 0.25 = 4; 3 / 2 = 1.5
    np.testing.assert_allclose(updates["a"], [-0.1 * (1.5 + 0.1 * 10)], rtol=1e-6)
    np.testing.assert_allclose(updates["b"], [-0.1 * 1.5], rtol=1e-6)
    updates, state = rule.update({"a": jnp.array([4.0]), "b": jnp.array([4.0])}, state, params)
    # m = 2.5, v = 4.75; u = (0.5 x 2.5 + 0.5 x 4) / 0.75 = 13/3; vh = 4.75 / 0.4375
    expected = (13 / 3) / (4.75 / 0.4375) ** 0.5
    np.testing.assert_allclose(updates["b"], [-0.1 * expected], rtol=1e-6)


def test_epsilon_is_outside_of_the_root_after_the_correction():
    rule = scale_by_nadam(0.0, 0.0, eps=1.0)
    updates, _ = rule.update(jnp.array([3.0]), rule.init(jnp.zeros(1)))
    np.testing.assert_allclose(updates, [3 / (3 + 1)], rtol=1e-6)
