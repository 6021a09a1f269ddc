"""The baseline's seconds per step on this machine, as `harness doctor --calibrate` measured it. Needs no jax.

Kept in `calibration.json` of the cache folder, by machine (processor, device, jax) and by workload source, so that a
figure of another machine, another jax or another model is never used.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from harness.machine import hardware
from harness.machine.cache import cache_folder
from harness.program import discovery
from harness.record.files import write_atomic
from harness.record.spec import short_hash


def cached_baseline_step_s(folder: discovery.Folder, device: str) -> float | None:
    """Return the baseline's seconds per step on this machine's "cpu" or "gpu"; None where it was not measured."""
    held = _read()["machines"].get(machine_key(device), {}).get("workloads", {}).get(_workload_key(folder), {})
    seconds = held.get("baseline_step_s") if isinstance(held, dict) else None
    return seconds if _is_time(seconds) else None


def store_baseline_step_s(folder: discovery.Folder, device: str, seconds: float) -> None:
    """Keep a measured figure. What was kept for the same workload's other sources on this machine stays."""
    if not _is_time(seconds):
        raise ValueError(f"expected seconds per step above 0, got {seconds!r}")
    kept = _read()
    machine = kept["machines"].setdefault(machine_key(device), {"machine": _identity(device), "workloads": {}})
    machine["workloads"][_workload_key(folder)] = {"baseline_step_s": seconds}
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, kept)


def machine_key(device: str) -> str:
    """Return a short hash of what a step's time depends on: machine, device, and the versions of jax and jaxlib."""
    return short_hash(_identity(device))


def _identity(device: str) -> dict[str, Any]:
    versions = hardware.packages()
    return hardware.machine() | {
        "device": hardware.gpu_names() if device == "gpu" else device,
        "jax": versions["jax"],
        "jaxlib": versions["jaxlib"],
    }


def _workload_key(folder: discovery.Folder) -> str:
    return f"{folder.name}@{folder.source_hash}"


def _path() -> Path:
    return cache_folder() / "calibration.json"


def _read() -> dict[str, Any]:
    """Return what is kept; an unreadable file counts as empty, since all in it can be measured again."""
    try:
        kept = json.loads(_path().read_text())
    except (OSError, ValueError):
        kept = {}
    if not isinstance(kept, dict) or not isinstance(kept.get("machines"), dict):
        return {"schema": 1, "machines": {}}
    return kept


def _is_time(seconds: object) -> bool:
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    return number and math.isfinite(seconds) and seconds > 0  # type: ignore[arg-type, operator]
