"""lm_books at width 768: a rung of its ladder (`harness ladder`). No jax here: `load` imports the model."""

from __future__ import annotations

from harness.program.workload import Data, Splits, Workload, held_out

from ..families import ladders

RUNG = ladders.lm_books(768)
INFO, MODEL = RUNG.info, RUNG.model


def data(variant: str | None = None) -> Data:
    """Return the data, which are those of lm_books."""
    from ..families import batches

    return Data(held_out(INFO, variant), RUNG.shapes, splits, batches.windows)


def load(variant: str | None = None) -> Workload:
    """Return the workload, or its held-out variant, with its model."""
    from ..families import gpt

    return gpt.make(data(variant), RUNG.varied(variant))


def splits() -> Splits:
    """Return the splits of lm_books."""
    from ..lm_books import workload  # here, since it reads its target: a confined process may not

    return workload.splits()
