"""What jax tells of its device, and the options of jax itself. The only module of this room that imports jax."""

from __future__ import annotations

import resource
import sys
from typing import Any

import jax

from harness.errors import MachineError
from harness.machine import hardware
from harness.machine.cache import cache_folder
from harness.machine.flags import Device


def configure_jax(device: Device, *, compile_cache: bool) -> None:
    """Set jax's own options. The compile cache is off where compile time is measured."""

    jax.config.update("jax_enable_compilation_cache", compile_cache)
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if device == "gpu":  # else jax has XLA write an autotune cache of jax's own
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    jax.config.update("jax_numpy_rank_promotion", "allow")


def require(device: Device) -> None:
    """Start the device. Raises MachineError where jax finds none: its plugin is missing, or the card is."""
    try:
        platform = jax.local_devices()[0].platform
        lacking = "" if platform == device else f"it has a {platform.upper()}"
    except (AssertionError, RuntimeError) as error:  # an assertion without a word where its plugin is not installed
        lacking = str(error).strip().partition("\n")[0] or "its plugin for that is not installed"
    if lacking:
        raise MachineError(
            f"device: a {device.upper()} was asked for, but jax finds none here: {lacking}; `harness doctor` tells "
            "what is missing; mend it, then type the same again to go on"
        )


def fingerprint() -> dict[str, Any]:
    """Return package versions, processor, device and flags, as JSON values. Needs jax to be imported for
    the device.
    """
    return hardware.machine() | {"packages": hardware.packages(), "flags": hardware.flags()} | _device()


def peak_bytes() -> int:
    """Peak memory: of the device where it counts it, else of this process."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_memory() -> tuple[int, int]:
    """Return (all, in use) in bytes: of the device as far as jax may take it, else of the machine and this process."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"]), int(stats.get("bytes_in_use", 0))
    return hardware.memory_bytes(), peak_bytes()


def _device() -> dict[str, Any]:
    device = jax.local_devices()[0]
    told = {"platform": device.platform, "device": device.device_kind, "devices": jax.local_device_count()}
    if jax.process_count() > 1:
        told["processes"] = jax.process_count()
    if device.platform == "gpu":
        told["driver"] = hardware.run("nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader")
    return told
