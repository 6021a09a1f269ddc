"""What the card tells of itself through NVML: energy, clocks, power, temperature, why it is slowed down, who else is
on it. Without NVML or its Python package (nvidia-ml-py) there is nothing to tell, and nothing fails.
"""

from __future__ import annotations

import functools
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SLOWED: Mapping[int, str] = {
    0x08: "hardware slowdown",
    0x20: "too hot, by the driver",
    0x40: "too hot, by the hardware",
    0x80: "power brake",
}
"""Reasons for lower clocks that spoil a timing (nvmlClocksEventReasons of nvml.h)."""
CAPPED: Mapping[int, str] = {0x04: "power limit"}
"""Recorded, and no reason to warn: a card at full load is held at its power limit."""


@dataclass(frozen=True)
class Look:
    """The card at one moment: clock in MHz, power in W, temperature in degrees Celsius."""

    sm_clock_mhz: int
    power_w: float
    temperature_c: int
    reasons: tuple[str, ...]
    other_processes: int


class Card:
    """One GPU as NVML sees it. `nvml` is the module pynvml."""

    def __init__(self, nvml: Any, visible: str):
        """Open the first card of CUDA_VISIBLE_DEVICES (`visible`; empty for all cards)."""
        self._nvml = nvml
        nvml.nvmlInit()
        first = visible.split(",")[0].strip()
        if first.startswith(("GPU-", "MIG-")):
            self._handle = nvml.nvmlDeviceGetHandleByUUID(first)
        else:
            self._handle = nvml.nvmlDeviceGetHandleByIndex(int(first or 0))

    def energy_j(self) -> float:
        """Return the joules the card has taken since its driver was loaded."""
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1000.0)

    def look(self) -> Look:
        """Return how the card is doing; a few calls of some tens of microseconds each."""
        nvml, handle = self._nvml, self._handle
        bits = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        pids = [process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)]
        own = int(os.getpid() in pids or bool(pids))  # within a container our number is another one outside
        return Look(
            sm_clock_mhz=nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            power_w=nvml.nvmlDeviceGetPowerUsage(handle) / 1000.0,
            temperature_c=nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            reasons=tuple(name for bit, name in {**CAPPED, **SLOWED}.items() if bits & bit),
            other_processes=len(pids) - own,
        )

    def describe(self) -> dict[str, Any]:
        """Return what does not change: name, driver, largest clock in MHz, power limit in W."""
        nvml, handle = self._nvml, self._handle
        return {
            "name": _text(nvml.nvmlDeviceGetName(handle)),
            "driver": _text(nvml.nvmlSystemGetDriverVersion()),
            "max_sm_clock_mhz": nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
            "power_limit_w": nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000.0,
        }


@functools.cache
def card() -> Card | None:
    """Return this process's card; None, with a word on standard error, where NVML does not tell of it."""
    try:
        import pynvml
    except ImportError:
        print("energy, clocks and temperature are not recorded: nvidia-ml-py is not installed", file=sys.stderr)
        return None
    try:
        opened = Card(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        opened.energy_j()
        opened.look()
    except (pynvml.NVMLError, ValueError) as error:
        print(f"energy, clocks and temperature are not recorded: {error}", file=sys.stderr)
        return None
    return opened


class Watch:
    """Looks at the card now and then during a trial; does nothing without one."""

    def __init__(self, card: Card | None):
        self._card = card
        self._looks: list[Look] = []

    def look(self) -> None:
        """Look, best while the card is at work."""
        if self._card is not None:
            self._looks.append(self._card.look())

    def summary(self) -> dict[str, Any] | None:
        """Return what was seen, for the record; None without a card."""
        if self._card is None or not self._looks:
            return None
        seen = self._card.describe() | {"looks": len(self._looks)}
        for name in ("sm_clock_mhz", "power_w", "temperature_c"):
            values = [getattr(look, name) for look in self._looks]
            seen[name] = {"min": min(values), "median": statistics.median(values), "max": max(values)}
        reasons = sorted({reason for look in self._looks for reason in look.reasons})
        seen["slowed"] = {r: sum(r in look.reasons for look in self._looks) / len(self._looks) for r in reasons}
        seen["other_processes"] = max(look.other_processes for look in self._looks)
        return seen | {"warnings": warnings(self._looks)}


def warnings(looks: Sequence[Look]) -> list[str]:
    """Return what makes the times of a trial doubtful."""
    found = []
    for reason in SLOWED.values():
        if times := sum(reason in look.reasons for look in looks):
            found.append(
                f"the card was slowed down ({reason}) in {times} of {len(looks)} looks; its times are doubtful"
            )
    if others := max((look.other_processes for look in looks), default=0):
        found.append(f"{others} other process(es) ran on the card; its times are doubtful")
    return found


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def energy_counter(device: str) -> Callable[[], float | None]:
    """Return a function that reads the device's total energy counter in joules; it returns None where there is none."""
    found = card() if device == "gpu" else None
    return (lambda: None) if found is None else found.energy_j
