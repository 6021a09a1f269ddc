"""The store of programs below the cache folder: by content, filled by several processes at once. Needs no jax.

    programs/<id>/manifest.json, <function>.mlir      a program
    programs/index/<key>.json                         which program came of some sources: none is traced twice

A program comes into its place by a rename, whole. A damaged one is noticed when it is read, removed, and made anew.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.machine.cache import cache_folder
from harness.program.manifest import Manifest
from harness.record import plain_data
from harness.record.files import is_abandoned, own_mark, sha256, write_atomic
from harness.record.spec import short_hash

MANIFEST = "manifest.json"
STALE_S = 24 * 3600.0  # after which a folder that is put together belongs to a process of elsewhere that was killed


@dataclass(frozen=True)
class Program:
    """A program as read: its manifest, and the serialised functions by name."""

    manifest: Manifest
    functions: dict[str, bytes]


def root() -> Path:
    """Return the folder of the store."""
    return cache_folder() / "programs"


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield an empty folder on the store's own disk, where a program is put together; it is removed afterwards."""
    root().mkdir(parents=True, exist_ok=True)
    for left in [*root().glob(".new-*"), *root().glob(".damaged-*")]:
        with suppress(OSError):
            if is_abandoned(left.name) or time.time() - left.stat().st_mtime > STALE_S:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=root(), prefix=f".new-{own_mark()}") as folder:
        yield Path(folder)


def add(folder: Path, program_id: str) -> None:
    """Move a finished program to its place; one that is there already, and whole, stays."""
    place = root() / program_id
    for _ in range(2):
        with suppress(OSError):  # another process was first, or what lies there is damaged
            folder.rename(place)
        if read(program_id) is not None:
            return
    raise HarnessError(f"{place} cannot be written; remove it and try again")


def read(program_id: str) -> Program | None:
    """Return a program, checked against the hashes in its manifest; None where there is none.

    A damaged one is removed, and counts as none.
    """
    place = root() / program_id
    try:
        manifest = plain_data.read(Manifest, json.loads((place / MANIFEST).read_text()), str(place / MANIFEST))
        functions = {name: (place / f"{name}.mlir").read_bytes() for name in manifest.functions}
    except FileNotFoundError:
        if place.is_dir():
            _remove(place)
        return None
    except (ValueError, HarnessError):
        _remove(place)
        return None
    whole = all(sha256(functions[name]) == facts.sha256 for name, facts in manifest.functions.items())
    if not whole or manifest.id != program_id:
        _remove(place)
        return None
    return Program(manifest, functions)


def look_up(key: str) -> Program | None:
    """Return the program that came of the sources with this key; None where there is none, or it is damaged."""
    program_id = find(key)
    return None if program_id is None else read(program_id)


def find(key: str) -> str | None:
    """Return the id of the program that came of the sources with this key, where the store has it, whole or not."""
    program_id = recall(key)
    there = isinstance(program_id, str) and "/" not in program_id and (root() / program_id / MANIFEST).is_file()
    return program_id if there else None


def enter(key: str, program_id: str) -> None:
    """Remember which program came of the sources with this key."""
    remember(key, program_id)


def remember(key: str, value: Any) -> None:
    """Keep a JSON value under a key of sources."""
    index = root() / "index"
    index.mkdir(parents=True, exist_ok=True)
    write_atomic(index / f"{key}.json", {"is": value})


def recall(key: str) -> Any:
    """Return what was kept; None where there is nothing, or it is damaged."""
    try:
        return json.loads((root() / "index" / f"{key}.json").read_text())["is"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def key(**parts: Any) -> str:
    """Return the key of what a program is made from: hashes, names, numbers and versions."""
    return short_hash(plain_data.to_plain(parts))


def _remove(place: Path) -> None:
    """Take a damaged program out of the way at once, then delete it."""
    with suppress(OSError), tempfile.TemporaryDirectory(dir=root(), prefix=f".damaged-{own_mark()}") as aside:
        place.rename(Path(aside) / "program")
        shutil.rmtree(aside, ignore_errors=True)
