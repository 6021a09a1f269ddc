"""A GPT of GPT-2's smallest shape on FineWeb, for one large GPU. No jax here: `load` imports the model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from harness.api import LossKind
from harness.data import sharded, shards, store
from harness.program.streaming import StreamedData
from harness.program.workload import (
    GPU_MEASUREMENTS,
    SMALL,
    VARIANTS,
    Data,
    Small,
    Splits,
    Target,
    Workload,
    WorkloadInfo,
    held_out,
    split_shapes,
)

from ..families.spec import GPT, varied

VOCABULARY = 50_257  # GPT-2's tokens, which the shards hold; the model's table is filled up to a multiple of 128
MODEL = GPT(vocabulary=50_304, length=1024, layers=12, width=768, heads=12, dtype="bfloat16", rotary=True, chunked=True)
SMALL_MODEL = replace(MODEL, length=64, layers=2, width=64, heads=2)
TRAINING_SHARDS = 50
REPEATED_SHARDS = 6  # of the variant "repeated": about an eighth, so eight epochs in place of one
WINDOWS_OF_A_SHARD = 97_656  # of 100 million tokens, each with the one before it
VALIDATION = TEST = 10_240  # windows: 10,485,760 tokens, the number that the public results are measured on
SMALL_TRAIN, SMALL_WINDOWS = 2_048, 128

INFO = WorkloadInfo(
    name="lm_fineweb",
    description="GPT of GPT-2 124M's shape on 5 billion tokens of FineWeb, in bf16; streamed from shards",
    metric="loss",
    mode="min",
    # Public and provisional: of other people's runs of another recipe. No run here stands behind it.
    target=Target(value=3.28, version=0, steps_to_target=76_000, reference_step_s=0.0),
    batch_size=64,
    step_hint=76_000,
    num_train_examples=TRAINING_SHARDS * WINDOWS_OF_A_SHARD,
    loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
    datasets={"fineweb": ""},  # no hash is pinned: harness.data.sharded
    dispatch_steps={"cpu": 1, "gpu": 4},
    measurements=GPU_MEASUREMENTS,
    variants=(*VARIANTS, "mup", "repeated", SMALL),
    small=Small(batch_size=8, step_hint=200),
)


def training_shards(variant: str | None = None) -> int:
    """Return how many training shards it takes."""
    return {"repeated": REPEATED_SHARDS, SMALL: 1}.get(variant or "", TRAINING_SHARDS)


def data(variant: str | None = None) -> Data:
    """Return the data, streamed: of `repeated` the first shards alone; of the small form the beginning, held whole."""
    from ..families import batches

    small = variant == SMALL
    training = training_shards(variant)
    length = (SMALL_MODEL if small else MODEL).length + 1
    train = SMALL_TRAIN if small else training * WINDOWS_OF_A_SHARD
    counts = (SMALL_WINDOWS, SMALL_WINDOWS, SMALL_WINDOWS) if small else (VALIDATION, VALIDATION, TEST)
    shapes = split_shapes((train, *counts), {"tokens": ((length,), "uint16")})
    info = replace(held_out(INFO, variant), num_train_examples=train)
    if small:
        return Data(info, shapes, small_splits, batches.windows)
    return StreamedData(info, shapes, lambda: splits(training), batches.windows)


def load(variant: str | None = None) -> Workload:
    """Return the workload, a held-out variant, or the small form, with its model."""
    from ..families import gpt

    return gpt.make(data(variant), SMALL_MODEL if variant == SMALL else varied(MODEL, variant))


def splits(training: int = TRAINING_SHARDS) -> Splits:
    """Return {"tokens": uint16[windows, 1025]}; those of so many training shards, read where they are asked for."""
    return _splits(MODEL.length + 1, training, VALIDATION, TEST)


def small_splits() -> Splits:
    """Return {"tokens": uint16[windows, 65]}, out of one training shard."""
    found = _splits(SMALL_MODEL.length + 1, 1, SMALL_WINDOWS, SMALL_WINDOWS)
    return replace(found, train={"tokens": found.train["tokens"][np.arange(SMALL_TRAIN)]})


def _splits(length: int, training: int, validation: int, test: int) -> Splits:
    paths = sharded.paths(store.find("fineweb"), store.root() / "fineweb", training)
    windows = partial(shards.Windows, length=length, vocabulary=VOCABULARY)
    held_out_windows = windows([paths.validation])
    measured = {"tokens": held_out_windows[np.arange(validation)]}
    after = {"tokens": held_out_windows[np.arange(validation, validation + test)]}
    return Splits({"tokens": windows(paths.train)}, measured, measured, after)  # type: ignore[dict-item]
