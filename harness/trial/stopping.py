"""Why a trial ends: a pure function of how far it is, so that the order of the reasons can be read and tested."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import MachineError
from harness.record.result import Status
from harness.record.spec import TrialSpec
from harness.trial.host_state import HostState

SAFETY = 10  # a trial is stopped at so many times its budget in wall seconds, whatever the ranking clock says
LEAST_SAFETY_S = 10.0  # and not before: a stall of the machine is longer than the whole budget of a toy


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, the host's or the device's; a full disk is another thing."""
    if isinstance(error, MachineError | OSError):
        return False
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in ("RESOURCE_EXHAUSTED", "Out of memory"))


@dataclass(frozen=True)
class Ending:
    """How a trial ends; the reason is for people."""

    status: Status
    reason: str


@dataclass(frozen=True)
class Spent:
    """What a trial has spent when a chunk is done.

    Attributes:
      budget_s, of_s: seconds that count against the budget, on its clock, and the budget.
      train_wall_s, safety_s: wall seconds of training, and where these end a trial on any clock.
      hopeless_s: the ranking time of another trial of the study that this one can no longer better; None where it can.
    """

    budget_s: float
    of_s: float
    train_wall_s: float
    safety_s: float
    hopeless_s: float | None = None


def stop_reason(spec: TrialSpec, host: HostState, spent: Spent, *, interrupted: bool) -> Ending | None:
    """Return why the trial ends after this chunk, the first reason that holds; None where it goes on. The budget of a
    smoke test is its steps.
    """
    if spec.stop == "target" and host.measurements and host.measurements[-1].met:
        return Ending(Status.TARGET_REACHED, f"{spec.metric} met {spec.target} at step {host.step}")
    if spec.max_steps is not None and host.step >= spec.max_steps:
        return Ending(Status.HORIZON_REACHED, f"max_steps={spec.max_steps} done")
    if spec.stop == "horizon" and host.examples >= spec.horizon * spec.batch_size:
        return Ending(Status.HORIZON_REACHED, f"all {spec.horizon} steps of the horizon done")
    if spec.stop == "target" and spec.max_steps is None and spent.budget_s >= spent.of_s:
        return Ending(Status.BUDGET_EXHAUSTED, f"{spent.budget_s:.4g} s of {spent.of_s:.4g} s spent")
    if spec.stop == "target" and spent.hopeless_s is not None:
        rival = f"another trial of its study reached the target in {spent.hopeless_s:.4g} on the {spec.clock} clock"
        return Ending(Status.HOPELESS, rival)
    if spent.train_wall_s >= spent.safety_s:
        return Ending(Status.BUDGET_EXHAUSTED, f"safety stop: {SAFETY} times the budget in wall time")
    if interrupted:
        return Ending(Status.INTERRUPTED, f"saved at step {host.step}; run again to go on")
    return None
