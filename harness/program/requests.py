"""What exporter and deriver are asked, as JSON files hand it over. Needs no jax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.machine.flags import Device
from harness.record.spec import Value

PLATFORMS: Mapping[Device, str] = {"cpu": "cpu", "gpu": "cuda"}  # as jax.export calls them


@dataclass(frozen=True)
class Job:
    """One program to export, into an empty folder.

    Attributes:
      out: the folder.
      hyperparameters: the submission's point; None for the workload's own program.
      budget_steps, declared_steps: as the submission is told (`harness.api.TaskView`).
    """

    out: str
    hyperparameters: dict[str, Value] | None = None
    budget_steps: int = 0
    declared_steps: int | None = None


@dataclass(frozen=True)
class ExportRequest:
    """All programs of one submission on one workload, or the workload's own.

    Attributes:
      workload, variant: folder of the workload, and which of its variants.
      submission: folder; None for the workload's own program.
      platform: which device the programs are for; it need not be here.
    """

    workload: str
    variant: str | None
    submission: str | None
    platform: Device
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class DeriveRequest:
    """Exported folders to look at.

    Attributes:
      folders: each holds `<function>.mlir` files and the exporter's `declared.json`.
      workload: id of the workload's own program; None where the folders are such programs.
      platform: what they were exported for.
      sources: put into the manifests as it is.
    """

    folders: tuple[str, ...]
    workload: str | None
    platform: Device
    sources: dict[str, Any]
