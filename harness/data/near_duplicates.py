"""Images that are in a set more than once, or nearly: the same photograph brighter, cropped a little, or mirrored.

Two images are near-duplicates where the correlation of their pixel values is above `THRESHOLD`. To compare all pairs
would take hours; so each image, less its mean and scaled to length 1, is first projected onto the means of its 8x8
blocks. A projection never lengthens a difference, so what is far apart there is far apart in full, and only the pairs
that are near there are compared pixel by pixel. That comparison is in integers: the answer is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

THRESHOLD = 0.9
"""Of the correlation. On CIFAR-10, of the pairs just above it about half are one photograph; further above nearly
all are, below it few."""

_BLOCKS = 8  # to a side
_SLACK = 1e-3  # of the float32 projections, far above their rounding
_ROWS = 200  # images compared with all others at a time
_PAIRS = 4000  # compared pixel by pixel at a time


def near_duplicates(images: np.ndarray) -> np.ndarray:
    """Return bool[N]: which of uint8[N, C, H, W] have a near-duplicate, straight or mirrored left to right, among the
    others. H and W are multiples of 8.
    """
    pixels = images[0].size
    total = np.array([image.sum(dtype=np.int64) for image in images])
    squares = np.array([np.square(image, dtype=np.int64).sum() for image in images])
    spread = pixels * squares - total**2  # pixels^2 times the variance: exact, as is all that is made of it
    found = np.zeros(len(images), bool)
    for mirrored, pairs in _near_pairs(images, total / pixels, spread):
        left, right = images[pairs[:, 0]], images[pairs[:, 1]]
        right = right[..., ::-1] if mirrored else right
        products = np.einsum("nchw,nchw->n", left.astype(np.int32), right.astype(np.int32)).astype(np.int64)
        i, j = pairs.T
        covariance = pixels * products - total[i] * total[j]
        near = covariance > THRESHOLD * np.sqrt(spread[i].astype(np.float64) * spread[j])
        found[pairs[near]] = True
    return found


def _near_pairs(images: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> Iterator[tuple[bool, np.ndarray]]:
    """Yield (whether the second image is mirrored, int[n, 2] pairs i < j), with all pairs that can be near-duplicates.

    Of vectors of length 1, |a - b|^2 = 2 - 2 correlation; so for their projections p and q, near-duplicates have
    p.q - |p|^2 / 2 - |q|^2 / 2 > correlation - 1, a matrix product with two columns more.
    """
    n, channels, height, width = images.shape
    blocks = np.empty((n, _BLOCKS, _BLOCKS), np.float32)
    for start in range(0, n, _ROWS):
        part = images[start : start + _ROWS].reshape(
            -1, channels, _BLOCKS, height // _BLOCKS, _BLOCKS, width // _BLOCKS
        )
        blocks[start : start + _ROWS] = part.mean((1, 3, 5), dtype=np.float32)
    pixels, of_a_block = images[0].size, images[0].size / _BLOCKS**2
    length = np.sqrt(np.maximum(spread, 1) / pixels)
    blocks = (blocks - mean[:, None, None]) * (np.sqrt(of_a_block) / length)[:, None, None]
    straight = blocks.reshape(n, -1).astype(np.float32)
    half = np.square(straight).sum(1, keepdims=True) / 2
    one = np.ones_like(half)
    left = np.hstack([straight, -half, -one])
    for mirrored, other in enumerate((straight, blocks[..., ::-1].reshape(n, -1).astype(np.float32))):
        right = np.hstack([other, one, half]).T
        for start in range(0, n, _ROWS):
            scores = left[start : start + _ROWS] @ right[:, start:]
            i, j = np.divmod(np.flatnonzero(scores > THRESHOLD - 1 - _SLACK), scores.shape[1])
            pairs = np.stack([i, j], 1)[i < j] + start
            for first in range(0, len(pairs), _PAIRS):
                yield bool(mirrored), pairs[first : first + _PAIRS]
