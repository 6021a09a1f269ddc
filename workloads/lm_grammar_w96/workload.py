"""lm_grammar at width 96: a rung of its ladder (`harness ladder`). No jax here: `load` imports the model."""

from __future__ import annotations

from dataclasses import replace

from harness.program.workload import UNSET, Data, Workload

from ..lm_grammar import workload as base

MODEL = replace(base.MODEL, width=96, heads=3)
INFO = replace(
    base.INFO,
    name="lm_grammar_w96",
    description="a rung of the ladder of lm_grammar: the same at width 96",
    target=UNSET,
    scored=False,
    variants=(),
    small=None,
)


def data() -> Data:
    """Return the data, which are those of lm_grammar."""
    return replace(base.data(), info=INFO)


def load() -> Workload:
    """Return the workload with its model."""
    from ..families import gpt

    return gpt.make(data(), MODEL)
