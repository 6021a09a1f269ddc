"""What a curvature process (`harness.trial.curvature`) is asked, and what it answers. Needs no jax."""

from __future__ import annotations

from dataclasses import dataclass

from harness.machine.flags import Device


@dataclass(frozen=True)
class Case:
    """A workload's folder, which of its variants, and run folders on it that hold what was evaluated."""

    workload: str
    variant: str | None
    folders: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes:
      batches: of the workload's own size, the same for every run on it.
      products: of the Hessian with a vector, for each run.
    """

    device: Device
    batches: int
    products: int
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Answer:
    """What came of a run folder.

    Attributes:
      evaluated: SHA-256 of what the eigenvalue is of, as in the result.
      batch_size: examples of a batch.
      lambda_max, error: the largest eigenvalue, and the norm of its residual; None where they are not finite.
      problem: why there is none; the rest is empty then.
    """

    folder: str
    evaluated: str = ""
    batch_size: int = 0
    lambda_max: float | None = None
    error: float | None = None
    problem: str = ""
