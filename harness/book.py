"""What the host keeps of a trial beside its arrays: how far it is, what is due next, and what its time is worth.

A `Book` is saved with each checkpoint; all here is a pure function of it, the spec and the ledger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import numpy as np

from harness import hardware
from harness.api import TrainState
from harness.clock import Calibration, Ledger, Reading, Scored, scored
from harness.loss import StepCost
from harness.programs import MAX_CHUNK_STEPS
from harness.records import Measurement, Result, Status, interpolated_crossing
from harness.spec import TrialSpec
from harness.workload import CPU_GRID, Grid, next_measurement


@dataclass
class Book:
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


@dataclass(frozen=True)
class Timing:
    """What turns a ledger into scored seconds for this trial."""

    spec: TrialSpec
    calibration: Calibration

    def scored(self, ledger: Ledger, book: Book, eval_variables: Reading, calls: int) -> Scored:
        """Scored time so far, with these eval_variables calls charged."""
        return scored(
            ledger.totals(),
            eval_variables,
            steps=book.steps_by_size,
            eval_variables_calls=calls,
            calibration=self.calibration,
            reference_step_s=self.reference_step_s,
            compile_cap_s=self.spec.compile_cap_s if self.spec.score_compile else None,
        )

    def spent(self, ledger: Ledger, book: Book) -> Scored:
        """What counts against the budget: all eval_variables calls."""
        return self.scored(ledger, book, ledger.totals()["eval_variables"], book.eval_variables_calls)

    def past(self, limit: float | None, ledger: Ledger, book: Book) -> bool:
        """Whether no later measurement can be within `limit` on the ranking clock: what is scored only grows."""
        now = getattr(self.scored(ledger, book, ledger.zero, 0), self.spec.clock)
        return limit is not None and now is not None and now > limit

    @property
    def reference_step_s(self) -> float:
        """The unit of the steps clock; this machine's own where no target has been recorded yet."""
        return self.spec.reference_step_s or self.calibration.baseline_step_s

    @property
    def budget(self) -> float:
        """The budget in the ranking clock, in seconds (wall seconds where energy ranks)."""
        unit = {"steps": self.reference_step_s, "cpu": self.calibration.baseline_step_cpu_s}
        return self.spec.budget_steps * unit.get(self.spec.clock, self.calibration.baseline_step_s)

    @property
    def budget_clock(self) -> str:
        """The clock the budget is held in."""
        return "wall" if self.spec.clock == "energy" else self.spec.clock


def next_measured(spec: TrialSpec, book: Book, grid: Grid = CPU_GRID) -> int:
    """Return the examples at which the next measurement is due: the grid is in examples, whatever the batch size."""
    done = book.measurements[-1].examples // spec.batch_size if book.measurements else 0
    return next_measurement(spec.horizon, done, grid) * spec.batch_size


def chunk_dispatches(spec: TrialSpec, book: Book, dispatch_steps: int, grid: Grid = CPU_GRID) -> int:
    """Return how many calls of the step program the next chunk takes: up to the next measurement or control at most."""
    control = (book.examples * 25 // (spec.horizon * spec.batch_size) + 1) * spec.horizon * spec.batch_size // 25
    examples = min(next_measured(spec, book, grid), control) - book.examples
    steps = min(-(-examples // book.batch_size), MAX_CHUNK_STEPS)
    if spec.max_steps is not None:
        steps = min(steps, spec.max_steps - book.step)
    return max(1, -(-steps // dispatch_steps))


def count(book: Book, series: Mapping[str, np.ndarray]) -> None:
    """Enter a chunk's steps and metrics."""
    steps = len(series["loss"])
    book.step += steps
    book.examples += steps * book.batch_size
    book.steps_by_size[book.batch_size] = book.steps_by_size.get(book.batch_size, 0) + steps
    for name, values in series.items():
        book.metric_sums[name] = book.metric_sums.get(name, 0.0) + float(values.sum(dtype=np.float64))
    book.metric_steps += steps


def sizes(state: TrainState) -> dict[str, int]:
    """Return the bytes of each part of the state."""
    parts = ("params", "opt_state", "model_state")
    return {name: sum(leaf.nbytes for leaf in jax.tree.leaves(getattr(state, name))) for name in parts}


def state_hash(state: TrainState) -> str:
    """Return the SHA-256 over the bytes of all arrays of the state, in tree order."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def make_result(
    spec: TrialSpec, status: Status, reason: str, book: Book, timing: Timing, ledger: Ledger, *,
    state: TrainState, cost: Mapping[int, StepCost], full: Mapping[str, dict[str, float | None]],
    attempt: int, fingerprint: dict[str, Any], card: dict[str, Any] | None = None,
) -> Result:  # fmt: skip
    """Put together the record of the end."""
    values = [m.metrics[spec.metric] for m in book.measurements]
    hit = next((m for m in book.measurements if m.met), None)
    totals = ledger.totals()
    crossing = None if spec.target is None else interpolated_crossing(book.measurements, spec.metric, spec.target)
    best = min if spec.mode == "min" else max
    return Result(
        status=status,
        reason=reason,
        spec_id=spec.id,
        steps=book.step,
        examples=book.examples,
        time_to_target=hit.scored if hit else None,
        steps_to_target=hit.step if hit else None,
        interpolated_steps_to_target=crossing,
        best=best((v for v in values if v is not None), default=None),
        last=values[-1] if values else None,
        validation=full.get("validation"),
        test=full.get("test"),
        ledger={str(span): reading for span, reading in totals.items()},
        wall_s=sum(reading.wall_s for reading in totals.values()),
        train_step_s=totals["train"].wall_s / book.step if book.step else None,
        calibration=timing.calibration,
        cost={str(size): asdict(one) for size, one in cost.items()},
        peak_bytes=hardware.peak_bytes(),
        state_bytes=sizes(state),
        final_hash=state_hash(state),
        attempts=attempt,
        bitwise=spec.device == "cpu" or spec.deterministic or attempt == 1,
        fingerprint=fingerprint,
        card=card,
    )
