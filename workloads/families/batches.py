"""From training arrays to batches, as pure functions on the device. jax alone: a trial imports this, and no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from harness.api import Key

Batch = Callable[[Mapping[str, jax.Array], jax.Array, Key], dict[str, jax.Array]]
Augment = Callable[[jax.Array, Key], jax.Array]


def windows(train: Mapping[str, jax.Array], index: jax.Array, key: Key) -> dict[str, jax.Array]:
    """Return the windows `index`, int32[B], split into inputs and the tokens that follow them; and where the data name
    the part that each comes from, {"source": int32[B]}.
    """
    del key  # no augmentation
    inputs, targets = shifted(train["tokens"][index])
    batch = {"inputs": inputs, "targets": targets}
    return batch | {"source": train["source"][index].astype(jnp.int32)} if "source" in train else batch


def shifted(tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return (all tokens but the last, all but the first) of each window, int32."""
    tokens = tokens.astype(jnp.int32)
    return tokens[:, :-1], tokens[:, 1:]


def images(augment: Augment) -> Batch:
    """Return the function that gives a batch {"image"}, augmented."""
    return lambda train, index, key: {"image": augment(train["image"][index], key)}


def labelled_images(augment: Augment) -> Batch:
    """Return the function that gives a batch {"image", "label"}, the images augmented."""

    def batch(train: Mapping[str, jax.Array], index: jax.Array, key: Key) -> dict[str, jax.Array]:
        return {"image": augment(train["image"][index], key), "label": train["label"][index].astype(jnp.int32)}

    return batch


def fixed_orders(images: int, patches: int, key: int) -> np.ndarray:
    """Return uint8[images, patches]: the order of the patches of each image of an evaluation split, by its number.

    Drawn by Philox with `key`, so that the masks never change.
    """
    noise = np.random.Generator(np.random.Philox(key=key)).random((images, patches))
    return np.argsort(noise, axis=1, kind="stable").astype(np.uint8)
