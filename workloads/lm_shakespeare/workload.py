"""A character-level GPT on the works of Shakespeare. No jax here: `load` imports the model."""

from __future__ import annotations

import numpy as np

from harness.api import LossKind
from harness.data import store
from harness.program.workload import VARIANTS, Data, Splits, Workload, WorkloadInfo, held_out, read_target, split_shapes

from ..families.spec import GPT, varied

MODEL = GPT(vocabulary=65, length=64, layers=4, width=128, heads=4)
EVERY = 4  # the slice is each fourth window of validation, 218 of them: from all plays, not from the first

INFO = WorkloadInfo(
    name="lm_shakespeare",
    description="GPT with 0.8M parameters on the characters of tinyshakespeare",
    metric="loss",
    mode="min",
    target=read_target(__file__),
    batch_size=32,
    step_hint=400,
    num_train_examples=15_685,  # windows
    loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
    datasets={"tinyshakespeare": "606a78dcbb1107d48679e3486fca395366b1afa678462fd9367c6bca101137dd"},
    dispatch_steps={"cpu": 1, "gpu": 2},
    variants=(*VARIANTS, "mup", "repeated"),
)


def data(variant: str | None = None) -> Data:
    """Return the data, which are the same for every variant but `repeated`."""
    from ..families import batches, subsets

    shapes = split_shapes((15_685, -(-871 // EVERY), 871, 871), {"tokens": ((MODEL.length + 1,), "uint8")})
    return subsets.thinned(Data(held_out(INFO, variant), shapes, splits, batches.windows), variant)


def load(variant: str | None = None) -> Workload:
    """Return the workload, or a held-out variant, with its model."""
    from ..families import gpt

    return gpt.make(data(variant), varied(MODEL, variant))


def splits() -> Splits:
    """Return {"tokens": uint8[windows, 65]} for each split; windows overlap by one character, so all are predicted."""
    arrays = store.load("tinyshakespeare", INFO.datasets["tinyshakespeare"])
    train, validation, test = (windows(arrays[name]) for name in ("train", "validation", "test"))
    return Splits(
        train={"tokens": train},
        validation_slice={"tokens": validation[::EVERY]},
        validation={"tokens": validation},
        test={"tokens": test},
    )


def windows(tokens: np.ndarray) -> np.ndarray:
    """Return uint8[windows, T + 1]: the stream cut every T tokens; what is left at the end is dropped."""
    T = MODEL.length
    return np.lib.stride_tricks.sliding_window_view(tokens, T + 1)[::T].copy()
