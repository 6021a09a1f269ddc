"""What people see of a pack that is made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.record import plain_data
from harness.record.pack import PROGRAMS, SUFFIX, About
from harness.report.tables import print_line


def check_name(file: Path) -> None:
    """Raise ConfigError where a pack is to have a name by which it would not be found."""
    if not file.name.endswith(SUFFIX) or file.name == SUFFIX:
        raise ConfigError(f"-o {file}: expected a name that ends in {SUFFIX}, as packs are called")


def say(text: str) -> None:
    """Tell what takes a while."""
    print(text, file=sys.stderr, flush=True)


def as_json(file: Path, about: About) -> dict[str, Any]:
    """Return what `harness publish --json` and `harness merge --json` print: the pack's manifest, but for its files."""
    known = plain_data.to_plain(about)
    del known["files"]
    return {"path": str(file), "bytes": file.stat().st_size, **_counts(about), **known}


def _counts(about: About) -> dict[str, int]:
    return {
        "trials": sum(name.endswith("/spec.json") for name in about.files),
        "programs": sum(name.startswith(f"{PROGRAMS}/") and name.endswith("/manifest.json") for name in about.files),
    }


def print_about(file: Path, about: About) -> None:
    """Print what a pack holds."""
    counts = _counts(about)
    machine = ", ".join(f"{value} cores" if name == "cores" else str(value) for name, value in about.machine.items())
    held = " and ".join(f"{n} {what}{'s' * (n != 1)}" for what in ("trial", "program") for n in [counts[f"{what}s"]])
    print_line(f"{file}: {held}, {file.stat().st_size / 1024:.0f} KiB", style="bold")
    jax = about.loads_with.get("jax")
    print_line(
        f"ran on {machine}, by {', '.join(about.rules)}; its programs load under jax {jax}, and newer for six months"
    )
    for one in about.submissions:
        if one.git is None:
            told = "in no repository"
        else:
            told = f"at commit {one.git['commit'][:10]}" + (
                ", which does not hold it as it is" if one.git["dirty"] else ""
            )
        print_line(f"{one.name}: sources {one.source_hash}, {told}")
    print_line(f"content {about.content}")
