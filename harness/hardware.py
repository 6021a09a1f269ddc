"""What a trial ran on: versions, processor, flags; memory and energy where the machine tells."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import nvml

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "hydra-core",
    "tensorboard",
    "training-harness",
)

ALLOCATOR = {
    "arena_max": 1,  # one heap for all threads; one of a thread's own ends at 64 MB, and larger blocks get a mapping
    "mmap_max": 0,  # no block gets a mapping of its own, which would go back to the kernel as soon as it is freed
    "trim_threshold": 1 << 40,  # and the heap is not given back
    "hugetlb": 1,  # pages of 2 MB where the kernel has them
}
"""glibc's `malloc` told to keep what it has; the names are those of its tunables `glibc.malloc.*`.

XLA allocates a step's temporary memory anew each time it runs. With glibc's defaults each such block is mapped, filled
with zeros 4 KB at a time and unmapped again: 29,000 page faults in each step of `lm_shakespeare`.
`scripts/bench_allocator.py` measures what this saves.
"""


def fingerprint() -> dict[str, Any]:
    """Return git commit, package versions, processor, device and flags, as JSON values. Needs jax to be imported for
    the device.
    """
    return machine() | {"git": _git(), "packages": packages(), "flags": flags()} | _device()


def machine() -> dict[str, Any]:
    """Return the processor, its number of usable cores, memory and the operating system; cheap, without jax."""
    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "memory_bytes": memory_bytes(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def packages() -> dict[str, str | None]:
    """Return the installed version of each package that may change a result; None where it is missing."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def flags() -> dict[str, str]:
    """Return the environment variables that steer XLA, threads and memory."""
    names = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "OMP_NUM_THREADS", "HARNESS_ATTENTION", "GLIBC_TUNABLES")
    kinds = ("JAX_", "CUDA_", "XLA_PYTHON_CLIENT_")
    return {k: v for k, v in sorted(os.environ.items()) if k in names or k.startswith(kinds)}


def keep_memory() -> None:
    """Start this program again with `ALLOCATOR` in its environment, which glibc reads at the start of a process.

    Every program that trains calls it first: what it has imported by then is imported twice. Nothing happens where it
    is done already, where the user has chosen settings of glibc (`GLIBC_TUNABLES`), and under another C library.
    """
    if "GLIBC_TUNABLES" in os.environ or not _glibc():
        return
    tunables = ":".join(f"glibc.malloc.{name}={value}" for name, value in ALLOCATOR.items())
    os.execve(sys.executable, sys.orig_argv, os.environ | {"GLIBC_TUNABLES": tunables})


def _glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):
        return False


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_bytes() -> int:
    """Peak memory: of the device where it counts it, else of this process."""
    import jax

    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_memory() -> tuple[int, int]:
    """Return (all, in use) in bytes: of the device as far as jax may take it, else of the machine and this process."""
    import jax

    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"]), int(stats.get("bytes_in_use", 0))
    return memory_bytes(), peak_bytes()


def energy_counter(device: str) -> Callable[[], float | None]:
    """Return a function that reads the device's total energy counter in joules; it returns None where there is none."""
    card = nvml.card() if device == "gpu" else None
    return (lambda: None) if card is None else card.energy_j


def _device() -> dict[str, Any]:
    import jax

    device = jax.local_devices()[0]
    told = {"platform": device.platform, "device": device.device_kind, "devices": jax.local_device_count()}
    if device.platform == "gpu":
        told["driver"] = _run("nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader")
    return told


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _git() -> dict[str, Any] | None:
    root = str(Path(__file__).resolve().parent.parent)
    commit = _run("git", "-C", root, "rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "dirty": bool(_run("git", "-C", root, "status", "--porcelain", "--untracked-files=no"))}


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
