"""A GPT of one layer and width 16, for `harness check` and tests. No jax here: `load` imports the model."""

from __future__ import annotations

import numpy as np

from harness.api import LossKind
from harness.program.workload import UNSET, Data, Splits, Workload, WorkloadInfo, split_shapes

from ..families.spec import GPT

MODEL = GPT(vocabulary=11, length=16, layers=1, width=16, heads=2)
TRAIN, VALIDATION, TEST = 64, 32, 32  # windows
SEED = 20

INFO = WorkloadInfo(
    name="shrunk_gpt",
    description="GPT of one layer and width 16 on random walks over its tokens: compiles in a second",
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

    shapes = split_shapes((TRAIN, VALIDATION, VALIDATION, TEST), {"tokens": ((MODEL.length + 1,), "uint8")})
    return Data(INFO, shapes, splits, batches.windows)


def load() -> Workload:
    """Return the workload with its model."""
    from ..families import gpt

    return gpt.make(data(), MODEL)


def splits() -> Splits:
    """Return {"tokens": uint8[windows, 17]}: each token is the one before it, or the one after that."""
    rng = np.random.Generator(np.random.Philox(key=SEED))
    steps = rng.integers(0, 2, (TRAIN + VALIDATION + TEST, MODEL.length + 1))
    steps[:, 0] = rng.integers(0, MODEL.vocabulary, len(steps))
    tokens = (np.cumsum(steps, axis=1) % MODEL.vocabulary).astype(np.uint8)
    train, validation, test = ({"tokens": part} for part in np.split(tokens, [TRAIN, TRAIN + VALIDATION]))
    return Splits(train, validation, validation, test)
