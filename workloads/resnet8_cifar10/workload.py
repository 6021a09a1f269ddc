"""A ResNet-8 with GroupNorm on CIFAR-10 at 16x16 pixels. No jax here: `load` imports the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.api import LossKind
from harness.data import store
from harness.program.workload import VARIANTS, Data, Splits, Workload, WorkloadInfo, held_out, read_target, split_shapes

from ..families.spec import ResNet, varied

if TYPE_CHECKING:
    import jax

MODEL = ResNet(channels=3, classes=10, widths=(16, 32, 64), norm="group", groups=8)
VALIDATION, SLICE = 5_000, 2_000  # images
SHIFT = 2  # pixels
MEAN, SCALE = 0.47, 0.25  # of the pixels, from 0 to 1, over all channels

INFO = WorkloadInfo(
    name="resnet8_cifar10",
    description="ResNet-8 with GroupNorm on CIFAR-10, averaged to 16x16 pixels",
    metric="accuracy",
    mode="max",
    target=read_target(__file__),
    batch_size=128,
    step_hint=800,
    num_train_examples=50_000 - VALIDATION,
    loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
    datasets={"cifar10": "9a39c601f694b1d8553d0fe30b1cfbb0fd7af024f923c557cb24a78879b231e5"},
    dispatch_steps={"cpu": 1, "gpu": 4},  # a scanned convolution is slow on a CPU
    variants=tuple(VARIANTS),
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
    """Return the data, which are the same for every variant."""
    from ..families import batches

    shapes = split_shapes(
        (INFO.num_train_examples, SLICE, VALIDATION, 10_000), {"image": ((16, 16, 3), "uint8"), "label": ((), "uint8")}
    )
    return Data(held_out(INFO, variant), shapes, splits, batches.labelled_images(augment))


def load(variant: str | None = None) -> Workload:
    """Return the workload, or a held-out variant, with its model."""
    from ..families import resnet

    return resnet.make(data(variant), varied(MODEL, variant), scaled)


def splits() -> Splits:
    """Return {"image": uint8[n, 16, 16, 3], "label": uint8[n]}; the slice is the first part of validation."""
    arrays = store.load("cifar10", INFO.datasets["cifar10"])
    image, label = halved(arrays["image"]), np.asarray(arrays["label"])

    def part(which: slice) -> dict[str, np.ndarray]:
        return {"image": image[which], "label": label[which]}

    start = len(image) - VALIDATION
    test = {"image": halved(arrays["test_image"]), "label": np.asarray(arrays["test_label"])}
    return Splits(part(slice(start)), part(slice(start, start + SLICE)), part(slice(start, None)), test)


def halved(images: np.ndarray) -> np.ndarray:
    """Return uint8[n, H/2, W/2, C]: the mean of each 2x2 pixels, halves rounded up."""
    n, H, W, C = images.shape
    total = np.zeros((n, H // 2, W // 2, C), np.uint16)
    for row in (0, 1):
        for column in (0, 1):
            total += images[:, row::2, column::2]
    return ((total + 2) // 4).astype(np.uint8)
