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


def trained(algorithm: Algorithm, steps: int) -> TrainState:
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(START, algorithm.init(START, KEY), {"mean": jnp.zeros(())}, zero, zero)
    step = jax.jit(lambda state: algorithm.step(FakeLoss(), state, {"x": jnp.zeros(())}, KEY)[0])
    for number in range(steps):
        state = step(state)._replace(step=jnp.int32(number + 1))
    return state


def evaluated(algorithm: Algorithm, steps: int) -> dict[str, np.ndarray]:
    assert algorithm.eval_variables is not None
    params, _ = algorithm.eval_variables(FakeLoss(), trained(algorithm, steps), None, KEY)
    assert {name: (x.shape, x.dtype) for name, x in params.items()} == {
        name: (x.shape, x.dtype) for name, x in START.items()
    }
    return {name: np.asarray(x) for name, x in params.items()}


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_ema_in_closed_form(decay: float, steps: int) -> None:
    """(sum of decay^(t-i) i) / (sum of decay^(t-i)): the first parameters have no part once there is a step."""
    weights = np.array([decay ** (steps - i) for i in range(1, steps + 1)])
    expected = float(weights @ np.arange(1, steps + 1) / weights.sum()) if steps else 0.0
    found = evaluated(ema(COUNTING, decay), steps)
    np.testing.assert_allclose(found["w"], expected, rtol=1e-6)
    np.testing.assert_allclose(found["v"], 10 + expected, rtol=1e-6)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("steps", [0, 2, 3, 7, 12, 20])
def test_lawa_is_the_mean_of_the_last_checkpoints(every: int, steps: int) -> None:
    checkpoints = list(range(every, steps + 1, every))[-4:]
    expected = float(np.mean(checkpoints)) if checkpoints else steps
    for period in (every, jnp.int32(every)):
        found = evaluated(lawa(COUNTING, period, 4), steps)
        np.testing.assert_allclose(found["w"], expected, rtol=1e-6)
        np.testing.assert_allclose(found["v"], 10 + expected, rtol=1e-6)


def test_a_combination_weighs_the_newest_first_and_may_go_beyond_it() -> None:
    """Checkpoints are the even numbers; while there are fewer than coefficients, those there are share the sum."""
    algorithm = combination(COUNTING, 2, (3.0, -2.0, 1.0))
    assert evaluated(algorithm, 1)["w"] == 1
    assert evaluated(algorithm, 3)["w"] == 2
    assert evaluated(algorithm, 4)["w"] == pytest.approx(3 * 4 - 2 * 2)
    for steps, (c1, c2, c3) in {6: (6, 4, 2), 7: (6, 4, 2), 8: (8, 6, 4), 10: (10, 8, 6)}.items():
        assert evaluated(algorithm, steps)["w"] == pytest.approx((3 * c1 - 2 * c2 + c3) / 2), steps


@pytest.mark.parametrize("wrap", [lambda inner: ema(inner, 0.9), lambda inner: lawa(inner, 2, 3)])
def test_training_is_that_of_what_is_wrapped(wrap: Any) -> None:
    """Same bits; candidates, batch sizes and control are handed through."""

    def control(progress: Any) -> Control:
        return Control(batch_size=4)

    inner = optax.adam(0.1)
    wrapped = wrap(inner)
    both = [trained(one, 5) for one in (wrapped, ema(inner, 0.0))]
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
    state, loss = trained(algorithm, 3), FakeLoss()
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
