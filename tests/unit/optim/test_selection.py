"""Hard examples: which of the candidates are trained on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from harness.api import Algorithm, TrainState
from harness.errors import SubmissionError
from harness.optim.selection import drawn, hard_examples

KEY = jax.random.key(0)
LOSSES = [3.0, 1.0, 4.0, 1.5, 5.0, 9.0]


class GivenLoss:
    """Each example's loss is its x; the gradient is 0. Remembers what was trained on."""

    def __init__(self) -> None:
        self.trained: list[dict[str, list[float]]] = []

    def per_example(self, params: Any, model_state: Any, batch: Any, key: Any) -> jax.Array:
        return batch["x"]

    def value_and_grad(self, params: Any, model_state: Any, batch: Any, key: Any) -> Any:
        self.trained.append({name: np.asarray(x).tolist() for name, x in batch.items()})
        return (batch["x"].mean(), model_state), jax.tree.map(jnp.zeros_like, params)


def step(algorithm: Algorithm) -> tuple[GivenLoss, dict[str, float]]:
    params, loss = {"w": jnp.zeros(2)}, GivenLoss()
    state = TrainState(params, algorithm.init(params, KEY), {}, jnp.int32(0), jnp.int32(0))
    batch = {"x": jnp.array(LOSSES), "index": jnp.arange(len(LOSSES)) + 20}
    _, metrics = algorithm.step(loss, state, batch, KEY)  # type: ignore[arg-type]
    return loss, {name: float(value) for name, value in metrics.items()}


def test_the_largest_losses_are_trained_on_with_all_that_belongs_to_them() -> None:
    algorithm = hard_examples(optax.sgd(0.1), 3)
    assert algorithm.candidates == 3
    loss, metrics = step(algorithm)
    assert loss.trained == [{"x": [9.0, 5.0], "index": [25, 24]}]
    assert metrics == {"loss": 7.0, "candidate_loss": pytest.approx(sum(LOSSES) / 6)}


def test_a_large_beta_takes_the_largest_and_each_example_once() -> None:
    loss, _ = step(hard_examples(optax.sgd(0.1), 3, beta=1e4))
    assert sorted(loss.trained[0]["index"]) == [24, 25]
    loss, _ = step(hard_examples(optax.sgd(0.1), 2, beta=0.0))
    assert len(set(loss.trained[0]["index"])) == 3


def test_draws_are_in_proportion_to_the_rank_to_the_power_of_beta() -> None:
    """The first of those drawn without replacement; the standard error of a share of 20,000 is at most 0.0036."""
    first = jax.vmap(lambda key: drawn(jnp.array(LOSSES), 1, 2.0, key)[0])(jax.random.split(KEY, 20_000))
    ranks = np.array([3, 1, 4, 2, 5, 6])
    np.testing.assert_allclose(np.bincount(first, minlength=6) / 20_000, ranks**2 / (ranks**2).sum(), atol=0.015)


def test_what_selects_already_is_refused() -> None:
    with pytest.raises(SubmissionError, match="asks for 2 candidates itself"):
        hard_examples(hard_examples(optax.sgd(0.1), 2), 2)
    with pytest.raises(SubmissionError, match="candidates"):
        hard_examples(optax.sgd(0.1), 1)
