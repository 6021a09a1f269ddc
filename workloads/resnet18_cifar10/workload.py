"""A ResNet-18 on CIFAR-10, for one GPU. No jax here: `load` imports the model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.api import LossKind
from harness.data import store
from harness.program.workload import (
    GPU_MEASUREMENTS,
    SMALL,
    VARIANTS,
    Data,
    Small,
    Splits,
    Workload,
    WorkloadInfo,
    held_out,
    read_target,
    split_shapes,
)

from ..families.spec import ResNet, varied

if TYPE_CHECKING:
    import jax

MODEL = ResNet(channels=3, classes=10, widths=(64, 128, 256, 512), blocks=2, dtype="bfloat16")
SMALL_MODEL = replace(MODEL, widths=(8, 16), blocks=1)
SIZE, SMALL_SIZE = 32, 16  # pixels; the small form sees the middle of each image
VALIDATION, SLICE = 10_000, 5_000  # images
SMALL_SLICE = 256
SHIFT = 4  # pixels
MEAN, SCALE = 0.47, 0.25  # of the pixels, from 0 to 1, over all channels

INFO = WorkloadInfo(
    name="resnet18_cifar10",
    description="ResNet-18 with 11M parameters on CIFAR-10, in bf16",
    metric="accuracy",
    mode="max",
    target=read_target(__file__),
    batch_size=512,
    step_hint=2400,  # 31 epochs
    num_train_examples=50_000 - VALIDATION,
    loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
    datasets={"cifar10": "9a39c601f694b1d8553d0fe30b1cfbb0fd7af024f923c557cb24a78879b231e5"},
    dispatch_steps={"cpu": 1, "gpu": 8},  # a scanned convolution is slow on a CPU
    measurements=GPU_MEASUREMENTS,
    variants=(*VARIANTS, "ghost", SMALL),
    small=Small(batch_size=32, step_hint=200),
)


def scaled(stored: jax.Array) -> jax.Array:
    """Return the model's input, float32, of images as they are stored."""
    return (stored.astype("float32") / 255 - MEAN) / SCALE


def augment(stored: jax.Array, key: jax.Array) -> jax.Array:
    """Return the model's input in training."""
    import jax

    from ..families import images

    shift_key, flip_key = jax.random.split(key)
    return scaled(images.flipped(images.shifted(stored, shift_key, SHIFT), flip_key))


def data(variant: str | None = None) -> Data:
    """Return the data, which are the same for every variant but the small form."""
    from ..families import batches

    small = variant == SMALL
    size = SMALL_SIZE if small else SIZE
    counts = (SMALL_SLICE, 4 * SMALL_SLICE, 4 * SMALL_SLICE) if small else (SLICE, VALIDATION, 10_000)
    examples = {"image": ((size, size, 3), "uint8"), "label": ((), "uint8")}
    shapes = split_shapes((INFO.num_train_examples, *counts), examples)
    return Data(held_out(INFO, variant), shapes, lambda: splits(small=small), batches.labelled_images(augment))


def load(variant: str | None = None) -> Workload:
    """Return the workload, a held-out variant, or the small form, with its model."""
    from ..families import resnet

    return resnet.make(data(variant), SMALL_MODEL if variant == SMALL else varied(MODEL, variant), scaled)


def splits(*, small: bool = False) -> Splits:
    """Return {"image": uint8[n, 32, 32, 3], "label": uint8[n]}; the slice is the first part of validation.

    The small form takes the middle 16x16 pixels, and little to evaluate on.
    """
    arrays = store.load("cifar10", INFO.datasets["cifar10"])
    start = len(arrays["image"]) - VALIDATION

    def part(prefix: str, which: slice) -> dict[str, np.ndarray]:
        edge = (SIZE - SMALL_SIZE) // 2 if small else 0
        inner = slice(edge, SIZE - edge)
        return {
            "image": np.ascontiguousarray(arrays[f"{prefix}image"][which, inner, inner]),
            "label": np.asarray(arrays[f"{prefix}label"][which]),
        }

    count = 4 * SMALL_SLICE if small else VALIDATION
    return Splits(
        train=part("", slice(start)),
        validation_slice=part("", slice(start, start + (SMALL_SLICE if small else SLICE))),
        validation=part("", slice(start, start + count)),
        test=part("test_", slice(count)),
    )
