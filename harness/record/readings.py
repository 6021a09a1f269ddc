"""What clocks tell, as values: the spans of a trial, a reading, scored time, and what a step is worth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

Span = Literal[
    "setup", "control", "compile", "warmup", "init", "train", "eval_variables", "eval", "yardstick", "checkpoint",
    "other",
]  # fmt: skip


SPANS: tuple[Span, ...] = get_args(Span)


@dataclass(frozen=True)
class Reading:
    """An amount of time on each measured clock; `energy_j` is None where the machine does not tell."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    energy_j: float | None = None

    def __add__(self, other: Reading) -> Reading:
        return Reading(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s, _add(self.energy_j, other.energy_j))

    def __sub__(self, other: Reading) -> Reading:
        energy = None if other.energy_j is None else -other.energy_j
        return Reading(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s, _add(self.energy_j, energy))


CLOCK_VERSION = 3
"""Of the calibrated clock. 3: ratios of sums, calls handed over while they are timed; times under 2, which records have
that do not tell, are up to 5% longer.
"""


@dataclass(frozen=True)
class Calibration:
    """What the program's steps and the yardstick's took, side by side, in one trial.

    Attributes:
      baseline_step_s: mean seconds of the yardstick's step at the workload's batch size; the unit of budgets.
      baseline_step_cpu_s: the same in processor seconds.
      step_ratio: for each batch size that was trained with, the program's mean seconds per step over the yardstick's.
      eval_variables_ratio: mean seconds of an eval_variables call over the yardstick's step; 0 where there is none.
      pairs: runs of the yardstick between the program's (before version 2 of the clock: pairs of single steps).
      step_ratio_error: half-width of the 95% interval of the ratio, as a share of it; None with fewer than two
        stretches between runs.
      baseline_source: "trial"; "alone" where the yardstick ran before the trial alone, since both were too large for
        the device; "doctor" in older records.
      process: tells the processes of a machine apart: a program is some percent faster in one than in another.
      steps: behind each step ratio.
      clock_version: of how these follow from the runs; see `CLOCK_VERSION`. Times of two versions are not compared.
    """

    baseline_step_s: float
    baseline_step_cpu_s: float
    step_ratio: dict[int, float]
    eval_variables_ratio: float
    pairs: int
    baseline_source: str = "trial"
    step_ratio_error: float | None = None
    process: str | None = None
    steps: dict[int, int] = field(default_factory=dict)
    clock_version: int = 2


@dataclass(frozen=True)
class Scored:
    """Scored time on the four clocks, in seconds (joules for energy); None where it was not measured."""

    wall: float
    cpu: float
    calibrated: float | None
    energy: float | None


def _add(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b
