"""What a trial ran on: processor, memory, versions, commit and the environment variables that steer XLA."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.machine import flags as xla_flags

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
_ASIDE = ("JAX_PLATFORMS", "JAX_NUMPY_RANK_PROMOTION", "CUDA_")
"""Variables that make no two runs incomparable: the device says the first, the second changes no number, and those of
CUDA say which card a process has."""


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


def settings() -> dict[str, str | None]:
    """Return what a process computes under beside its sources, which another one must share to get the same bits."""
    held = packages()
    steering = {name: value for name, value in flags().items() if not name.startswith(("CUDA_", "XLA_PYTHON_"))}
    if "XLA_FLAGS" in steering:  # a trial goes on over another number of devices
        steering["XLA_FLAGS"] = xla_flags.without_devices(steering["XLA_FLAGS"])
    return {name: held[name] for name in ("jax", "jaxlib")} | steering


def steering(held: Mapping[str, str]) -> dict[str, str]:
    """Return those of recorded variables (`flags`) that decide numbers or speed, which runs that are compared share.

    Left out are those of one process alone: which card it has, where it keeps what it compiled.
    """
    found = {name: value for name, value in held.items() if not name.startswith(_ASIDE)}
    return found | {"XLA_FLAGS": xla_flags.without_caches(held.get("XLA_FLAGS", ""))}


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the GPUs as CUDA_VISIBLE_DEVICES calls them: those it names, else all that nvidia-smi lists."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader")
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout.split()
    return []


def memory_bytes() -> int:
    """Physical memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def git(submission: Path) -> dict[str, Any] | None:
    """Return the commit that the harness is of, and whether a trial of the submission in this folder is "dirty": files
    of the harness, or of that folder, are not in this commit as they are here. None outside a repository.
    """
    root = str(Path(__file__).resolve().parents[2])
    commit = run("git", "-C", root, "rev-parse", "HEAD")
    if commit is None:
        return None
    dirty = bool(run("git", "-C", root, "status", "--porcelain", "--untracked-files=no"))
    return {"commit": commit, "dirty": dirty or committed(submission) != {"commit": commit, "dirty": False}}


def committed(folder: Path) -> dict[str, Any] | None:
    """Return the commit of the repository that a folder lies in, and whether the folder is dirty: it holds a file that
    is changed, untracked or ignored, bytecode aside, or no file that is tracked. None outside a repository.
    """
    commit = run("git", "-C", str(folder), "rev-parse", "HEAD")
    if commit is None:
        return None
    tracked = run("git", "-C", str(folder), "ls-files", "--", ".")
    state = run("git", "-C", str(folder), "status", "--porcelain", "--untracked-files=all", "--ignored", "--", ".")
    odd = [line for line in (state or "").splitlines() if not line.rstrip("/").endswith(("__pycache__", ".pyc"))]
    return {"commit": commit, "dirty": not tracked or state is None or bool(odd)}


def run(*command: str) -> str | None:
    """Return what a command prints, stripped; None where it fails or does not end within 10 s."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def gpu_names() -> str:
    """Return the names of this machine's GPUs; "gpu" where they cannot be told."""
    command = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "gpu"
    return ", ".join(sorted(set(done.stdout.strip().splitlines())))
