"""What the host keeps of a trial beside its arrays: how far it is, what is due next, and what its time is worth.

A `HostState` is saved with each checkpoint; all here is a pure function of it, the spec and the ledger.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.record.result import Measurement

STALL = 3.0  # times the median of the latest runs
LATEST = 5  # runs


@dataclass
class Work:
    """What the program did of one kind: `units` are steps or calls, in `seconds`; `yardstick_s` are what as many steps
    of the yardstick took at the same time.
    """

    seconds: float = 0.0
    units: int = 0
    yardstick_s: float = 0.0


@dataclass
class Baseline:
    """What the yardstick's step takes beside the program, and the program's seconds in steps of it.

    A machine's slow phases last for seconds. So each of the program's steps between two runs of the yardstick stands
    against one step of the yardstick as long as the mean of the two runs, and a kind of work is worth

        units * sum(seconds) / sum(units * the yardstick's step)

    steps of the yardstick. Both sums are taken over the whole trial: a step that does more counts in full, whichever it
    is, and noise in single runs cancels. (The mean of seconds over the yardstick's, run by run, would not do: the mean
    of 1 / y is more than 1 over the mean of y, by the variance of y.)

    A run stands for more than ten times its own seconds. So one that a stall of the machine fell into counts as at most
    `STALL` times the median of the latest runs: else one suspended second would make a program look free.

    Attributes:
      runs: so far, but for the first, which comes before training and finds a cold process.
      wall_s, cpu_s: mean seconds of a step in each run, summed over runs; of the first while there is no other.
      last_s: seconds of a step in the last run.
      latest: those of the latest `LATEST` runs, stalls and all.
      pending: what the program did since the last run, by kind.
      settled: what it did before.
      stretches: between runs, in which the program trained.
      seconds2, products, yardstick2: the program's seconds of training in a stretch, squared; times the yardstick's of
        as many steps; and these squared; each summed over stretches.
    """

    runs: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    last_s: float | None = None
    latest: list[float] = field(default_factory=list)
    pending: dict[str, Work] = field(default_factory=dict)
    settled: dict[str, Work] = field(default_factory=dict)
    stretches: int = 0
    seconds2: float = 0.0
    products: float = 0.0
    yardstick2: float = 0.0

    def begin(self, wall_s: float, cpu_s: float) -> None:
        """Enter what a step took before training, or when training goes on in another process."""
        if not self.runs:
            self.wall_s, self.cpu_s = wall_s, cpu_s
        self._settle(self.last_s or wall_s)
        self.last_s = None

    def spend(self, kind: str, seconds: float, units: int) -> None:
        """Enter what the program did: so many steps or calls of a kind."""
        work = self.pending.setdefault(kind, Work())
        work.seconds += seconds
        work.units += units

    def enter(self, wall_s: float, cpu_s: float) -> None:
        """Enter what a step took in a run."""
        if not self.runs:
            self.wall_s = self.cpu_s = 0.0
        self.latest = [*self.latest, wall_s][-LATEST:]
        wall_s = min(wall_s, STALL * statistics.median(self.latest))
        self.runs += 1
        self.wall_s += wall_s
        self.cpu_s += cpu_s
        self._settle(wall_s if self.last_s is None else (self.last_s + wall_s) / 2)
        self.last_s = wall_s

    def ratio(self, kind: str) -> float:
        """Return what a step or call of this kind takes so far, in steps of the yardstick; 0 of a kind not done yet."""
        done, new = self.settled.get(kind, Work()), self.pending.get(kind, Work())
        yardstick_s = done.yardstick_s + new.units * (self.last_s or self.step_s)
        return (done.seconds + new.seconds) / yardstick_s if yardstick_s else 0.0

    def worth(self, kind: str) -> float:
        """Return the program's seconds of this kind so far, in steps of the yardstick."""
        return self.ratio(kind) * sum(work[kind].units for work in (self.settled, self.pending) if kind in work)

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
        """Half-width of the 95% interval of the program's step over the yardstick's, as a share of it: that of a ratio
        of sums, by the scatter of stretches around it. None with fewer than two stretches.
        """
        if self.stretches < 2:
            return None
        trained = [work for kind, work in self.settled.items() if kind != EVAL_VARIABLES]
        seconds = sum(work.seconds for work in trained)
        ratio = seconds / sum(work.yardstick_s for work in trained)
        residuals2 = max(0.0, self.seconds2 - 2 * ratio * self.products + ratio**2 * self.yardstick2)
        return 1.96 * math.sqrt(residuals2 * self.stretches / (self.stretches - 1)) / seconds

    def _settle(self, step_s: float) -> None:
        trained = [work for kind, work in self.pending.items() if kind != EVAL_VARIABLES]
        if trained:
            seconds, yardstick_s = (sum(work.seconds for work in trained), sum(work.units for work in trained) * step_s)
            self.stretches += 1
            self.seconds2 += seconds**2
            self.products += seconds * yardstick_s
            self.yardstick2 += yardstick_s**2
        for kind, work in self.pending.items():
            done = self.settled.setdefault(kind, Work())
            done.seconds += work.seconds
            done.units += work.units
            done.yardstick_s += work.units * step_s
        self.pending = {}


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
