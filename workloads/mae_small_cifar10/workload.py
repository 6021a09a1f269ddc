"""A masked autoencoder of the size of ViT-S on CIFAR-10, for one GPU. No jax here: `load` imports the model."""

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

from ..families.spec import MAE, varied

if TYPE_CHECKING:
    import jax

MODEL = MAE(
    size=32, channels=3, patch=4, visible=16, layers=12, width=384, heads=6,
    decoder_layers=4, decoder_width=192, decoder_heads=3, dtype="bfloat16",
)  # fmt: skip
SMALL_MODEL = replace(MODEL, layers=2, width=32, heads=2, decoder_layers=1, decoder_width=32, decoder_heads=2)
VALIDATION, SLICE = 10_000, 5_000  # images
SMALL_SLICE = 256
MASK_SEED = 20  # of the validation and test images' masks, which are drawn once and for all
MEAN, SCALE = 0.47, 0.25  # of the pixels, from 0 to 1, over all channels

INFO = WorkloadInfo(
    name="mae_small_cifar10",
    description="masked autoencoder with 23M parameters on CIFAR-10, in bf16",
    metric="loss",
    mode="min",
    target=read_target(__file__),
    batch_size=1024,
    step_hint=2400,  # 61 epochs
    num_train_examples=50_000 - VALIDATION,
    loss_kind=LossKind.MEAN_SQUARED_ERROR,
    datasets={"cifar10": "9a39c601f694b1d8553d0fe30b1cfbb0fd7af024f923c557cb24a78879b231e5"},
    dispatch_steps={"cpu": 1, "gpu": 8},
    measurements=GPU_MEASUREMENTS,
    variants=(*VARIANTS, "mup", SMALL),
    small=Small(batch_size=32, step_hint=200),
)


def scaled(stored: jax.Array) -> jax.Array:
    """Return the model's input, float32, of images as they are stored."""
    return (stored.astype("float32") / 255 - MEAN) / SCALE


def augment(stored: jax.Array, key: jax.Array) -> jax.Array:
    """Return the model's input in training."""
    from ..families import images

    return scaled(images.flipped(stored, key))


def data(variant: str | None = None) -> Data:
    """Return the data, which are the same for every variant but the small form."""
    from ..families import batches

    small = variant == SMALL
    counts = (SMALL_SLICE, 4 * SMALL_SLICE, 4 * SMALL_SLICE) if small else (SLICE, VALIDATION, 10_000)
    image = {"image": ((32, 32, 3), "uint8")}
    shapes = split_shapes((INFO.num_train_examples, *counts), image, image | {"order": ((MODEL.patches,), "uint8")})
    return Data(held_out(INFO, variant), shapes, lambda: splits(small=small), batches.images(augment))


def load(variant: str | None = None) -> Workload:
    """Return the workload, a held-out variant, or the small form, with its model."""
    from ..families import mae

    return mae.make(data(variant), SMALL_MODEL if variant == SMALL else varied(MODEL, variant), scaled)


def splits(*, small: bool = False) -> Splits:
    """Return {"image": uint8[n, 32, 32, 3]}, with fixed masks for evaluation; the slice is the first of validation.

    The small form has little to evaluate on.
    """
    from ..families.batches import fixed_orders

    arrays = store.load("cifar10", INFO.datasets["cifar10"])
    start, count = len(arrays["image"]) - VALIDATION, 4 * SMALL_SLICE if small else VALIDATION
    validation = {
        "image": np.asarray(arrays["image"][start : start + count]),
        "order": fixed_orders(VALIDATION, MODEL.patches, MASK_SEED)[:count],
    }
    images = np.asarray(arrays["test_image"][:count])
    test = {"image": images, "order": fixed_orders(len(images), MODEL.patches, MASK_SEED + 1)}
    return Splits(
        train={"image": np.asarray(arrays["image"][:start])},
        validation_slice={name: array[: SMALL_SLICE if small else SLICE] for name, array in validation.items()},
        validation=validation,
        test=test,
    )
