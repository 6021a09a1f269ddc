"""What `harness.trial.examination` is asked. Needs no jax."""

from __future__ import annotations

from dataclasses import dataclass

from harness.machine.flags import Device
from harness.program.manifest import Way


@dataclass(frozen=True)
class Case:
    """A pair of programs, and the run folders of it whose evaluated variables are evaluated.

    Attributes:
      own, program: folders of the workload's own program and of the submission's.
      workload, variant: whose data they are evaluated on; no folder: none are.
      way: of attention that the trials took.
      folders: run folders that hold `evaluated.npz`.
    """

    own: str
    program: str
    workload: str | None
    variant: str | None
    way: Way
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """What to look at: cases of one device."""

    device: Device
    deterministic: bool
    cases: tuple[Case, ...]
