"""The training data of held-out variants: fewer examples, which a run goes through more often. No jax here."""

from __future__ import annotations

from dataclasses import replace

from harness.program.workload import Data, Splits

REPEATED = "repeated"
EVERY = 8  # the variant "repeated" keeps each eighth example, and so goes through its data eight times as often


def thinned(data: Data, variant: str | None) -> Data:
    """Return the data of a variant: of `repeated` with each eighth training example alone; else as they are.

    What is evaluated stays. Kept are examples from all of the training set, not its beginning.
    """
    if variant != REPEATED:
        return data
    kept = len(range(0, data.info.num_train_examples, EVERY))
    train = {name: ((kept, *shape[1:]), dtype) for name, (shape, dtype) in data.shapes["train"].items()}

    def splits() -> Splits:
        whole = data.splits()
        return replace(whole, train={name: array[::EVERY].copy() for name, array in whole.train.items()})

    info = replace(data.info, num_train_examples=kept)
    return replace(data, info=info, shapes={**data.shapes, "train": train}, splits=splits)
