"""A ResNet of one block and width 16, for `harness check` and tests. No jax here: `load` imports the model."""

from __future__ import annotations

import numpy as np

from harness.api import LossKind
from harness.program.workload import UNSET, Data, Splits, Workload, WorkloadInfo, split_shapes

from ..families.spec import ResNet

MODEL = ResNet(channels=1, classes=3, widths=(16,), norm="batch")
SIZE = 6  # pixels
TRAIN, VALIDATION, TEST = 64, 32, 32  # images
SEED = 21

INFO = WorkloadInfo(
    name="shrunk_resnet",
    description="ResNet of one block and width 16 with BatchNorm on stripes and noise: compiles in a second",
    metric="loss",
    mode="min",
    target=UNSET,
    batch_size=8,
    step_hint=800,
    num_train_examples=TRAIN,
    loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
    scored=False,
)


def data() -> Data:
    """Return the data."""
    from ..families import batches

    examples = {"image": ((SIZE, SIZE, 1), "float32"), "label": ((), "uint8")}
    shapes = split_shapes((TRAIN, VALIDATION, VALIDATION, TEST), examples)
    return Data(INFO, shapes, splits, batches.labelled_images(lambda stored, key: stored))


def load() -> Workload:
    """Return the workload with its model."""
    from ..families import resnet

    return resnet.make(data(), MODEL, scaled=lambda stored: stored)


def splits() -> Splits:
    """Return {"image": float32[n, 6, 6, 1], "label": uint8[n]}: the label is the period of the stripes less one."""
    rng = np.random.Generator(np.random.Philox(key=SEED))
    label = rng.integers(0, MODEL.classes, TRAIN + VALIDATION + TEST).astype(np.uint8)
    stripes = (np.arange(SIZE) % (label[:, None] + 1) == 0).astype(np.float32)  # [n, SIZE]
    image = stripes[:, None, :, None] + 0.5 * rng.standard_normal((len(label), SIZE, SIZE, 1), np.float32)

    def part(start: int, stop: int | None) -> dict[str, np.ndarray]:
        return {"image": image[start:stop], "label": label[start:stop]}

    validation = part(TRAIN, TRAIN + VALIDATION)
    return Splits(part(0, TRAIN), validation, validation, part(TRAIN + VALIDATION, None))
