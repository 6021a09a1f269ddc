"""Where a trial stands between two chunks, and how that goes into a checkpoint and comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from harness.api import TrainState
from harness.record import plain_data
from harness.record.readings import Calibration, Reading
from harness.record.spec import TrialSpec
from harness.trial import step_times
from harness.trial.clock import Ledger
from harness.trial.host_state import HostState
from harness.trial.programs import Variables, named, unnamed
from harness.trial.setup import Setup
from harness.trial.timing import Timing
from harness.trial.yardstick import calibrate


@dataclass
class Training:
    """Where a trial stands.

    Attributes:
      state: the arrays, on the device.
      host: what the host keeps beside them.
      timing: what the ledger is worth.
      variables: what was evaluated last, where `state` has not changed since.
    """

    state: TrainState
    host: HostState
    timing: Timing
    variables: Variables | None = None


def begin(setup: Setup) -> Training:
    """Make the first state, and calibrate; where an earlier attempt left a checkpoint, go on from it with its clock."""
    spec, ledger, prepared = setup.spec, setup.ledger, setup.prepared
    with ledger.span("init"):
        state = jax.block_until_ready(prepared.programs.init(setup.inputs))
    contract = prepared.programs.contract
    saved = setup.checkpoints.load(named(contract, state))
    if saved is not None:
        arrays, data = saved
        return take_up(unnamed(contract, arrays), data, spec, ledger)
    if prepared.calibration is None:
        with ledger.span("warmup"):
            known = step_times.cached_baseline_step_s(prepared.home, spec.device)
            prepared.calibration = calibrate(prepared, setup.warmup, platform=spec.device, baseline_step_s=known)
    return Training(state, HostState(batch_size=spec.batch_size), Timing(spec, prepared.calibration))


def take_up(state: TrainState, data: dict[str, Any], spec: TrialSpec, ledger: Ledger) -> Training:
    """Return where the trial stood as a checkpoint holds it; the ledger goes on from its totals."""
    sizes = {int(size): steps for size, steps in data["host"]["steps_by_size"].items()}
    host = plain_data.read(HostState, data["host"] | {"steps_by_size": sizes}, "checkpoint")
    ratios = {int(size): ratio for size, ratio in data["calibration"]["step_ratio"].items()}
    calibration = plain_data.read(Calibration, data["calibration"] | {"step_ratio": ratios}, "checkpoint")
    ledger.restore({name: plain_data.read(Reading, value, "checkpoint") for name, value in data["ledger"].items()})
    return Training(state, host, Timing(spec, calibration))


def save(setup: Setup, training: Training) -> None:
    """Write a checkpoint, off the scored clock. The time it takes itself is lost if the process is killed later."""
    with setup.ledger.span("checkpoint"):
        totals = setup.ledger.totals()
        held = {"host": training.host, "calibration": training.timing.calibration, "ledger": totals}
        arrays = named(setup.programs.contract, training.state)
        setup.checkpoints.save(training.host.step, arrays, plain_data.to_plain(held))
    t = sum(reading.wall_s for reading in totals.values())
    setup.folder.append("checkpoint", durable=True, t=t, step=training.host.step)
