"""The largest eigenvalue of the Hessian: of matrices and of a workload whose spectrum is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from harness.program import discovery
from harness.program.draws import draw_examples
from harness.program.workload import Splits, Workload
from harness.trial import curvature
from harness.trial.lanczos import largest


def of_diagonal(diagonal: Any, products: int) -> Any:
    values = jnp.asarray(diagonal, jnp.float32)
    start = jax.random.normal(jax.random.key(1), values.shape)
    return largest(lambda vector: values * vector, start, products)


def test_the_largest_of_a_known_spectrum() -> None:
    spectrum = np.linspace(-3.0, 1.0, 400)
    found = of_diagonal([*spectrum, 2.0, 2.5], 30)
    assert found.value == pytest.approx(2.5, rel=1e-4), "the largest, and not the largest in magnitude"
    few = of_diagonal(spectrum, 6)
    assert 1e-3 < 1.0 - few.value <= few.error, "so near lies an eigenvalue"


def test_an_eigenvalue_that_is_found_is_not_found_again() -> None:
    """Without reorthogonalisation float32 finds one far out soon, and the basis loses its rank."""
    rng = np.random.default_rng(0)
    diagonal, made = jnp.asarray([1e4, *rng.uniform(0.0, 1.0, 199)], jnp.float32), []

    def product(vector: jax.Array) -> jax.Array:
        made.append(np.asarray(vector))
        return diagonal * vector

    found = largest(product, jnp.ones(200), 60)
    gram = np.stack(made) @ np.stack(made).T
    assert np.abs(gram - np.eye(60)).max() < 1e-5
    assert found.value == pytest.approx(1e4, rel=1e-6)


def test_it_ends_where_the_basis_spans_all_there_is() -> None:
    for diagonal, value in (([2.0] * 5, 2.0), ([0.0] * 5, 0.0), ([1.0, 3.0, 3.0], 3.0)):
        found = of_diagonal(diagonal, 30)
        assert found.value == pytest.approx(value, abs=1e-6) and found.error < 1e-5


def test_what_is_not_finite_comes_back() -> None:
    assert np.isnan(of_diagonal([1.0, np.nan, 2.0], 3).value)


@pytest.fixture(scope="module")
def quadratic() -> Workload:
    return discovery.load_workload(discovery.find("workloads", "quadratic"))


def test_of_a_quadratic(quadratic: Workload) -> None:
    """The loss is a mean of squared errors over 4 outputs: its Hessian is a half of the inputs' second moments."""
    batches = curvature.drawn(quadratic, 4)
    x = np.concatenate([batch["x"] for batch in batches]).astype(np.float64)
    assert x.shape == (4 * 32, 16)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)  # the bias
    exact = np.linalg.eigvalsh(x.T @ x / len(x) / 2)[-1]
    product = curvature.hessian(quadratic, batches)
    for seed in (0, 1):
        params, model_state = quadratic.init(jax.random.key(seed))
        found = curvature.largest_at(product, params, model_state, 20)
        assert found.value == pytest.approx(exact, rel=1e-3) and found.error < 1e-3 * exact


def test_batches_are_those_of_the_stream_and_no_other_example_is_read(quadratic: Workload) -> None:
    train, read = quadratic.splits().train, []

    class Column:
        def __init__(self, array: np.ndarray):
            self.array = array

        def __getitem__(self, rows: np.ndarray) -> np.ndarray:
            read.append(len(rows))
            return self.array[rows]

    splits = Splits({name: Column(array) for name, array in train.items()}, {}, {}, {})  # type: ignore[misc]
    batches = curvature.drawn(replace(quadratic, splits=lambda: splits), 2)
    assert read == [32] * 4
    (key, _, _), count = curvature.keys(), quadratic.info.num_train_examples
    examples, _ = draw_examples(key, jnp.int32(32), 32, count)
    assert (batches[1]["index"] == examples).all() and (batches[1]["x"] == train["x"][np.asarray(examples)]).all()


def test_where_the_curvature_changes_it_is_that_at_the_parameters(quadratic: Workload) -> None:
    """On a loss of fourth order, beside the whole matrix."""

    def fourth(params: Any, model_state: Any, batch: Any, key: Any, train: bool) -> tuple[jax.Array, Any]:
        return jnp.mean((batch["x"] @ params["linear"]["kernel"] - batch["y"]) ** 4, axis=1), model_state

    workload = replace(quadratic, loss=fourth)
    batches, (params, model_state) = curvature.drawn(workload, 2), workload.init(jax.random.key(0))
    flat, tree_of = ravel_pytree(params)
    whole = {name: jnp.concatenate([batch[name] for batch in batches]) for name in ("x", "y")}
    matrix = jax.hessian(lambda at: fourth(tree_of(at), {}, whole, None, True)[0].mean())(flat)
    found = curvature.largest_at(curvature.hessian(workload, batches), params, model_state, 20)
    assert found.value == pytest.approx(np.linalg.eigvalsh(matrix)[-1], rel=1e-3)
