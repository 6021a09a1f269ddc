"""How busy others keep the processors that this process may run on. Linux alone tells it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from harness.machine.hardware import usable_cores

SAMPLE_S = 0.15  # 15 ticks of the kernel's clock a core
LEAST = 0.25  # cores; less is the noise of so short a look
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_STAT = Path("/proc/stat")
_IDLE = (3, 4)  # of a core's fields: idle, and waiting for a disk; from the ninth on they are part of the first two
_FIELDS = 8


def others(sample_s: float = SAMPLE_S) -> float | None:
    """Return how many of the usable cores other processes, and other machines on the same hardware, use right now; None
    where the system does not tell. It takes `sample_s` seconds.
    """
    if (before := _used_s()) is None:
        return None
    own, began = time.process_time(), time.monotonic()
    time.sleep(sample_s)
    seconds, after = time.monotonic() - began, _used_s()
    if after is None:
        return None
    return max(0.0, (after - before - (time.process_time() - own)) / seconds)


def warning(used: float | None) -> str | None:
    """Return a line on the cores that others use, where that is enough to change what is timed; None where not."""
    cores = usable_cores()
    if used is None or used < max(LEAST, 0.05 * cores):
        return None
    return (
        f"{told(used)}: calibrated seconds allow for most of that, and those of one trial may be off by 10% and more; "
        "wall and cpu seconds do not; for times to publish, end what else runs here first"
    )


def told(used: float) -> str:
    """Return in words how many of the usable cores others use."""
    cores = usable_cores()
    return f"others use {min(used, cores):.1f} of {cores} cores now"


def _used_s() -> float | None:
    """Return the seconds that the usable cores have worked since the machine started."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(usable_cores()))
    try:
        lines = [line.split() for line in _STAT.read_text().splitlines() if line.startswith("cpu")]
        ticks = [[int(field) for field in fields] for name, *fields in lines if name[3:] and int(name[3:]) in usable]
    except (OSError, ValueError):
        return None
    used = sum(number for core in ticks for n, number in enumerate(core[:_FIELDS]) if n not in _IDLE)
    return used * _TICK_S if ticks else None
