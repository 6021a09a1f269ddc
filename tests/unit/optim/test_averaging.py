"""Averages of weights against their closed forms, round an algorithm whose parameters are the number of the step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from harness.api import Algorithm, Control, TrainState
from harness.errors import SubmissionError
from harness.optim.averaging import combination, ema, lawa

KEY = jax.random.key(0)
COUNTING = optax.sgd(1.0)  # with a gradient of -1: after step t, w = t and v = 10 + t
START = {"w": jnp.zeros(()), "v": jnp.full((2, 3), 10.0)}


class FakeLoss:
    """A gradient of -1. In training mode the running statistic goes half way to w + batch, and is counted."""

    def __init__(self) -> None:
        self.passes: list[bool] = []

    def value_and_grad(self, params: Any, model_state: Any, batch: Any, key: Any) -> Any:
        return self.value(params, model_state, batch, key), jax.tree.map(lambda x: -jnp.ones_like(x), params)

    def value(self, params: Any, model_state: Any, batch: Any, key: Any, *, train: bool = True) -> Any:
        self.passes.append(train)
        return jnp.float32(0.0), {"mean": 0.5 * model_state["mean"] + 0.5 * (params["w"] + batch["x"])}


def trained(algorithm: Algorithm, steps: int) -> list[TrainState]:
    """Return the state before the first step, and after each."""
    zero = jnp.zeros((), jnp.int32)
    states = [TrainState(START, algorithm.init(START, KEY), {"mean": jnp.zeros(())}, zero, zero)]
    step = jax.jit(lambda state: algorithm.step(FakeLoss(), state, {"x": jnp.zeros(())}, KEY)[0])
    for number in range(1, steps + 1):
        states.append(step(states[-1])._replace(step=jnp.int32(number)))
    return states


def expect_averages(algorithm: Algorithm, expected: list[float]) -> None:
    """Hold what is evaluated before the first step, and after each, against the expected averages of w."""
    evaluate = jax.jit(lambda state: algorithm.eval_variables(FakeLoss(), state, None, KEY)[0])  # type: ignore[misc]
    for steps, (state, w) in enumerate(zip(trained(algorithm, len(expected) - 1), expected, strict=True)):
        found = evaluate(state)
        np.testing.assert_allclose(found["w"], w, rtol=1e-6, err_msg=f"after {steps} steps")
        np.testing.assert_allclose(found["v"], np.full((2, 3), 10 + w), rtol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_ema_in_closed_form(decay: float) -> None:
    """(sum of decay^(t-i) i) / (sum of decay^(t-i)): the first parameters have no part once there is a step."""

    def closed(t: int) -> float:
        weights = np.array([decay ** (t - i) for i in range(1, t + 1)])
        return float(weights @ np.arange(1, t + 1) / weights.sum())

    expect_averages(ema(COUNTING, decay), [0.0, *map(closed, range(1, 8))])


def test_lawa_is_the_mean_of_the_last_checkpoints() -> None:
    for every in (1, jnp.int32(3)):
        of = [list(range(int(every), t + 1, int(every)))[-4:] or [t] for t in range(19)]
        expect_averages(lawa(COUNTING, every, 4), [float(np.mean(checkpoints)) for checkpoints in of])


def test_a_combination_weighs_the_newest_first_and_may_go_beyond_it() -> None:
    """Checkpoints are the even numbers; while there are fewer than coefficients, those there are share the sum."""
    two, three = (4 * 4 - 2) / 3, [4 * c - (c - 2) - 2 * (c - 4) for c in (6, 6, 8, 8, 10)]
    expect_averages(combination(COUNTING, 2, (4.0, -1.0, -2.0)), [0, 1, 2, 2, two, two, *three])


@pytest.mark.parametrize("wrap", [lambda inner: ema(inner, 0.9), lambda inner: lawa(inner, 2, 3)])
def test_training_is_that_of_what_is_wrapped(wrap: Any) -> None:
    """Same bits; candidates, batch sizes and control are handed through."""

    def control(progress: Any) -> Control:
        return Control(batch_size=4)

    inner = optax.adam(0.1)
    wrapped = wrap(inner)
    both = [trained(one, 5)[-1] for one in (wrapped, ema(inner, 0.0))]
    for name in START:
        assert np.array_equal(both[0].params[name], both[1].params[name])
    plain = Algorithm(init=wrapped.init, step=wrapped.step, candidates=3, batch_sizes=(4, 8), control=control)
    outer = wrap(plain)
    assert (outer.candidates, outer.batch_sizes, outer.control) == (3, (4, 8), control)


def test_statistics_are_brought_to_the_average_by_passes_in_training_mode() -> None:
    """From those of training, at the average: w_avg + batch takes half of what is left in each pass."""
    algorithm = ema(COUNTING, 0.5, recalibration_batches=2)
    assert algorithm.recalibration_batches == 2
    assert algorithm.eval_variables is not None
    state, loss = trained(algorithm, 3)[-1], FakeLoss()
    params, model_state = algorithm.eval_variables(loss, state, {"x": jnp.array([2.0, 4.0])}, KEY)
    before, average = float(state.model_state["mean"]), float(params["w"])
    assert loss.passes == [True, True]
    assert average == pytest.approx((0.25 * 1 + 0.5 * 2 + 3) / 1.75)
    assert float(model_state["mean"]) == pytest.approx(before / 4 + (average + 2) / 4 + (average + 4) / 2)
    _, kept = ema(COUNTING, 0.5).eval_variables(loss, state, None, KEY)  # type: ignore[misc]
    assert float(kept["mean"]) == before, "without batches they stay those of training"


def test_what_cannot_be_averaged_is_refused() -> None:
    averaged = ema(COUNTING, 0.9)
    with pytest.raises(SubmissionError, match="it has an eval_variables"):
        lawa(averaged, 2, 3)
    with pytest.raises(SubmissionError, match="ema: decay: expected a number of at least 0 and below 1, got 1"):
        ema(COUNTING, 1.0)
    with pytest.raises(SubmissionError, match="window"):
        lawa(COUNTING, 2, 0)
    for coefficients in ((), (0.0, 1.0), (1.0, -1.0)):
        with pytest.raises(SubmissionError, match="newest checkpoint first"):
            combination(COUNTING, 1, coefficients)
