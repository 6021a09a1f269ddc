"""How long a trial will take: a guess from earlier ones of its kind, or from the recorded runs of the baseline."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path

from harness.errors import RunFolderError
from harness.machine.flags import Device
from harness.program.workload import WorkloadInfo
from harness.record import run_folder
from harness.record.result import FAILED, UNFINISHED, Status
from harness.record.spec import TrialSpec

OVERHEAD_S: dict[Device, float] = {"cpu": 8.0, "gpu": 60.0}  # starting, compiling, evaluating: a first guess

Alike = tuple[str, str | None, Device, int, str, int | None, int | None]


def alike(spec: TrialSpec) -> Alike:
    """Return what trials share that take about the same time."""
    return spec.workload, spec.variant, spec.device, spec.devices, spec.stop, spec.max_steps, spec.steps


def earlier_wall_s(root: Path) -> dict[Alike, list[float]]:
    """Return how long the finished trials below `root` took; folders that cannot be read do not count."""
    found: dict[Alike, list[float]] = {}
    for path in run_folder.find_trials(root):
        try:
            spec, _ = run_folder.read_spec(path)
            result = json.loads((path / "result.json").read_text())
            status, wall_s = Status(result["status"]), float(result["wall_s"])
        except (OSError, ValueError, KeyError, TypeError, RunFolderError):
            continue
        if status not in FAILED | UNFINISHED and wall_s > 0:
            found.setdefault(alike(spec), []).append(wall_s)
    return found


def _guess(spec: TrialSpec, info: WorkloadInfo) -> float | None:
    """Return seconds from the recorded runs of the baseline; they were of one machine, which may be another."""
    steps = spec.horizon if spec.stop == "horizon" else info.target.steps_to_target
    if spec.max_steps is not None:
        steps = min(steps or spec.max_steps, spec.max_steps)
    if not steps or not info.target.reference_step_s:
        return None
    step_s = info.target.reference_step_s * spec.batch_size / info.batch_size  # a variant's batch may be larger
    return steps * step_s + OVERHEAD_S[spec.device]


def expected_s(spec: TrialSpec, info: WorkloadInfo, earlier: Mapping[Alike, list[float]]) -> float | None:
    """Return the seconds a trial will take; None where nothing is known."""
    found = earlier.get(alike(spec))
    return statistics.median(found) if found else _guess(spec, info)
