"""What `harness curvature` measured of a trial, in a file beside its record: no part of the result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from harness.errors import RunFolderError, beneath
from harness.record import plain_data
from harness.record.files import write_atomic

FILE = "curvature.json"


@dataclass(frozen=True)
class Curvature:
    """`curvature.json`: the largest eigenvalue of the Hessian of the training loss at what a trial evaluated.

    Attributes:
      lambda_max: it, by Lanczos.
      error: the norm of the residual: an eigenvalue lies within so much of it.
      batches, batch_size: over which the loss is a mean.
      products: with the Hessian that were asked for.
      evaluated: SHA-256 of the variables, as in the result.
      workload_hash: of the workload's sources whose loss it is.
      device, jax: what computed it.
    """

    lambda_max: float
    error: float
    batches: int
    batch_size: int
    products: int
    evaluated: str
    workload_hash: str
    device: str
    jax: str
    schema: int = 1


def read(folder: Path) -> Curvature | None:
    """Return what a run folder holds; None where it holds none. Raises RunFolderError for a damaged file."""
    file = folder / FILE
    try:
        return plain_data.read(Curvature, json.loads(file.read_bytes()), str(file), RunFolderError)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RunFolderError) as error:
        raise beneath(error) or RunFolderError(
            f"{file} cannot be read ({error}); remove it, and it is measured again"
        ) from None


def write(folder: Path, found: Curvature) -> None:
    """Write it beside a record, whole or not at all. Raises OSError."""
    write_atomic(folder / FILE, plain_data.to_plain(found))
