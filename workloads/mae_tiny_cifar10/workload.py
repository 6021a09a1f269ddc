"""A small masked autoencoder on CIFAR-10. No jax here: `load` imports the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.api import LossKind
from harness.data import store
from harness.program.workload import VARIANTS, Data, Splits, Workload, WorkloadInfo, held_out, read_target, split_shapes

from ..families.spec import MAE, varied

if TYPE_CHECKING:
    import jax

MODEL = MAE(
    size=32, channels=3, patch=4, visible=16, layers=3, width=64, heads=4,
    decoder_layers=1, decoder_width=48, decoder_heads=3,
)  # fmt: skip
VALIDATION, SLICE = 5_000, 1_250  # images
MASK_SEED = 10  # of the validation and test images' masks, which are drawn once and for all
MEAN, SCALE = 0.47, 0.25  # of the pixels, from 0 to 1, over all channels

INFO = WorkloadInfo(
    name="mae_tiny_cifar10",
    description="masked autoencoder with 0.2M parameters on CIFAR-10",
    metric="loss",
    mode="min",
    target=read_target(__file__),
    batch_size=128,
    step_hint=600,
    num_train_examples=50_000 - VALIDATION,
    loss_kind=LossKind.MEAN_SQUARED_ERROR,
    datasets={"cifar10": "9a39c601f694b1d8553d0fe30b1cfbb0fd7af024f923c557cb24a78879b231e5"},
    dispatch_steps={"cpu": 1, "gpu": 3},
    variants=(*VARIANTS, "mup"),
)


def scaled(stored: jax.Array) -> jax.Array:
    """Return the model's input, float32, of images as they are stored."""
    return (stored.astype("float32") / 255 - MEAN) / SCALE


def augment(stored: jax.Array, key: jax.Array) -> jax.Array:
    """Return the model's input in training."""
    del key  # no augmentation
    return scaled(stored)


def data(variant: str | None = None) -> Data:
    """Return the data, which are the same for every variant."""
    from ..families import batches

    shapes = split_shapes(
        (INFO.num_train_examples, SLICE, VALIDATION, 10_000),
        {"image": ((32, 32, 3), "uint8")},
        {"image": ((32, 32, 3), "uint8"), "order": ((MODEL.patches,), "uint8")},
    )
    return Data(held_out(INFO, variant), shapes, splits, batches.images(augment))


def load(variant: str | None = None) -> Workload:
    """Return the workload, or a held-out variant, with its model."""
    from ..families import mae

    return mae.make(data(variant), varied(MODEL, variant), scaled)


def splits() -> Splits:
    """Return {"image": uint8[n, 32, 32, 3]}, with fixed masks for evaluation; the slice is the first of validation."""
    from ..families.batches import fixed_orders

    arrays = store.load("cifar10", INFO.datasets["cifar10"])
    start = len(arrays["image"]) - VALIDATION
    validation = {
        "image": np.asarray(arrays["image"][start:]),
        "order": fixed_orders(VALIDATION, MODEL.patches, MASK_SEED),
    }
    images = np.asarray(arrays["test_image"])
    test = {"image": images, "order": fixed_orders(len(images), MODEL.patches, MASK_SEED + 1)}
    return Splits(
        train={"image": np.asarray(arrays["image"][:start])},
        validation_slice={name: array[:SLICE] for name, array in validation.items()},
        validation=validation,
        test=test,
    )
