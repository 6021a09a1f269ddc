"""The masks of the masked autoencoders."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from workloads.families import mae
from workloads.mae_digits.workload import MODEL


@pytest.mark.parametrize("size", [6, 8], ids=["9 patches", "16 patches"])
def test_drawn_orders_are_permutations_with_each_patch_in_each_place_equally_often(size: int) -> None:
    spec, images = replace(MODEL, size=size), 4000
    P = spec.patches
    orders_BP = np.asarray(mae.drawn_orders(jax.random.key(0), images, spec))
    assert np.array_equal(np.sort(orders_BP, axis=1), np.tile(np.arange(P), (images, 1)))
    counts_PP = (orders_BP[:, :, None] == np.arange(P)).sum(axis=0)
    assert np.abs(counts_PP - images / P).max() < 5 * (images / P) ** 0.5


def test_taken_patches_are_those_at_their_places() -> None:
    patches_BPX = jax.random.normal(jax.random.key(0), (3, 4, 2))
    places_BN = np.array([[3, 0], [1, 1], [2, 3]])
    expected = np.stack([patches[places] for patches, places in zip(np.asarray(patches_BPX), places_BN, strict=True)])
    assert np.array_equal(mae.taken(patches_BPX, places_BN), expected)
