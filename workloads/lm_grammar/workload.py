"""A small character-level GPT on text from a grammar of known entropy. No jax here: `load` imports the model."""

from __future__ import annotations

from harness.api import LossKind
from harness.data import store
from harness.program.workload import VARIANTS, Data, Splits, Workload, WorkloadInfo, held_out, read_target, split_shapes

from ..families.spec import GPT, varied

MODEL = GPT(vocabulary=29, length=64, layers=2, width=64, heads=2)
EVERY = 3  # the slice is each third window of validation: taken from all of it, so that chance in it weighs less

INFO = WorkloadInfo(
    name="lm_grammar",
    description="GPT with 0.1M parameters on characters of a stochastic grammar whose entropy rate is known",
    metric="loss",
    mode="min",
    target=read_target(__file__),
    batch_size=32,
    step_hint=600,
    num_train_examples=38_400,  # windows of 64 predictions: a run of twice the step hint sees none of them again
    loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
    datasets={"grammar": "977092a683260ac08992d06f038490266f71d6f42969b5f339232e2916c0cd4b"},
    dispatch_steps={"cpu": 1, "gpu": 3},
    floor=0.47576400268686714,  # nats per character; harness.data.grammar.entropy_rate() computes it
    variants=(*VARIANTS, "mup", "repeated"),
)


def data(variant: str | None = None) -> Data:
    """Return the data, which are the same for every variant but `repeated`."""
    from ..families import batches, subsets

    shapes = split_shapes((38_400, -(-1024 // EVERY), 1024, 1024), {"tokens": ((MODEL.length + 1,), "uint8")})
    return subsets.thinned(Data(held_out(INFO, variant), shapes, splits, batches.windows), variant)


def load(variant: str | None = None) -> Workload:
    """Return the workload, or a held-out variant, with its model."""
    from ..families import gpt

    return gpt.make(data(variant), varied(MODEL, variant))


def splits() -> Splits:
    """Return {"tokens": uint8[windows, 65]} for each split: side by side, from a text with a seed of its own."""
    train, validation, test = (
        store.load("grammar", INFO.datasets["grammar"])[name] for name in ("train", "validation", "test")
    )
    return Splits(
        train={"tokens": train},
        validation_slice={"tokens": validation[::EVERY]},
        validation={"tokens": validation},
        test={"tokens": test},
    )
