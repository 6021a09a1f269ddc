"""What the host keeps of a trial beside its arrays: how far it is, what is due next, and what its time is worth.

A `HostState` is saved with each checkpoint; all here is a pure function of it, the spec and the ledger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.record.result import Measurement


@dataclass
class Baseline:
    """What the yardstick took in this trial: runs of it, and per run the mean seconds of a step, summed.

    Attributes:
      runs: how many; each has as many steps as any other.
      wall_s, cpu_s: seconds per step, summed over runs.
      squares: of the wall seconds per step, summed over runs.
    """

    runs: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    squares: float = 0.0

    def enter(self, wall_s: float, cpu_s: float) -> None:
        """Enter the mean seconds per step of a run."""
        self.runs += 1
        self.wall_s += wall_s
        self.cpu_s += cpu_s
        self.squares += wall_s**2

    @property
    def step_s(self) -> float | None:
        """Mean wall seconds of a step; None before the first run."""
        return self.wall_s / self.runs if self.runs else None

    @property
    def error(self) -> float | None:
        """Half-width of the 95% interval of `step_s`, as a share of it; None with fewer than two runs."""
        if self.runs < 2:
            return None
        mean = self.wall_s / self.runs
        variance = max(0.0, self.squares / self.runs - mean**2) * self.runs / (self.runs - 1)
        return 1.96 * math.sqrt(variance / self.runs) / mean


@dataclass
class HostState:
    """What the host knows of a trial beyond the arrays; saved with each checkpoint.

    Attributes:
      batch_size: of the next step.
      step, examples: done in all.
      steps_by_size, train_s_by_size: steps and wall seconds of training, by batch size.
      eval_variables_calls, control_calls: so far.
      metric_sums, metric_steps: of the reported metrics since the last control call.
      unreported: steps in a row, up to now, whose loss was not finite.
      measurements: so far.
      baseline: what the yardstick took.
    """

    batch_size: int
    step: int = 0
    examples: int = 0
    steps_by_size: dict[int, int] = field(default_factory=dict)
    train_s_by_size: dict[int, float] = field(default_factory=dict)
    eval_variables_calls: int = 0
    control_calls: int = 0
    metric_sums: dict[str, float] = field(default_factory=dict)
    metric_steps: int = 0
    unreported: int = 0
    measurements: list[Measurement] = field(default_factory=list)
    baseline: Baseline = field(default_factory=Baseline)


def count(host: HostState, series: Mapping[str, np.ndarray], train_s: float) -> None:
    """Enter a chunk's steps, metrics and seconds."""
    steps, size = len(series["loss"]), host.batch_size
    host.step += steps
    host.examples += steps * size
    host.steps_by_size[size] = host.steps_by_size.get(size, 0) + steps
    host.train_s_by_size[size] = host.train_s_by_size.get(size, 0.0) + train_s
    reported = np.flatnonzero(np.isfinite(series["loss"]))
    host.unreported = steps - 1 - int(reported[-1]) if reported.size else host.unreported + steps
    for name, values in series.items():
        host.metric_sums[name] = host.metric_sums.get(name, 0.0) + float(values.sum(dtype=np.float64))
    host.metric_steps += steps
