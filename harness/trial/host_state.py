"""What the host keeps of a trial beside its arrays: how far it is, what is due next, and what its time is worth.

A `HostState` is saved with each checkpoint; all here is a pure function of it, the spec and the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.record.result import Measurement


@dataclass
class HostState:
    """What the host knows of a trial beyond the arrays; saved with each checkpoint."""

    batch_size: int
    step: int = 0
    examples: int = 0
    steps_by_size: dict[int, int] = field(default_factory=dict)
    eval_variables_calls: int = 0
    control_calls: int = 0
    metric_sums: dict[str, float] = field(default_factory=dict)
    metric_steps: int = 0
    measurements: list[Measurement] = field(default_factory=list)


def count(host: HostState, series: Mapping[str, np.ndarray]) -> None:
    """Enter a chunk's steps and metrics."""
    steps = len(series["loss"])
    host.step += steps
    host.examples += steps * host.batch_size
    host.steps_by_size[host.batch_size] = host.steps_by_size.get(host.batch_size, 0) + steps
    for name, values in series.items():
        host.metric_sums[name] = host.metric_sums.get(name, 0.0) + float(values.sum(dtype=np.float64))
    host.metric_steps += steps
