"""The data order: a permutation each epoch, independent of how it is cut into batches."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.program.data_order import batch_indices

SIZES = [1, 2, 3, 5, 7, 16, 17, 64, 97, 100, 127, 1200, 1201, 2048, 4099, 38_400]
indices = partial(jax.jit, static_argnums=(2, 3))(batch_indices)


def order(seed: int, start: int, size: int, n: int) -> np.ndarray:
    return np.asarray(indices(jax.random.key(seed), jnp.int32(start), size, n))


@pytest.mark.parametrize("n", SIZES)
def test_each_epoch_is_a_permutation(n: int) -> None:
    stream = order(0, 0, 3 * n, n)
    assert stream.dtype == np.int32
    for epoch in range(3):
        assert np.array_equal(np.sort(stream[epoch * n : (epoch + 1) * n]), np.arange(n))


@pytest.mark.parametrize("n", [97, 1200, 4099])
def test_epochs_and_keys_differ(n: int) -> None:
    stream, other = order(0, 0, 2 * n, n), order(1, 0, n, n)
    # Two independent permutations agree in one place on average.
    assert (stream[:n] == stream[n:]).sum() < 8
    assert (stream[:n] == other).sum() < 8
    assert (stream[:n] == np.arange(n)).sum() < 8


@pytest.mark.parametrize("n", [7, 100, 1201])
@pytest.mark.parametrize("size", [1, 3, 32, 250])
def test_order_does_not_depend_on_the_batch_size(n: int, size: int) -> None:
    batches = [order(2, start, size, n) for start in range(0, 4 * size, size)]
    assert np.array_equal(np.concatenate(batches), order(2, 0, 4 * size, n))


def test_a_batch_crosses_the_end_of_an_epoch() -> None:
    stream = order(3, 0, 200, 100)
    assert np.array_equal(order(3, 90, 20, 100), stream[90:110])


@pytest.mark.parametrize("n", [12, 13])
def test_positions_are_uniform(n: int) -> None:
    """Where example i goes, over many epochs: chi-square of the n x n counts, and of pairs of neighbours."""
    epochs = 4000
    stream = order(4, 0, epochs * n, n).reshape(epochs, n)
    counts = np.zeros((n, n))
    np.add.at(counts, (np.arange(n)[None], stream), 1)
    expected = epochs / n
    chi2 = ((counts - expected) ** 2 / expected).sum()
    freedom = (n - 1) ** 2
    assert abs(chi2 - freedom) < 5 * (2 * freedom) ** 0.5
    pairs = np.zeros((n, n))
    np.add.at(pairs, (stream[:, :-1], stream[:, 1:]), 1)
    off = pairs[~np.eye(n, dtype=bool)]
    expected = epochs / n
    assert ((off - expected) ** 2 / expected).mean() < 1.5


def test_large_sets_mix() -> None:
    """Of a set of millions, the first batch is spread over all of it."""
    batch = order(5, 0, 4096, 10_000_000)
    assert len(np.unique(batch)) == 4096
    histogram = np.bincount(batch // 625_000, minlength=16)
    assert ((histogram - 256) ** 2 / 256).sum() < 15 + 5 * 30**0.5


def test_positions_past_two_to_the_31() -> None:
    batch = np.asarray(indices(jax.random.key(0), jnp.uint32(2**32 - 100), 50, 1201))
    assert len(np.unique(batch)) == 50
    assert batch.min() >= 0
    assert batch.max() < 1201
