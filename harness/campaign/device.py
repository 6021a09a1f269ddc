"""Which device trials run on, and what a GPU run lacks. Needs no jax."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from harness.errors import ConfigError
from harness.machine.flags import Device
from harness.record.spec import DeviceConfig

_CUDA_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")


def resolve_device(
    config: DeviceConfig,
    *,
    importable: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None,
    visible: Callable[[], bool] = lambda: bool(shutil.which("nvidia-smi") or any(Path("/dev").glob("nvidia[0-9]*"))),
) -> Device:
    """Return where to run. Does not import jax. Raises ConfigError saying what a GPU run lacks."""
    if config.platform == "cpu":
        return "cpu"
    platforms = os.environ.get("JAX_PLATFORMS", "")
    lacking = None
    if not any(map(importable, _CUDA_PLUGINS)):
        lacking = (
            "jax's CUDA plugin is not installed; in the checkout: pip install -e '.[gpu]', or scripts/run device=gpu"
        )
    elif os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        lacking = "CUDA_VISIBLE_DEVICES hides every GPU; unset it"
    elif platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        lacking = f"JAX_PLATFORMS={platforms} leaves it out; unset it"
    elif not visible():
        lacking = "no NVIDIA GPU is visible: there is neither nvidia-smi nor /dev/nvidia0"
    if lacking is None:
        return "gpu"
    if config.platform == "gpu":
        raise ConfigError(f"device: a GPU was asked for, but {lacking}; `harness run ... device=cpu` does without")
    return "cpu"
