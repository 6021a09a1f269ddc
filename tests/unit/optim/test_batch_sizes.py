"""The batch-size ramp and the norm test, against batches and answers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from harness.api import Algorithm, Control, Progress, TrainState
from harness.errors import SubmissionError
from harness.optim.batch_sizes import batch_ramp, halved, norm_test, size_wanted

KEY = jax.random.key(0)


class MeanLoss:
    """(w - x)^2 / 2 for each example: the gradient is w - mean(x). Statistics hold the mean of x."""

    def value_and_grad(self, params: Any, model_state: Any, batch: Any, key: Any) -> Any:
        mean = batch["x"].mean(axis=0)
        value = 0.5 * jnp.square(params["w"][None] - batch["x"]).sum(axis=1).mean()
        return (value, {"mean": mean}), {"w": params["w"] - mean}


def stepped(algorithm: Algorithm, x: list[list[float]], examples: int = 0) -> tuple[TrainState, dict[str, float]]:
    params = {"w": jnp.zeros(2)}
    state = TrainState(params, algorithm.init(params, KEY), {"mean": jnp.zeros(2)}, jnp.int32(0), jnp.int32(examples))
    batch = {"x": jnp.array(x), "index": jnp.arange(len(x))}
    state, metrics = algorithm.step(MeanLoss(), state, batch, KEY)  # type: ignore[arg-type]
    return state, {name: float(value) for name, value in metrics.items()}


def test_the_ramp_follows_the_examples() -> None:
    control = batch_ramp(optax.sgd(1.0), 0.1, 32, (8, 16, 32), (0, 100, 250)).control
    assert control is not None
    answers = {seen: control(Progress(0, seen, {})).batch_size for seen in (0, 99, 100, 249, 250, 9999)}
    assert answers == {0: 8, 99: 8, 100: 16, 249: 16, 250: 32, 9999: 32}


def test_the_rate_follows_the_examples_and_not_the_steps() -> None:
    for make in (
        lambda rate: batch_ramp(optax.sgd(1.0), rate, 32, (4, 32), (0, 64)),
        lambda rate: norm_test(optax.sgd(1.0), rate, 32, (4, 32)),
    ):
        algorithm = make(lambda count: 0.5 + count)
        assert algorithm.batch_sizes == (4, 32)
        moved = [stepped(algorithm, [[1.0, 2.0]] * 4, examples)[0].params["w"] for examples in (0, 31, 32, 95)]
        for w, rate in zip(moved, (0.5, 0.5, 1.5, 2.5), strict=True):
            np.testing.assert_allclose(w, [rate * 1.0, rate * 2.0], rtol=1e-6)


@pytest.mark.parametrize("groups", [2, 4])
def test_the_variance_by_hand(groups: int) -> None:
    """At w = 0 the means of the groups of x are -g_m; V is b / (M (M - 1)) times their squared distances from g."""
    x = np.array([[1, 0], [3, 0], [5, 2], [7, 2], [1, 4], [1, 4], [3, 0], [3, 4]], np.float32)
    of_groups = x.reshape(groups, -1, 2).mean(axis=1)
    distances = ((of_groups - of_groups.mean(axis=0)) ** 2).sum()
    state, metrics = stepped(norm_test(optax.sgd(1.0), 0.1, 8, (4, 8), groups=groups), x.tolist())
    assert metrics["gradient_variance"] == pytest.approx(8 / (groups * (groups - 1)) * distances)
    assert metrics["gradient_norm_squared"] == pytest.approx((x.mean(axis=0) ** 2).sum())
    assert metrics["batch_size"] == 8
    np.testing.assert_allclose(state.params["w"], 0.1 * x.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(state.model_state["mean"], x.mean(axis=0), rtol=1e-6)
    assert metrics["loss"] == pytest.approx(0.5 * (x**2).sum(axis=1).mean())


def test_with_groups_of_one_it_is_the_variance_of_the_examples() -> None:
    """The paper's own estimate: the sum over coordinates of the sample variance of the examples' gradients."""
    x = np.random.default_rng(0).standard_normal((6, 2)).astype(np.float32)
    _, metrics = stepped(norm_test(optax.sgd(1.0), 0.1, 6, (6,), groups=6), x.tolist())
    assert metrics["gradient_variance"] == pytest.approx(x.var(axis=0, ddof=1).sum(), rel=1e-5)


def answered(variance: float, norm_squared: float, now: int) -> int | None:
    control = norm_test(optax.sgd(1.0), 0.1, 32, (8, 16, 32), eta=0.5).control
    assert control is not None
    metrics = {"gradient_variance": variance, "gradient_norm_squared": norm_squared, "batch_size": float(now)}
    answer = control(Progress(10, 80, metrics))
    return None if answer is None else answer.batch_size


def test_the_batch_grows_where_the_test_fails_and_never_shrinks() -> None:
    """V / (eta^2 ||g||^2) is the size that passes: 4 V here."""
    assert answered(2.0, 1.0, 8) is None, "8 is wanted: the test holds with equality"
    assert answered(2.1, 1.0, 8) == 16
    assert answered(4.0, 1.0, 8) == 16
    assert answered(4.1, 1.0, 8) == 32
    assert answered(1e9, 1.0, 8) == 32
    assert answered(0.1, 1.0, 32) is None
    assert answered(1e9, 1.0, 32) == 32, "the largest there is"
    assert answered(1.0, 0.0, 8) == 32, "noise and no gradient"
    assert answered(0.0, 0.0, 8) is None
    assert answered(math.nan, 1.0, 8) is None


def test_it_begins_with_the_first_size() -> None:
    control = norm_test(optax.sgd(1.0), 0.1, 32, (8, 16, 32)).control
    assert control is not None
    assert control(Progress(0, 0, {})) == Control(batch_size=8)


def test_sizes() -> None:
    assert halved(64, 2) == (16, 32, 64)
    assert halved(4, 3, multiple=2) == (2, 4)
    assert halved(1, 2) == (1,)
    assert size_wanted(6.0, 3.0, 0.5) == 8.0
    for sizes in ((), (8, 4), (0, 4), (4, 4)):
        with pytest.raises(SubmissionError, match="batch_ramp: sizes"):
            batch_ramp(optax.sgd(1.0), 0.1, 8, sizes, [0.0] * len(sizes))
    with pytest.raises(SubmissionError, match="each a multiple of 2; got \\(3, 8\\)"):
        norm_test(optax.sgd(1.0), 0.1, 8, (3, 8))
    with pytest.raises(SubmissionError, match="starts"):
        batch_ramp(optax.sgd(1.0), 0.1, 8, (4, 8), (0, -1))
