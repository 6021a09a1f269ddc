"""The folder for what is kept between runs: prepared data, programs, compiled programs, the autotuner's choices."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return where things are kept between runs: HARNESS_CACHE, else training-harness in the user's cache folder."""
    if own := os.environ.get("HARNESS_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "training-harness"
