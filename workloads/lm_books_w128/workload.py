"""lm_books at width 128: a rung of its ladder (`harness ladder`). No jax here: `load` imports the model."""

from __future__ import annotations

from dataclasses import replace

from harness.program.workload import UNSET, Data, Workload

from ..lm_books import workload as base

MODEL = replace(base.MODEL, width=128, heads=1)
INFO = replace(
    base.INFO,
    name="lm_books_w128",
    description="a rung of the ladder of lm_books: the same at width 128",
    target=UNSET,
    scored=False,
    variants=(),
    small=None,
)


def data() -> Data:
    """Return the data, which are those of lm_books."""
    return replace(base.data(), info=INFO)


def load() -> Workload:
    """Return the workload with its model."""
    from ..families import gpt

    return gpt.make(data(), MODEL)
