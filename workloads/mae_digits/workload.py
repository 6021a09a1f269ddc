"""A masked autoencoder on scikit-learn's handwritten digits. No jax here: `load` imports the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.api import LossKind
from harness.data import digits, store
from harness.program.workload import VARIANTS, Data, Splits, Workload, WorkloadInfo, held_out, read_target, split_shapes

from ..families.spec import MAE, varied

if TYPE_CHECKING:
    import jax

MODEL = MAE(
    size=8, channels=1, patch=2, visible=8, layers=1, width=64, heads=2,
    decoder_layers=1, decoder_width=48, decoder_heads=2,
)  # fmt: skip
SHIFT = 1  # pixels
MEAN, SCALE = 0.3, 0.38  # of the pixels, from 0 to 1
VIEWS = 2  # masks of each validation and test image
MASK_SEED = 9  # of those masks, which are drawn once and for all

INFO = WorkloadInfo(
    name="mae_digits",
    description="masked autoencoder on 1,797 real 8x8 images of handwritten digits",
    metric="loss",
    mode="min",
    target=read_target(__file__),
    batch_size=64,
    step_hint=800,
    num_train_examples=digits.TRAIN,
    loss_kind=LossKind.MEAN_SQUARED_ERROR,
    datasets={"digits": "d1ae153bd86ca43a40e617b72e0647981263a21403a45190594fad80f41c8068"},
    dispatch_steps={"cpu": 1, "gpu": 4},
    variants=(*VARIANTS, "mup"),
)


def scaled(stored: jax.Array) -> jax.Array:
    """Return the model's input, float32, of images as they are stored."""
    return (stored.astype("float32") / 16 - MEAN) / SCALE


def augment(stored: jax.Array, key: jax.Array) -> jax.Array:
    """Return the model's input in training."""
    from ..families import images

    return scaled(images.shifted(stored, key, SHIFT))


def data(variant: str | None = None) -> Data:
    """Return the data, which are the same for every variant."""
    from ..families import batches

    shapes = split_shapes(
        (digits.TRAIN, digits.VALIDATION * VIEWS, digits.VALIDATION * VIEWS, digits.TEST * VIEWS),
        {"image": ((8, 8, 1), "uint8")},
        {"image": ((8, 8, 1), "uint8"), "order": ((MODEL.patches,), "uint8")},
    )
    return Data(held_out(INFO, variant), shapes, splits, batches.images(augment))


def load(variant: str | None = None) -> Workload:
    """Return the workload, or a held-out variant, with its model."""
    from ..families import mae

    return mae.make(data(variant), varied(MODEL, variant), scaled)


def splits() -> Splits:
    """Return {"image": uint8[n, 8, 8, 1], ink 0 to 16}; for evaluation each image VIEWS times with masks of its own."""
    from ..families.batches import fixed_orders

    arrays = store.load("digits", INFO.datasets["digits"])

    def masked(split: str) -> dict[str, np.ndarray]:
        images = np.concatenate([arrays[f"{split}_image"]] * VIEWS)
        return {"image": images, "order": fixed_orders(len(images), MODEL.patches, MASK_SEED)}

    validation = masked("validation")
    return Splits({"image": arrays["train_image"]}, validation, validation, masked("test"))
