"""A small masked autoencoder on CIFAR-10. No jax here: `load` imports the model."""

from __future__ import annotations

import numpy as np

from harness.api import LossKind
from harness.data import store
from harness.program.workload import VARIANTS, Splits, Workload, WorkloadInfo, held_out, read_target

from ..families.spec import MAE, varied

MODEL = MAE(
    size=32, channels=3, patch=4, visible=16, layers=3, width=64, heads=4,
    decoder_layers=1, decoder_width=48, decoder_heads=3,
)  # fmt: skip
VALIDATION, SLICE = 5_000, 2_000  # images
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
    variants=tuple(VARIANTS),
)


def load(variant: str | None = None) -> Workload:
    """Return the workload, or a held-out variant, with its model."""
    import jax
    import jax.numpy as jnp

    from ..families import mae

    def scaled(stored: jax.Array) -> jax.Array:
        return (stored.astype(jnp.float32) / 255 - MEAN) / SCALE

    def augment(stored: jax.Array, key: jax.Array) -> jax.Array:
        del key  # no augmentation
        return scaled(stored)

    return mae.make(held_out(INFO, variant), varied(MODEL, variant), splits, scaled, augment)


def splits() -> Splits:
    """Return {"image": uint8[n, 32, 32, 3]}, with fixed masks for evaluation; the slice is the first of validation."""
    from ..families.mae import fixed_orders

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
