"""How a trial stands and how it ended: `Status`, `Measurement`, and the `Result` that `result.json` holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from harness.errors import RunFolderError
from harness.record import older, plain_data
from harness.record.readings import Calibration, Reading, Scored
from harness.record.spec import SCHEMA


class Status(StrEnum):
    """How a trial ended, or stands."""

    TARGET_REACHED = "target_reached"
    HORIZON_REACHED = "horizon_reached"
    BUDGET_EXHAUSTED = "budget_exhausted"
    STOPPED = "stopped"  # the submission's own control asked for it
    DIVERGED = "diverged"  # NaN or infinity in parameters, or in every loss for a while
    HOPELESS = "hopeless"  # slower than another trial of its study that has reached the target: it cannot count
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    HUNG = "hung"  # no sign of life
    INTERRUPTED = "interrupted"  # Ctrl-C or kill; goes on when run again
    RUNNING = "running"
    PLANNED = "planned"


FAILED = frozenset({Status.CRASHED, Status.OUT_OF_MEMORY, Status.HUNG})


UNFINISHED = frozenset({Status.INTERRUPTED, Status.RUNNING, Status.PLANNED})


@dataclass(frozen=True)
class Measurement:
    """One evaluation of the validation slice.

    Attributes:
      step, examples: how far the training was.
      metrics: of the slice.
      scored: time so far on each clock, with this measurement's eval_variables as the only one scored.
      met: whether the target was met.
    """

    step: int
    examples: int
    metrics: dict[str, float | None]
    scored: Scored
    met: bool


@dataclass(frozen=True)
class Result:
    """`result.json`: how the trial ended.

    Attributes:
      status, reason: see `Status`; the reason is for people.
      steps, examples: done in all.
      time_to_target: scored time on each clock at the first measurement that met the target, or None.
      steps_to_target: steps at that measurement.
      interpolated_steps_to_target: the crossing by linear interpolation between measurements; never used for a score.
      best, last: the target's metric on the slice, over all measurements and at the last.
      validation, test: metrics of the full splits, evaluated once at the end.
      ledger: seconds by span; `wall_s` is their sum.
      train_step_s: training seconds per step, measured in the loop.
      calibration: see `Calibration`.
      cost: by batch size, what one step asks of the model: gradient calls and forward examples, from the trace, and
        products, the operations of its matrix products over those of one gradient.
      flagged: what a reader of the score has to know of the program: a step that computes less than one gradient, say.
      peak_bytes: what the program's largest step takes: arguments, the training arrays among them, outputs and
        temporaries; in older records, and where XLA does not tell, the peak of the device or of the process.
      state_bytes: size of params, opt_state and model_state.
      final_hash: SHA-256 over the bytes of the final state: equal for runs that are the same bit for bit.
      evaluated: SHA-256 over what the full splits were evaluated from (`harness.trial.evaluated`), which lies beside
        the record; None where nothing was, and in older records.
      attempts: processes that worked on it.
      bitwise: whether a resumed or repeated run gives the same bits.
      fingerprint: versions, hardware, flags, hashes, and what the workload chose for the device.
      card: clocks, power, temperature, slow-downs and other processes of the GPU, and warnings; None without one.
    """

    status: Status
    reason: str
    spec_id: str
    steps: int = 0
    examples: int = 0
    time_to_target: Scored | None = None
    steps_to_target: int | None = None
    interpolated_steps_to_target: float | None = None
    best: float | None = None
    last: float | None = None
    validation: dict[str, float | None] | None = None
    test: dict[str, float | None] | None = None
    ledger: dict[str, Reading] = field(default_factory=dict)
    wall_s: float = 0.0
    train_step_s: float | None = None
    calibration: Calibration | None = None
    cost: dict[str, dict[str, float | bool]] = field(default_factory=dict)
    peak_bytes: int | None = None
    state_bytes: dict[str, int] = field(default_factory=dict)
    final_hash: str | None = None
    evaluated: str | None = None
    attempts: int = 1
    bitwise: bool = True
    fingerprint: dict[str, Any] = field(default_factory=dict)
    card: dict[str, Any] | None = None
    flagged: tuple[str, ...] = ()
    schema: int = SCHEMA


def to_result(data: Any, where: str) -> Result:
    """Return the result that a JSON object holds; `where` names its source in messages."""
    data = older.result(data)
    held = data.get("calibration") if isinstance(data, dict) else None
    if isinstance(held, dict):
        data = data | {
            "calibration": held | {name: _by_size(held[name]) for name in ("step_ratio", "steps") if name in held}
        }
    return plain_data.read(Result, data, where, RunFolderError)


def _by_size(held: Any) -> Any:
    """JSON has made batch sizes strings."""
    if not isinstance(held, dict):
        return held
    return {int(size) if str(size).isdecimal() else size: value for size, value in held.items()}


def interpolated_crossing(measurements: list[Measurement], metric: str, target: float) -> float | None:
    """Return the step of the first crossing, linear between the two measurements around it; None without a hit."""
    before: tuple[int, float] | None = None
    for m in measurements:
        value = m.metrics[metric]
        if m.met and value is not None:
            if before is None or before[1] == value:
                return float(m.step)
            return before[0] + (before[1] - target) / (before[1] - value) * (m.step - before[0])
        before = None if value is None else (m.step, value)
    return None
