"""What exporter and deriver are asked, as JSON files hand it over. Needs no jax."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import SubmissionError
from harness.machine.flags import Device
from harness.program.manifest import Way
from harness.record.spec import Value

Ends = tuple[float, float]
"""The least and the largest value of a dimension of a search space."""

PLATFORMS: Mapping[Device, str] = {"cpu": "cpu", "gpu": "cuda"}  # as jax.export calls them

DECLARED = "declared.json"  # beside the functions: what the exporter says of them


@dataclass(frozen=True)
class Job:
    """One program to export, into an empty folder.

    Attributes:
      out: the folder.
      workload, variant: folder of the workload, and which of its variants.
      platform: which device the program is for; it need not be here.
      hyperparameters: the submission's point; None for the workload's own program.
      budget_steps, declared_steps: as the submission is told (`harness.api.TaskView`).
      ends: the dimensions that may be arguments of the program (`harness.program.arguments`).
      arguments: those that are, where it is known; None: the exporter finds out.
      way: of attention, where the workload has several on this platform (`harness.program.manifest`).
    """

    out: str
    workload: str
    variant: str | None
    platform: Device
    hyperparameters: dict[str, Value] | None = None
    budget_steps: int = 0
    declared_steps: int | None = None
    ends: dict[str, Ends] = field(default_factory=dict)
    arguments: tuple[str, ...] | None = None
    way: Way = "xla"


@dataclass(frozen=True)
class ExportRequest:
    """Programs of one submission, or workloads' own.

    Attributes:
      submission: folder; None for workloads' own programs.
    """

    submission: str | None
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class DeriveRequest:
    """An exported folder to look at.

    Attributes:
      folder: holds `<function>.mlir` files and the exporter's `declared.json`.
      workload: id of the workload's own program; None where the folder is such a program.
      platform: what it was exported for.
      sources: put into the manifest as it is.
    """

    folder: str
    workload: str | None
    platform: Device
    sources: dict[str, Any]


def read_declared(folder: Path) -> dict[str, Any]:
    """Return what the exporter says of a folder. Raises SubmissionError where that is no JSON object."""
    file = folder / DECLARED
    try:
        declared = json.loads(file.read_bytes()) if file.is_file() else None
    except (ValueError, RecursionError) as error:
        raise SubmissionError(f"its {DECLARED} is no JSON: {str(error)[:200]}") from None
    if not isinstance(declared, dict) or not isinstance(declared.get("arguments", []), list):
        raise SubmissionError(f"its {DECLARED} is no JSON object, or its arguments are no list")
    return declared
