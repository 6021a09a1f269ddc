"""A small ResNet with BatchNorm on scikit-learn's handwritten digits. No jax here: `load` imports the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.api import LossKind
from harness.data import digits, store
from harness.program.workload import (
    VARIANTS,
    Data,
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

MODEL = ResNet(channels=1, classes=10, widths=(16, 32, 64), norm="batch")
SHIFT = 1  # pixels
NOISE = 0.3  # standard deviation of the noise on each pixel, where ink is 0 to 1
VIEWS = 2  # noisy copies of each validation and test image, so that their loss depends less on chance
NOISE_SEED = 8  # of the validation and test images' noise, which is drawn once and for all

INFO = WorkloadInfo(
    name="resnet_digits",
    description="ResNet-8 with BatchNorm on 1,797 real 8x8 images of handwritten digits",
    metric="loss",
    mode="min",
    target=read_target(__file__),
    batch_size=64,
    step_hint=800,
    num_train_examples=digits.TRAIN,
    loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
    datasets={"digits": "d1ae153bd86ca43a40e617b72e0647981263a21403a45190594fad80f41c8068"},
    dispatch_steps={"cpu": 1, "gpu": 4},  # a scanned convolution is slow on a CPU
    variants=(*VARIANTS, "ghost"),
)


def scaled(stored: jax.Array) -> jax.Array:
    """Return the model's input, float32, of images as they are stored."""
    return stored.astype("float32") / 16


def augment(stored: jax.Array, key: jax.Array) -> jax.Array:
    """Return the model's input in training."""
    import jax

    from ..families import images

    shift_key, noise_key = jax.random.split(key)
    moved = scaled(images.shifted(stored, shift_key, SHIFT))
    return moved + NOISE * jax.random.normal(noise_key, moved.shape)


def data(variant: str | None = None) -> Data:
    """Return the data, which are the same for every variant."""
    from ..families import batches

    shapes = split_shapes(
        (digits.TRAIN, digits.VALIDATION * VIEWS, digits.VALIDATION * VIEWS, digits.TEST * VIEWS),
        {"image": ((8, 8, 1), "uint8"), "label": ((), "uint8")},
        {"image": ((8, 8, 1), "float32"), "label": ((), "uint8")},
    )
    return Data(held_out(INFO, variant), shapes, splits, batches.labelled_images(augment))


def load(variant: str | None = None) -> Workload:
    """Return the workload, or a held-out variant, with its model."""
    from ..families import resnet

    return resnet.make(data(variant), varied(MODEL, variant), scaled)


def splits() -> Splits:
    """Return {"image": [n, 8, 8, 1], ink 0 to 16, "label": uint8[n]}; the slice is all of validation.

    Training images are as in the file; validation and test images come VIEWS times each, with noise that never changes.
    """
    arrays = store.load("digits", INFO.datasets["digits"])
    rng = np.random.Generator(np.random.Philox(key=NOISE_SEED))

    def noisy(split: str) -> dict[str, np.ndarray]:
        images, labels = (np.concatenate([arrays[f"{split}_{field}"]] * VIEWS) for field in ("image", "label"))
        return {
            "image": images + np.float32(16 * NOISE) * rng.standard_normal(images.shape, np.float32),
            "label": labels,
        }

    train = {field: arrays[f"train_{field}"] for field in ("image", "label")}
    validation, test = noisy("validation"), noisy("test")
    return Splits(train, validation, validation, test)
