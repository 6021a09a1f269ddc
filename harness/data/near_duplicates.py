"""Images that are in a set more than once, or nearly: the same photograph brighter, cropped a little, or mirrored.

Two images are near-duplicates where the correlation of their pixel values is above `THRESHOLD`. To compare all pairs
would take hours. So each image, less its mean and scaled to length 1, is projected onto the means of its blocks; with
the length of what that leaves out as one more coordinate, the product of two projections is never below the
correlation of the images (Cauchy-Schwarz). Only pairs that pass this, first with the channels taken together, then with
each by itself, are compared pixel by pixel; that is done in integers, so the answer is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

THRESHOLD = 0.9
"""Of the correlation. In CIFAR-10's training images it marks 1,410 of 50,000: seen by eye, most pairs above 0.94 are of
one photograph, about a third of those just above 0.9 (the others are planes in an empty sky and ships at sea), and few
below it."""

_BLOCKS = 8  # to a side
_SLACK = 1e-3  # of the float32 projections, far above their rounding
_ROWS = 200  # images that are worked on at a time
_PAIRS = 4000  # compared pixel by pixel at a time


def near_duplicates(images: np.ndarray) -> np.ndarray:
    """Return bool[N]: which of uint8[N, C, H, W] have a near-duplicate, straight or mirrored left to right, among the
    others. H and W are multiples of 8.
    """
    pixels = images[0].size
    total, squares = np.empty(len(images), np.int64), np.empty(len(images), np.int64)
    for part in _parts(len(images)):
        flat = images[part].reshape(-1, pixels).astype(np.int32)
        total[part], squares[part] = flat.sum(1), np.einsum("np,np->n", flat, flat)
    spread = pixels * squares - total**2  # pixels^2 times the variance: exact, as is all that is made of it
    found = np.zeros(len(images), bool)
    for mirrored, i, j in _near_pairs(images, total / pixels, spread / pixels):
        left, right = images[i], images[j][..., ::-1] if mirrored else images[j]
        products = np.einsum("nchw,nchw->n", left.astype(np.int32), right.astype(np.int32)).astype(np.int64)
        covariance = pixels * products - total[i] * total[j]
        near = covariance > THRESHOLD * np.sqrt(spread[i].astype(np.float64) * spread[j])
        found[i[near]] = found[j[near]] = True
    return found


def _near_pairs(
    images: np.ndarray, mean: np.ndarray, square_length: np.ndarray
) -> Iterator[tuple[bool, np.ndarray, np.ndarray]]:
    """Yield (whether the second image is mirrored, int[n] first, int[n] second), first < second: all pairs that can be
    near-duplicates, a part at a time.
    """
    n, channels, height, width = images.shape
    means = np.empty((n, channels, _BLOCKS, _BLOCKS), np.float32)
    for part in _parts(n):
        blocks = images[part].reshape(-1, channels, _BLOCKS, height // _BLOCKS, _BLOCKS, width // _BLOCKS)
        means[part] = blocks.mean((3, 5), dtype=np.float32)
    scale = np.sqrt(height * width / _BLOCKS**2 / np.maximum(square_length, 1))
    fine = (means - mean[:, None, None, None]) * scale[:, None, None, None]
    coarse = fine.sum(1) / np.sqrt(channels)
    fine_left, coarse_left = _with_rest(fine), _with_rest(coarse)
    for mirrored in (False, True):
        fine_right = _with_rest(fine[..., ::-1]) if mirrored else fine_left
        coarse_right = _with_rest(coarse[..., ::-1]) if mirrored else coarse_left
        for part in _parts(n):
            products = coarse_left[part] @ coarse_right[part.start :].T
            i, j = np.divmod(np.flatnonzero(products > THRESHOLD - _SLACK), products.shape[1]) + np.array(part.start)
            i, j = i[i < j], j[i < j]
            near = np.einsum("nd,nd->n", fine_left[i], fine_right[j]) > THRESHOLD - _SLACK
            i, j = i[near], j[near]
            for first in range(0, len(i), _PAIRS):
                yield mirrored, i[first : first + _PAIRS], j[first : first + _PAIRS]


def _with_rest(projections: np.ndarray) -> np.ndarray:
    """Return float32[N, D + 1]: projections of vectors of length 1, and the length of what they leave out."""
    flat = projections.reshape(len(projections), -1).astype(np.float32)
    rest = np.sqrt(np.maximum(1 - np.square(flat).sum(1, keepdims=True), 0))
    return np.hstack([flat, rest])


def _parts(n: int) -> Iterator[slice]:
    for start in range(0, n, _ROWS):
        yield slice(start, start + _ROWS)
