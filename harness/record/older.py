"""Records that older versions of the harness wrote, as this one names their parts.

Calibrated seconds were called the `steps` clock, and came of the median of single steps.
"""

from __future__ import annotations

from typing import Any


def spec(data: Any) -> Any:
    """Return a trial's spec under today's names."""
    return data | {"clock": "calibrated"} if isinstance(data, dict) and data.get("clock") == "steps" else data


def result(data: Any) -> Any:
    """Return a result under today's names."""
    if not isinstance(data, dict):
        return data
    return data | {"time_to_target": _clocks(data["time_to_target"])} if "time_to_target" in data else data


def event(data: dict[str, Any]) -> dict[str, Any]:
    """Return an event of a log under today's names."""
    renamed = {name: _clocks(data[name]) for name in ("scored", "spent") if name in data}
    return data | renamed | ({"clock": "calibrated"} if data.get("clock") == "steps" else {})


def _clocks(times: Any) -> Any:
    if not isinstance(times, dict) or "steps" not in times:
        return times
    return {("calibrated" if name == "steps" else name): value for name, value in times.items()}
