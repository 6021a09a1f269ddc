"""What XLA, CUDA and NVML read once, before jax is imported: set here and nowhere else, alike for all submissions.

On a GPU XLA times several kernels for each matrix product, convolution and fusion when it compiles, and takes the
fastest: another one each time, with another speed and other bits. So the harness owns one cache of these choices: a
first, untimed process compiles a trial's programs and writes to it (`harness.trial.priming`); the trial only reads it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Literal

from harness.machine import children
from harness.machine.cache import cache_folder

Device = Literal["cpu", "gpu"]
Autotune = Literal["read", "update"]
Sharding = Literal["replicated", "fsdp"]
"""How a trial's state lies on several devices: whole on each, or in parts."""

_OURS = ("--xla_gpu_per_fusion_autotune_cache_dir", "--xla_gpu_experimental_autotune_cache_mode")

EIGEN_CONVOLUTIONS = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
"""Of a CPU under jax 0.10: XLA leaves convolutions to Eigen, and products and sums to YNNPACK as before. YNNPACK takes
every gradient of a kernel, and is slower at it there, not in jax 0.11 (workloads/families/README.md)."""

FAKE_DEVICES = "--xla_force_host_platform_device_count"
"""A CPU is one device, or as many as this says."""

PLATFORMS: dict[Device, str] = {"cpu": "cpu", "gpu": "cuda"}  # as JAX_PLATFORMS calls them


def autotune_cache() -> Path:
    """Return the folder of the autotuner's choices. Their names hold card and versions, so one folder does for all."""
    return cache_folder() / "autotune"


def without_caches(flags: str) -> str:
    """Return XLA's flags without those that say where and how it caches its choices."""
    return " ".join(flag for flag in flags.split() if not flag.startswith(_OURS))


def without_devices(flags: str) -> str:
    """Return XLA's flags without the number of devices that a CPU is made into."""
    return " ".join(flag for flag in flags.split() if not flag.startswith(FAKE_DEVICES))


def environment(
    device: Device, *, deterministic: bool, devices: int = 1, autotune: Autotune = "read", shared: bool = False,
    given: Mapping[str, str] = os.environ,
) -> dict[str, str]:  # fmt: skip
    """Return the variables to set for a process that computes on `device`. The user's own XLA_FLAGS stay, but for those
    that are set here, as they are in what a parent process handed down.

    `devices`: a CPU is made into so many where these are several. `deterministic`: on a GPU, take only operations that
    give the same bits each time, at some cost in speed; a CPU's always do. `shared`: other processes of ours are on the
    same GPU, so jax takes memory as it needs it, and not three quarters of the card at once.
    """
    flags = [flag for flag in without_caches(given.get("XLA_FLAGS", "")).split() if flag != EIGEN_CONVOLUTIONS]
    if device == "cpu" and devices > 1:
        flags = [*without_devices(" ".join(flags)).split(), f"{FAKE_DEVICES}={devices}"]
    if device == "cpu" and metadata.version("jaxlib").startswith("0.10."):
        flags.append(EIGEN_CONVOLUTIONS)
    if device == "gpu":
        autotune_cache().mkdir(parents=True, exist_ok=True)
        flags.append(f"--xla_gpu_per_fusion_autotune_cache_dir={autotune_cache()}")
        flags.append(f"--xla_gpu_experimental_autotune_cache_mode=AUTOTUNE_CACHE_MODE_{autotune.upper()}")
        if deterministic:
            flags.append("--xla_gpu_deterministic_ops=true")
    variables = {
        "JAX_PLATFORMS": PLATFORMS[device],
        "XLA_FLAGS": " ".join(dict.fromkeys(flags)),
        "TF_CPP_MIN_LOG_LEVEL": given.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }
    if device == "gpu":
        variables["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order in which NVML counts, too
        if shared:
            variables["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    return variables


def apply(device: Device, *, deterministic: bool, devices: int = 1, autotune: Autotune = "read") -> dict[str, str]:
    """Set them in this process, and take out what the shell tells jax; return that."""
    told = children.ambient()
    for name in told:
        del os.environ[name]
    os.environ.update(environment(device, deterministic=deterministic, devices=devices, autotune=autotune))
    return told
