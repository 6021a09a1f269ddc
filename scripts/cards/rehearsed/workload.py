"""The toy that scripts/card.py rehearses with, beside the others in a copy: `shrunk_gpt`, with a short schedule and a
target of its own.
"""

from __future__ import annotations

from dataclasses import replace

from harness.program.workload import Data, Workload, read_target

from ..shrunk_gpt import workload as shrunk

MODEL = shrunk.MODEL
INFO = replace(shrunk.INFO, name="rehearsed", step_hint=100, target=read_target(__file__))


def data() -> Data:
    """Return the data."""
    return replace(shrunk.data(), info=INFO)


def load() -> Workload:
    """Return the workload with its model."""
    from ..families import gpt

    return gpt.make(data(), MODEL)
