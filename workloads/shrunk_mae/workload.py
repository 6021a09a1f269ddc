"""A masked autoencoder of one layer and width 16, for `harness check` and tests. No jax here: `load` imports it."""

from __future__ import annotations

import numpy as np

from harness.api import LossKind
from harness.program.workload import UNSET, Data, Splits, Workload, WorkloadInfo, split_shapes

from ..families.spec import MAE

MODEL = MAE(
    size=8, channels=1, patch=2, visible=8, layers=1, width=16, heads=2,
    decoder_layers=1, decoder_width=16, decoder_heads=2,
)  # fmt: skip
TRAIN, VALIDATION, TEST = 64, 32, 32  # images
SEED = 22

INFO = WorkloadInfo(
    name="shrunk_mae",
    description="masked autoencoder of one layer and width 16 on waves and noise: compiles in a second",
    metric="loss",
    mode="min",
    target=UNSET,
    batch_size=8,
    step_hint=800,
    num_train_examples=TRAIN,
    loss_kind=LossKind.MEAN_SQUARED_ERROR,
    scored=False,
)


def data() -> Data:
    """Return the data."""
    from ..families import batches

    image = {"image": ((MODEL.size, MODEL.size, 1), "float32")}
    masked = image | {"order": ((MODEL.patches,), "uint8")}
    shapes = split_shapes((TRAIN, VALIDATION, VALIDATION, TEST), image, masked)
    return Data(INFO, shapes, splits, batches.images(lambda stored, key: stored))


def load() -> Workload:
    """Return the workload with its model."""
    from ..families import mae

    return mae.make(data(), MODEL, scaled=lambda stored: stored)


def splits() -> Splits:
    """Return {"image": float32[n, 8, 8, 1]}: a wave across each; for evaluation "order", a mask for each, beside it."""
    from ..families.batches import fixed_orders

    rng = np.random.Generator(np.random.Philox(key=SEED))
    count = TRAIN + VALIDATION + TEST
    tilt, phase = rng.uniform(0.3, 1.5, (2, count, 1, 1)), rng.uniform(0, 2 * np.pi, (count, 1, 1))
    y, x = np.mgrid[: MODEL.size, : MODEL.size][:, None]
    wave = np.sin(tilt[0] * x + tilt[1] * y + phase) + 0.1 * rng.standard_normal((count, MODEL.size, MODEL.size))
    image, order = wave.astype(np.float32)[..., None], fixed_orders(count, MODEL.patches, SEED)

    def masked(start: int, stop: int | None) -> dict[str, np.ndarray]:
        return {"image": image[start:stop], "order": order[start:stop]}

    validation = masked(TRAIN, TRAIN + VALIDATION)
    return Splits({"image": image[:TRAIN]}, validation, validation, masked(TRAIN + VALIDATION, None))
