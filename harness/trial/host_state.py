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
    """What the yardstick's step takes beside the program, and the program's seconds in steps of it.

    Seconds between two runs of the yardstick are worth their number over the mean of the two runs: a machine's slow
    phases last for seconds, and both are in them. Sums count, whatever the steps among them take.

    Attributes:
      runs: so far, but for the first, which comes before training and finds a cold process.
      wall_s, cpu_s: mean seconds of a step in each run, summed over runs; of the first while there is no other.
      last_s: seconds of a step in the last run.
      pending: the program's seconds since the last run, by what it did.
      steps: its seconds before, in steps of the yardstick.
      stretches, ratios, squares: stretches between runs, and the program's seconds per step over the yardstick's in
        each, summed, and squared and summed.
      trained: the program's steps since the last run.
    """

    runs: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    last_s: float | None = None
    pending: dict[str, float] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)
    stretches: int = 0
    ratios: float = 0.0
    squares: float = 0.0
    trained: int = 0

    def begin(self, wall_s: float, cpu_s: float) -> None:
        """Enter what a step took before training, or when training goes on in another process."""
        if not self.runs:
            self.wall_s, self.cpu_s = wall_s, cpu_s
        self._settle(self.last_s or wall_s)
        self.last_s = None

    def spend(self, what: str, seconds: float, trained: int = 0) -> None:
        """Enter what the program did, and how many steps it trained."""
        self.pending[what] = self.pending.get(what, 0.0) + seconds
        self.trained += trained

    def enter(self, wall_s: float, cpu_s: float) -> None:
        """Enter what a step took in a run."""
        if not self.runs:
            self.wall_s = self.cpu_s = 0.0
        self.runs += 1
        self.wall_s += wall_s
        self.cpu_s += cpu_s
        self._settle(wall_s if self.last_s is None else (self.last_s + wall_s) / 2)
        self.last_s = wall_s

    def worth(self, what: str) -> float:
        """Return the program's seconds so far, in steps of the yardstick."""
        return self.steps.get(what, 0.0) + self.pending.get(what, 0.0) / (self.last_s or self.step_s)

    @property
    def step_s(self) -> float:
        """Mean wall seconds of a step."""
        return self.wall_s / max(1, self.runs)

    @property
    def step_cpu_s(self) -> float:
        """Mean processor seconds of a step."""
        return self.cpu_s / max(1, self.runs)

    @property
    def error(self) -> float | None:
        """Half-width of the 95% interval of the program's step over the yardstick's, as a share of it; None with fewer
        than two stretches.
        """
        if self.stretches < 2:
            return None
        mean = self.ratios / self.stretches
        variance = max(0.0, self.squares / self.stretches - mean**2) * self.stretches / (self.stretches - 1)
        return 1.96 * math.sqrt(variance / self.stretches) / mean

    def _settle(self, step_s: float) -> None:
        for what, seconds in self.pending.items():
            self.steps[what] = self.steps.get(what, 0.0) + seconds / step_s
        if self.trained:
            ratio = sum(s for what, s in self.pending.items() if what != EVAL_VARIABLES) / self.trained / step_s
            self.stretches += 1
            self.ratios += ratio
            self.squares += ratio**2
        self.pending, self.trained = {}, 0


EVAL_VARIABLES = "eval_variables"


def training(size: int) -> str:
    """Return what a `Baseline` calls training with batches of a size."""
    return f"steps of {size}"


@dataclass
class HostState:
    """What the host knows of a trial beyond the arrays; saved with each checkpoint.

    Attributes:
      batch_size: of the next step.
      step, examples: done in all.
      steps_by_size: steps by batch size.
      eval_variables_calls, control_calls: so far.
      metric_sums, metric_steps: of the reported metrics since the last control call.
      unreported: steps in a row, up to now, whose loss was not finite.
      measurements: so far.
      baseline: what the yardstick takes.
    """

    batch_size: int
    step: int = 0
    examples: int = 0
    steps_by_size: dict[int, int] = field(default_factory=dict)
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
    host.baseline.spend(training(size), train_s, steps)
    reported = np.flatnonzero(np.isfinite(series["loss"]))
    host.unreported = steps - 1 - int(reported[-1]) if reported.size else host.unreported + steps
    for name, values in series.items():
        host.metric_sums[name] = host.metric_sums.get(name, 0.0) + float(values.sum(dtype=np.float64))
    host.metric_steps += steps
