"""Schedule-free AdamW and SGD beside numbers worked by hand, and where the average is found."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from harness.api import TrainState
from harness.errors import SubmissionError
from harness.optim.evaluation import evaluated_at
from harness.optim.schedule_free import (
    ScheduleFreeState,
    schedule_free_adamw,
    schedule_free_eval_params,
    schedule_free_sgd,
)


def run(rule, params, *gradients):
    """Return (y, z, x) after each step."""
    state, seen = rule.init(params), []
    for grads in gradients:
        updates, state = rule.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        seen.append((params, state.z, schedule_free_eval_params(state, params)))
    return seen


def test_sgd_by_hand():
    """lr 1, 2 steps of warm-up, b1 = 1/2, gradients 4, 4, 4 from 0.

    lr 1/2, 1, 1; w 1/4, 1, 1; c 1, 4/5, 4/9; z -2, -6, -10; x -2, -0.4 - 4.8, ...; y half way between.
    """
    seen = run(schedule_free_sgd(1.0, 2, b1=0.5), *[jnp.array([v]) for v in (0.0, 4.0, 4.0, 4.0)])
    z, x = [-2.0, -6.0, -10.0], [-2.0, -5.2, -5.2 * 5 / 9 - 10 * 4 / 9]
    np.testing.assert_allclose([float(s[1][0]) for s in seen], z, rtol=1e-6)
    np.testing.assert_allclose([float(s[2][0]) for s in seen], x, rtol=1e-6)
    np.testing.assert_allclose(
        [float(s[0][0]) for s in seen], [(a + b) / 2 for a, b in zip(x, z, strict=True)], rtol=1e-6
    )


def test_decay_is_at_y_and_masked():
    """Gradient 0, lr 1, decay 0.1: z = 10 - 1, then z = 9 - 0.1 y, which is 9 too."""
    p = {"w": jnp.array([10.0]), "b": jnp.array([10.0])}
    zero = jax.tree.map(jnp.zeros_like, p)
    seen = run(schedule_free_sgd(1.0, b1=0.5, weight_decay=0.1, mask={"w": True, "b": False}), p, zero, zero, zero)
    assert [float(s[1]["b"][0]) for s in seen] == [10, 10, 10]
    # z 9, 8.1; x 9, 8.55; y 9, 8.325; then z = 8.1 - 0.8325
    np.testing.assert_allclose([float(s[1]["w"][0]) for s in seen], [9, 8.1, 8.1 - 0.8325], rtol=1e-6)


def test_adamw_by_hand():
    """b2 = 3/4, gradients 2 and 4: vh = 4, then 4.75 / 0.4375; no first moment."""
    seen = run(schedule_free_adamw(0.1, b1=0.5, b2=0.75, eps=1.0), *[jnp.array([v]) for v in (0.0, 2.0, 4.0)])
    first = -0.1 * 2 / (2 + 1)
    np.testing.assert_allclose(float(seen[0][1][0]), first, rtol=1e-6)
    np.testing.assert_allclose(float(seen[1][1][0]), first - 0.1 * 4 / ((4.75 / 0.4375) ** 0.5 + 1), rtol=1e-6)


@pytest.mark.parametrize(("r", "power", "weights"), [(0, 2, [1, 4, 4]), (1, 2, [1, 8, 12]), (2, 0, [1, 4, 9])])
def test_weights_by_hand(r, power, weights):
    """The highest learning rate so far counts: of 1, 2, 1 that is 1, 2, 2."""
    rate = jnp.array([1.0, 2.0, 1.0])
    rule = schedule_free_sgd(lambda t: rate[t], b1=0.5, r=r, weight_lr_power=power)
    state = rule.init(jnp.zeros(1))
    sums = []
    for _ in range(3):
        _, state = rule.update(jnp.ones(1), state, jnp.zeros(1))
        sums.append(float(state.weight_sum))
    np.testing.assert_allclose(sums, np.cumsum(weights), rtol=1e-6)


def test_x_is_the_weighted_mean_of_z():
    rule = schedule_free_sgd(0.3, 3, b1=0.8)
    y = {"w": jax.random.normal(jax.random.key(0), (4,))}
    state, points, weights = rule.init(y), [], []
    for k in range(6):
        updates, state = rule.update({"w": jax.random.normal(jax.random.key(k), (4,))}, state, y)
        y = optax.apply_updates(y, updates)
        points.append(state.z["w"])
        weights.append((0.3 * min(1, (k + 1) / 3)) ** 2)
    mean = sum(w * z for w, z in zip(weights, points, strict=True)) / sum(weights)
    np.testing.assert_allclose(schedule_free_eval_params(state, y)["w"], mean, rtol=1e-5)


def test_zero_learning_rate_does_not_divide_by_zero():
    ((y, z, x),) = run(schedule_free_sgd(0.0), jnp.ones(2), jnp.ones(2))
    assert [float(v.sum()) for v in (y, z, x)] == pytest.approx([2, 2, 2])


def test_before_the_first_step_x_is_y():
    params = jax.random.normal(jax.random.key(0), (5,))
    np.testing.assert_allclose(
        schedule_free_eval_params(schedule_free_sgd(1.0).init(params), params), params, rtol=1e-6
    )


def test_the_state_is_found_in_chains_and_partitions():
    params = {"a": jnp.array([1.0]), "b": jnp.array([1.0]), "c": jnp.array([1.0])}
    rule = optax.chain(
        optax.clip(10.0),
        optax.partition(
            {"a": schedule_free_sgd(1.0, b1=0.5), "b": schedule_free_adamw(1.0, b1=0.9, b2=0.75), "c": optax.sgd(1.0)},
            {name: name for name in params},
        ),
    )
    grads, state = jax.tree.map(jnp.ones_like, params), rule.init(params)
    for _ in range(2):
        updates, state = rule.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    x = schedule_free_eval_params(state, params)
    # z 0, -1; x 0, -1/2, for the sum of equal weights; y of b1 = 1/2 in between
    np.testing.assert_allclose([float(params["a"][0]), float(x["a"][0])], [-0.75, -0.5], atol=1e-6)
    np.testing.assert_allclose([float(params["b"][0]), float(x["b"][0])], [-0.55, -0.5], atol=1e-6)
    np.testing.assert_allclose([float(params["c"][0]), float(x["c"][0])], [-1.0, -1.0], atol=1e-6)


def test_a_state_without_one_is_refused():
    with pytest.raises(SubmissionError, match="holds no ScheduleFreeState"):
        schedule_free_eval_params(optax.adam(1.0).init(jnp.ones(1)), jnp.ones(1))


def test_scalars_are_float32_with_bfloat16_parameters():
    """In bfloat16 the sum of weights would stop at 256."""
    rule, y = schedule_free_sgd(1.0, b1=0.9), jnp.zeros(2, jnp.bfloat16)
    state = rule.init(y)
    assert {x.dtype.name for x in (state.weight_sum, state.max_lr, state.b1)} == {"float32"}
    assert state.z.dtype == jnp.bfloat16
    update = jax.jit(rule.update)
    for _ in range(300):
        updates, state = update(jnp.zeros_like(y), state, y)
    assert float(state.weight_sum) == 300
    assert updates.dtype == jnp.bfloat16


def test_the_parameters_may_be_donated():
    """z is a copy: donating y and the state together must not hand one buffer over twice."""
    rule, y = schedule_free_adamw(0.1), {"w": jnp.ones(8)}
    state = rule.init(y)
    assert state.z["w"].unsafe_buffer_pointer() != y["w"].unsafe_buffer_pointer()


class Statistics:
    """A loss whose running statistic moves half the way to the batch's mean times the parameter."""

    def value(self, params, model_state, batch, key, *, train=True):
        assert train
        mean = (params * batch["x"]).mean()
        return mean, {"mean": 0.5 * model_state["mean"] + 0.5 * mean}


@pytest.mark.parametrize(("batches", "mean"), [(0, 8.0), (2, 8 / 4 + 6 / 4 + 12 / 2)])
def test_running_statistics_are_brought_to_the_evaluated_parameters(batches, mean):
    algorithm = evaluated_at(optax.sgd(1.0), lambda opt_state, params: 3 * params, batches)
    assert algorithm.recalibration_batches == batches
    state = TrainState(jnp.float32(1), (), {"mean": jnp.float32(8)}, jnp.int32(0), jnp.int32(0))
    stacked = {"x": jnp.array([[2.0, 2.0], [3.0, 5.0]])} if batches else None
    params, model_state = algorithm.eval_variables(Statistics(), state, stacked, jax.random.key(0))
    assert float(params) == 3
    assert float(model_state["mean"]) == pytest.approx(mean)


def test_state_type():
    state = schedule_free_sgd(1.0).init(jnp.ones(2))
    assert isinstance(state, ScheduleFreeState)
