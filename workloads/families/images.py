"""Augmentation of images on the device, as pure functions of (images, key).

Shapes: B images, H height, W width, C channels.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from harness.api import Key


def shifted(images_BHWC: jax.Array, key: Key, pixels: int) -> jax.Array:
    """Return each image moved by up to `pixels` each way, both ways drawn alike; zeros come in at the edges."""
    B, H, W, _ = images_BHWC.shape
    offsets_B2 = jax.random.randint(key, (B, 2), 0, 2 * pixels + 1)
    padded = jnp.pad(images_BHWC, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
    rows_BH = offsets_B2[:, :1] + jnp.arange(H)[None]
    columns_BW = offsets_B2[:, 1:] + jnp.arange(W)[None]
    return padded[jnp.arange(B)[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]]


def flipped(images_BHWC: jax.Array, key: Key) -> jax.Array:
    """Return each image mirrored left to right with probability 1/2."""
    flip_B = jax.random.bernoulli(key, shape=(images_BHWC.shape[0],))
    return jnp.where(flip_B[:, None, None, None], images_BHWC[:, :, ::-1], images_BHWC)
