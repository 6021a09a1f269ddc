"""The later schedules beside numbers worked by hand and optax's own, refined schedules, and reduce-on-plateau."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from scipy.ndimage import median_filter

from harness.api import TrainState
from harness.errors import SubmissionError
from harness.optim import more_schedules
from harness.optim.optax_adapter import from_optax
from harness.optim.refined import median_filtered, refined, refined_schedule
from harness.optim.schedules import scheduled

ALL = {
    "cosine_power": more_schedules.cosine_power,
    "exponential": more_schedules.exponential,
    "multistep": more_schedules.multistep,
    "one_cycle": more_schedules.one_cycle,
    "wsd_s": more_schedules.wsd_s,
}
ENDS = {"cosine_power": 0.0, "exponential": 0.01, "multistep": 0.01, "one_cycle": 4e-6, "wsd_s": 0.1}


def shares(shape, steps, total, **options) -> list[float]:
    return [float(shape(jnp.int32(t), total, **options)) for t in steps]


def test_cosine_power_by_hand():
    """c = 1, 1/2, 0: (10 - 1) / 9, (sqrt(10) - 1) / 9, 0; near b = 1 it is half a cosine."""
    hand = [0.5, 1, 1, (10**0.5 - 1) / 9, 0, 0]
    np.testing.assert_allclose(shares(more_schedules.cosine_power, [0, 1, 2, 4, 6, 9], 6, warmup=2), hand, atol=1e-6)
    quarter = 0.5 + 0.5**1.5  # (1 + cos(pi / 4)) / 2
    np.testing.assert_allclose(
        shares(more_schedules.cosine_power, [1], 4, power=4.0), [(4**quarter - 1) / 3], rtol=1e-5
    )
    np.testing.assert_allclose(shares(more_schedules.cosine_power, [1], 4, power=1.01), [quarter], rtol=3e-3)
    np.testing.assert_allclose(shares(more_schedules.cosine_power, [2], 2, final=0.2), [0.2])


def test_exponential_by_hand_and_as_optax():
    hand = [0.5, 1, 1, 0.1, 0.01, 0.01]
    np.testing.assert_allclose(shares(more_schedules.exponential, [0, 1, 2, 4, 6, 9], 6, warmup=2), hand, rtol=1e-5)
    theirs = optax.exponential_decay(1.0, 30, 0.05, transition_begin=10, end_value=0.05)
    ours = partial(more_schedules.exponential, final=0.05)
    np.testing.assert_allclose(shares(ours, range(10, 45), 40, warmup=10), theirs(np.arange(10, 45)), rtol=1e-5)


def test_multistep_by_hand_and_as_optax():
    """Milestones at 4 and 6 of 8 steps."""
    hand = [0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01]
    np.testing.assert_allclose(shares(more_schedules.multistep, range(9), 8, warmup=2), hand, rtol=1e-6)
    theirs = optax.piecewise_constant_schedule(1.0, {10: 0.5, 16: 0.5})
    ours = partial(more_schedules.multistep, milestones=(0.5, 0.8), gamma=0.5)
    np.testing.assert_allclose(shares(ours, range(25), 20), theirs(np.arange(25)), rtol=1e-6)


def test_one_cycle_by_hand_and_as_optax():
    """Half way up (1 + 1/25) / 2, half way down (1 + 4e-6) / 2."""
    hand = [0.04, 0.52, 1, 0.500002, 4e-6, 4e-6]
    np.testing.assert_allclose(shares(more_schedules.one_cycle, [0, 2, 4, 7, 10, 20], 10, warmup=4), hand, rtol=2e-3)
    theirs = optax.cosine_onecycle_schedule(100, 1.0, pct_start=0.3, div_factor=10.0, final_div_factor=20.0)
    ours = partial(more_schedules.one_cycle, div_factor=10.0, final_div_factor=20.0)
    np.testing.assert_allclose(shares(ours, range(105), 100, warmup=30), [theirs(t) for t in range(105)], rtol=1e-4)


def test_wsd_s_by_hand():
    """Warm-up of 2, cycles of 8 steps, the last 4 of each decay: 1 / ((1 - q) + 10 q) for q = 0, 1/4, 1/2, 3/4."""
    cycle = [1, 1, 1, 1, 1, 1 / 3.25, 1 / 5.5, 1 / 7.75]
    ours = partial(more_schedules.wsd_s, cycles=2, decay_fraction=0.5)
    np.testing.assert_allclose(shares(ours, range(20), 18, warmup=2), [0.5, 1, *cycle, *cycle, 0.1, 0.1], rtol=1e-6)


@pytest.mark.parametrize("length", [100, 997, 2400])
def test_wsd_s_begins_each_cycle_at_the_peak(length):
    """Also where the cycles have no whole number of steps: the first step at or after each third is at the peak."""
    rates = np.array(jax.jit(lambda t: more_schedules.wsd_s(t, length))(jnp.arange(length)))
    jumps = np.flatnonzero(np.diff(rates) > 0) + 1
    assert jumps.tolist() == [-(-length * i // 3) for i in (1, 2)]
    assert (rates[jumps] == 1).all()
    assert 0.1 < rates.min() < 0.15


@pytest.mark.parametrize("name", ALL)
def test_ends_bounds_and_traced_lengths(name):
    """Lengths that are arguments of a program give the same bits as constants."""
    shape, total, w = ALL[name], 120, 12
    steps = jnp.arange(total + 3)
    constant = np.array(jax.jit(lambda t: shape(t, total, warmup=w))(steps))
    traced = np.array(jax.jit(lambda t, total, w: shape(t, total, warmup=w))(steps, jnp.int32(total), jnp.int32(w)))
    assert constant.tobytes() == traced.tobytes()
    assert constant[0] > 0
    assert constant.max() == constant[w] == 1
    assert (np.diff(constant[:w]) > 0).all()
    assert constant[total - 1] >= constant[total]
    np.testing.assert_allclose(constant[total:], ENDS[name], rtol=1e-5, atol=1e-8)
    if name != "wsd_s":
        assert (np.diff(constant[w:]) <= 0).all()
    with jax.checking_leaks():
        rate = jax.jit(lambda lr, horizon: scheduled(shape, lr, jnp.round(horizon * 100).astype(int), 0.1)(12))
        assert float(rate(0.5, 1.2)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: more_schedules.cosine_power(0, 10, power=1.0), "cosine_power: power"),
        (lambda: more_schedules.exponential(0, 10, final=0.0), "exponential: final"),
        (lambda: more_schedules.multistep(0, 10, milestones=(-0.1,)), "multistep: milestones"),
        (lambda: more_schedules.one_cycle(0, 10, div_factor=0.5), "one_cycle: div_factor"),
        (lambda: more_schedules.wsd_s(0, 10, cycles=0), "wsd_s: cycles"),
        (lambda: more_schedules.wsd_s(0, 10, final=0.0), "wsd_s: final"),
        (lambda: refined(optax.sgd(1.0), 0.1, 1, 10), "refined: pilot_steps"),
        (lambda: refined(optax.sgd(1.0), 0.1, 4, 10, norm="l3"), "refined: norm"),
    ],
)
def test_out_of_range(build, message):
    with pytest.raises(SubmissionError, match=message):
        build()


# ---- refined schedules ----


def by_the_paper(norms: np.ndarray, tau: float, power: int) -> np.ndarray:
    """The paper's sums in float64, step by step, with scipy's median filter."""
    T = len(norms)
    width = 2 * (int(tau * T) // 2) + 1
    G = median_filter(np.pad(norms, (0, width), mode="reflect"), size=width, mode="nearest")[:T]
    rates = [G[t] ** -power * sum(G[s] ** -power for s in range(t + 1, T)) for t in range(T)]
    return np.array(rates) / max(rates)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_equal_norms_give_linear_decay(norm):
    np.testing.assert_allclose(refined_schedule(jnp.full(5, 3.0), norm=norm), [1, 0.75, 0.5, 0.25, 0], rtol=1e-6)


def test_refined_by_hand():
    """Norms 4, 2, 1, 1 and no filter. l1: w = 1/4, 1/2, 1, 1, after 5/2, 2, 1, 0; l2: w = 1/16, 1/4, 1, 1."""
    norms = jnp.array([4.0, 2.0, 1.0, 1.0])
    np.testing.assert_allclose(refined_schedule(norms, tau=0.0), [0.625, 1, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(refined_schedule(norms, 0.0, "l2"), [2.25 / 16, 0.5, 1, 0], rtol=1e-6)


@pytest.mark.parametrize(("norm", "power"), [("l1", 1), ("l2", 2)])
def test_refined_as_the_paper(norm, power):
    """Falling norms that begin high and rise at the end: a warm-up at first, a fast fall at last."""
    x = np.linspace(0, 1, 61)
    noise = np.random.default_rng(0).uniform(0.8, 1.3, 61)
    norms = (1 + 5 * np.exp(-20 * x) + 2 * x**8) * noise
    ours = np.array(refined_schedule(jnp.asarray(norms, jnp.float32), 0.1, norm))
    np.testing.assert_allclose(ours, by_the_paper(norms, 0.1, power), rtol=1e-4, atol=1e-7)
    assert ours[0] < 0.6
    assert ours[-1] == 0


def test_one_outlier_changes_nothing_and_zeros_are_borne():
    calm = jnp.ones(30)
    np.testing.assert_array_equal(median_filtered(calm.at[11].set(1e6), 0.1), calm)
    assert np.isfinite(refined_schedule(jnp.zeros(30))).all()


class Slope:
    """A loss whose gradient is the batch's numbers."""

    def value_and_grad(self, params, model_state, batch, key):
        return (jnp.float32(0), model_state), {"x": batch["g"]}


def test_the_pilot_is_of_the_trial_and_then_all_begins_anew():
    """4 steps of pilot from (5, 5), then 6 by the refined schedule; traced lengths give the same bits."""
    gradients = jnp.array([[4.0, -4], [2, -2], [1, -1], [1, -1], *[[3.0, -1]] * 6])
    start = {"x": jnp.array([5.0, 5.0])}

    @jax.jit
    def train(total):
        algorithm = refined(optax.sgd(1.0, momentum=0.5), 0.1, 4, total, 0.0, tau=0.0)
        zero = jnp.zeros((), jnp.int32)
        state = TrainState(start, algorithm.init(start, jax.random.key(0)), {}, zero, zero)

        def step(state, g):
            state, _ = algorithm.step(Slope(), state, {"g": g}, jax.random.key(0))
            return state._replace(step=state.step + 1), (state.params["x"], state.opt_state)

        return jax.lax.scan(step, state, gradients)[1]

    xs, states = train(jnp.int32(10))
    for traced, constant in zip(
        jax.tree.leaves((xs, states)), jax.tree.leaves(jax.jit(lambda: train(10))()), strict=True
    ):
        assert np.asarray(traced).tobytes() == np.asarray(constant).tobytes()
    # The pilot's rates are 0.1 (1, 1, 2/3) with one step of warm-up; its momenta of the first entry 4, 4, 3.
    np.testing.assert_allclose(xs[:3, 0], 5 - 0.1 * np.cumsum([4, 4, 3 * 2 / 3]), rtol=1e-6)
    np.testing.assert_array_equal(xs[3], start["x"])
    assert all(not leaf[3].any() for leaf in jax.tree.leaves(states.inner))
    np.testing.assert_array_equal(states.norms[3], [8, 4, 2, 2])
    np.testing.assert_allclose(states.shares[3], [0.625, 1, 1, 0], rtol=1e-6)
    # Then from 5 again: shares at 0, 1/2, 1, 3/2, 2, 5/2 of the pilot's steps, momenta of the gradient 3.
    rates = 0.1 * np.array([0.625, 0.8125, 1, 1, 1, 0.5])
    momenta = 3 * np.cumsum(0.5 ** np.arange(6))
    np.testing.assert_allclose(xs[4:, 0], 5 - np.cumsum(rates * momenta), rtol=1e-5)
    np.testing.assert_array_equal(states.norms[-1], states.norms[3])


# ---- reduce on plateau: optax's own, through the loss value that the harness hands over ----


def test_reduce_on_plateau_sees_the_loss():
    """Windows of 2 steps, patience 2: the loss falls in the first 2 windows, then the rate falls after every other."""
    plateau = optax.contrib.reduce_on_plateau(factor=0.1, patience=2, accumulation_size=2)
    algorithm = from_optax(optax.chain(optax.sgd(1.0), plateau))
    losses = iter([8.0, 6, 4, 2, *[3.0] * 10])

    class Falling:
        def value_and_grad(self, params, model_state, batch, key):
            return (jnp.float32(next(losses)), model_state), jnp.ones(())

    params, zero = jnp.zeros(()), jnp.zeros((), jnp.int32)
    state, moved = TrainState(params, algorithm.init(params, jax.random.key(0)), {}, zero, zero), []
    for _ in range(14):
        before = float(state.params)
        state, _ = algorithm.step(Falling(), state, {}, jax.random.key(0))
        moved.append(before - float(state.params))
    np.testing.assert_allclose(moved, [*[1] * 7, *[0.1] * 4, *[0.01] * 3], rtol=1e-3)
