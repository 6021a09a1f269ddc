"""What clocks tell, as values: the spans of a trial, a reading, scored time, and what a step is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Span = Literal[
    "setup", "control", "compile", "warmup", "init", "train", "eval_variables", "eval", "checkpoint", "other"
]  # fmt: skip


SPANS: tuple[Span, ...] = (
    "setup", "control", "compile", "warmup", "init", "train", "eval_variables", "eval", "checkpoint", "other",
)  # fmt: skip


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


@dataclass(frozen=True)
class Calibration:
    """What one interleaved calibration measured on this machine.

    Attributes:
      baseline_step_s: seconds of the harness's AdamW step at the workload's batch size; the unit of budgets in seconds.
      baseline_step_cpu_s: the same in processor seconds.
      step_ratio: for each batch size, this submission's seconds per step over the baseline's.
      eval_variables_ratio: seconds of one eval_variables call over the baseline's step; 0 where there is none.
      pairs: interleaved pairs behind the medians.
      step_ratio_error: half-width of the ratio's 95% interval as a share of it, the largest over batch sizes; None in
        older records.
      baseline_source: "trial" (measured here) or "doctor" (`harness doctor --calibrate`).
    """

    baseline_step_s: float
    baseline_step_cpu_s: float
    step_ratio: dict[int, float]
    eval_variables_ratio: float
    pairs: int
    baseline_source: str = "trial"
    step_ratio_error: float | None = None


@dataclass(frozen=True)
class Scored:
    """Scored time on the four clocks, in seconds (joules for energy, None where not measured)."""

    wall: float
    cpu: float
    steps: float
    energy: float | None


def _add(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b
