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
    kept = {name: value for name, value in os.environ.items() if not _tells_jax(name)}
    return kept | {"PYTHONPATH": python_path()}


def ambient() -> dict[str, str]:
    """Return the settings of jax that the shell holds, but for one that changes no number; the harness sets jax's
    options itself.
    """
    found = {name: value for name, value in os.environ.items() if _tells_jax(name)}
    return {name: value for name, value in found.items() if name != "JAX_NUMPY_RANK_PROMOTION"}


def _tells_jax(name: str) -> bool:
    return name.startswith("JAX_") and name != "JAX_PLATFORMS"
