"""A GPT on classic books, for one GPU. No jax here: `load` imports the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.api import LossKind
from harness.data import bpe, store
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

from ..families.spec import GPT, varied

MODEL = GPT(vocabulary=8192, length=512, layers=8, width=512, heads=4, dtype="bfloat16", rotary=True, chunked=True)
SMALL_MODEL = replace(MODEL, length=64, layers=2, width=64, heads=2)
EVERY = 4  # the slice is each fourth window of validation, 506 of them: 259,072 tokens from all of its books
SMALL_WINDOWS = 128  # of the small form, in validation and in test

INFO = WorkloadInfo(
    name="lm_books",
    description="GPT with 34M parameters on books up to 1929, 8,192 byte-pair tokens, in bf16",
    metric="loss",
    mode="min",
    target=read_target(__file__),
    batch_size=128,
    step_hint=800,
    num_train_examples=59_887,  # windows
    loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
    datasets={"classic_books": "f2ee273b00c5f7ab95ca943f6ee82e98ddb9fce0bc79e05685d02de5be14eb37"},
    dispatch_steps={"cpu": 1, "gpu": 4},
    measurements=GPU_MEASUREMENTS,
    variants=(*VARIANTS, "mup", "repeated", SMALL),
    small=Small(batch_size=8, step_hint=200),
)


def data(variant: str | None = None) -> Data:
    """Return the data, which are the same for every variant but `repeated` and the small form."""
    from ..families import batches, subsets

    small = variant == SMALL
    model = SMALL_MODEL if small else MODEL
    validation, test = (SMALL_WINDOWS, SMALL_WINDOWS) if small else (2_023, 2_012)
    tokens = {"tokens": ((model.length + 1,), "uint16")}
    shapes = split_shapes(
        (INFO.num_train_examples, -(-validation // EVERY), validation, test), tokens, tokens | {"bytes": ((), "int32")}
    )
    whole = Data(held_out(INFO, variant), shapes, lambda: splits(model.length, small=small), batches.windows)
    return subsets.thinned(whole, variant)


def load(variant: str | None = None) -> Workload:
    """Return the workload, a held-out variant, or the small form, with its model."""
    from ..families import gpt

    return gpt.make(data(variant), SMALL_MODEL if variant == SMALL else varied(MODEL, variant))


def splits(length: int = MODEL.length, *, small: bool = False) -> Splits:
    """Return {"tokens": uint16[windows, length + 1]}, windows that overlap by one token, so that all are predicted; and
    for evaluation {"bytes": int32[windows]}, of the text behind the predicted ones.

    The small form takes the beginning of each window of the full one, and little to evaluate on.
    """
    arrays = store.load("classic_books", INFO.datasets["classic_books"])
    lengths = np.array([len(text) for text in bpe.spellings(arrays["merges"])], np.int32)

    def part(name: str, count: int | None = None) -> dict[str, np.ndarray]:
        tokens = windows(arrays[name])[:count, : length + 1]
        return {"tokens": tokens, "bytes": lengths[tokens[:, 1:]].sum(axis=1, dtype=np.int32)}

    validation = part("validation", SMALL_WINDOWS if small else None)
    return Splits(
        train={"tokens": part("train")["tokens"]},
        validation_slice={name: array[::EVERY] for name, array in validation.items()},
        validation=validation,
        test=part("test", SMALL_WINDOWS if small else None),
    )


def windows(tokens: np.ndarray) -> np.ndarray:
    """Return uint16[windows, 513]: the stream cut every 512 tokens; what is left at the end is dropped."""
    T = MODEL.length
    return np.lib.stride_tricks.sliding_window_view(tokens, T + 1)[::T].copy()
