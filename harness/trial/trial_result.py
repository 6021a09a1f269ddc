"""The record of a trial's end, put together from what the loop holds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import jax

from harness.api import TrainState
from harness.machine import backend
from harness.record.result import Result, Status, interpolated_crossing
from harness.record.spec import TrialSpec
from harness.trial.clock import Ledger
from harness.trial.host_state import HostState
from harness.trial.hosts import on_host
from harness.trial.timing import Timing


def sizes(state: TrainState) -> dict[str, int]:
    """Return the bytes of each part of the state."""
    parts = ("params", "opt_state", "model_state")
    return {name: sum(leaf.nbytes for leaf in jax.tree.leaves(getattr(state, name))) for name in parts}


def state_hash(state: TrainState) -> str:
    """Return the SHA-256 over the bytes of all arrays of the state, in tree order."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        digest.update(on_host(leaf).tobytes())
    return digest.hexdigest()


def make_result(
    spec: TrialSpec, status: Status, reason: str, host: HostState, timing: Timing, ledger: Ledger, *,
    state: TrainState, cost: Mapping[str, dict[str, float | bool]], full: Mapping[str, dict[str, float | None]],
    attempt: int, fingerprint: dict[str, Any], card: dict[str, Any] | None = None, memory_bytes: int | None = None,
    flagged: tuple[str, ...] = (), evaluated: str | None = None,
) -> Result:  # fmt: skip
    """Put together the record of the end."""
    values = [m.metrics[spec.metric] for m in host.measurements]
    hit = next((m for m in host.measurements if m.met), None)
    totals = ledger.totals()
    crossing = None if spec.target is None else interpolated_crossing(host.measurements, spec.metric, spec.target)
    best = min if spec.mode == "min" else max
    return Result(
        status=status,
        reason=reason,
        spec_id=spec.id,
        steps=host.step,
        examples=host.examples,
        time_to_target=hit.scored if hit else None,
        steps_to_target=hit.step if hit else None,
        interpolated_steps_to_target=crossing,
        best=best((v for v in values if v is not None), default=None),
        last=values[-1] if values else None,
        validation=full.get("validation"),
        test=full.get("test"),
        ledger={str(span): reading for span, reading in totals.items()},
        wall_s=sum(reading.wall_s for reading in totals.values()),
        train_step_s=totals["train"].wall_s / host.step if host.step else None,
        calibration=timing.calibration(),
        cost=dict(cost),
        peak_bytes=memory_bytes or backend.peak_bytes(),
        state_bytes=sizes(state),
        final_hash=state_hash(state),
        evaluated=evaluated,
        attempts=attempt,
        bitwise=spec.device == "cpu" or spec.deterministic or attempt == 1,
        fingerprint=fingerprint,
        card=card,
        flagged=flagged,
    )
