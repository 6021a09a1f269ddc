"""How the harness starts processes of its own: from where this package lies, whatever the folder and the shell."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def command(module: str, *words: str) -> list[str]:
    """Return what runs a module of the harness. The working folder is not on its path: a `queue.py` or an `optax/`
    there is not what is installed.
    """
    return [sys.executable, "-P", "-m", module, *words]


def python_path() -> str:
    """Return the path on which this package is found, from wherever it is, and whatever is on the path already."""
    listed = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return os.pathsep.join([str(Path(__file__).resolve().parents[2]), *(str(Path(path).absolute()) for path in listed)])


def environment() -> dict[str, str]:
    """Return the environment of a process that imports jax: without what the shell tells jax, since that changes data,
    initial parameters and bits.
    """
    told = ambient()
    return {name: value for name, value in os.environ.items() if name not in told} | {"PYTHONPATH": python_path()}


def ambient() -> dict[str, str]:
    """Return the settings of jax that the shell holds; the harness sets jax's options itself."""
    return {name: value for name, value in os.environ.items() if name.startswith("JAX_") and name != "JAX_PLATFORMS"}
