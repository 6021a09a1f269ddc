"""Crops of photographs at random, drawn and cut out on the device, as pure functions of (images, key).

Shapes: B images, S pixels a side as they are stored, C channels, A attempts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from harness.api import Key

from . import images
from .batches import Batch

ATTEMPTS = 10
RATIO = (3 / 4, 4 / 3)  # width over height of a crop, in the photograph's own pixels


def cropped(area: tuple[float, float], size: int, scaled: Callable[[jax.Array], jax.Array], *, labels: bool) -> Batch:
    """Return the function that gives a batch {"image"}, and {"label"} where asked for: a crop of each photograph, of
    `size` x `size` pixels, mirrored with probability 1/2.

    The training arrays are those of `imagenet.columns`; `scaled` makes the model's input of pixels from 0 to 255.
    """

    def batch(train: Mapping[str, jax.Array], index: jax.Array, key: Key) -> dict[str, jax.Array]:
        crop_key, flip_key = jax.random.split(key)
        boxes_B4 = boxes(train["size"][index], crop_key, area)
        crops = images.flipped(resampled(train["image"][index], boxes_B4, size), flip_key)
        return {"image": scaled(crops)} | ({"label": train["label"][index].astype(jnp.int32)} if labels else {})

    return batch


def boxes(sizes_B2: jax.Array, key: Key, area: tuple[float, float]) -> jax.Array:
    """Return float32[B, 4]: top, left, height, width of a box in each photograph, as shares of its height and width.

    `sizes_B2` holds height and width. The share of the area is uniform over `area`, the logarithm of the ratio of sides
    over that of `RATIO`, the place uniform over all places (Szegedy et al. 2015, arXiv:1409.4842, section 6). A box
    that goes over an edge is drawn again; after `ATTEMPTS` comes the largest in the middle whose ratio is allowed.
    """
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    height_B1, width_B1 = jnp.split(sizes_B2.astype(jnp.float32), 2, axis=1)
    aspect_B1 = width_B1 / height_B1
    drawn = (len(sizes_B2), ATTEMPTS)
    share_BA = jax.random.uniform(area_key, drawn, minval=area[0], maxval=area[1])
    low, high = jnp.log(jnp.float32(RATIO[0])), jnp.log(jnp.float32(RATIO[1]))
    ratio_BA = jnp.exp(jax.random.uniform(ratio_key, drawn, minval=low, maxval=high))
    sides_BA2 = jnp.stack([jnp.sqrt(share_BA * aspect_B1 / ratio_BA), jnp.sqrt(share_BA * ratio_BA / aspect_B1)], -1)
    inside_BA = (sides_BA2 <= 1).all(axis=-1)
    first_B = inside_BA.argmax(axis=1)
    sides_B2 = jnp.take_along_axis(sides_BA2, first_B[:, None, None], axis=1)[:, 0]
    allowed_B1 = jnp.clip(aspect_B1, *RATIO)
    largest_B2 = jnp.minimum(jnp.concatenate([aspect_B1 / allowed_B1, allowed_B1 / aspect_B1], axis=1), 1.0)
    found_B1 = inside_BA.any(axis=1, keepdims=True)
    sides_B2 = jnp.where(found_B1, sides_B2, largest_B2)
    place_B2 = jnp.where(found_B1, jax.random.uniform(place_key, sides_B2.shape), 0.5)
    return jnp.concatenate([place_B2 * (1 - sides_B2), sides_B2], axis=1)


def resampled(images_BSSC: jax.Array, boxes_B4: jax.Array, size: int) -> jax.Array:
    """Return float32[B, size, size, C], from 0 to 255: what is in the boxes, by cubic interpolation (Keys 1981), which
    averages over what it shrinks.
    """
    side = images_BSSC.shape[1]

    def one(image_SSC: jax.Array, box_4: jax.Array) -> jax.Array:
        scale_2 = size / (side * box_4[2:])
        shape = (size, size, image_SSC.shape[-1])
        moved_2 = -side * box_4[:2] * scale_2
        return jax.image.scale_and_translate(image_SSC, shape, (0, 1), scale_2, moved_2, "cubic", antialias=True)

    return jnp.clip(jax.vmap(one)(images_BSSC.astype(jnp.float32), boxes_B4), 0, 255)
