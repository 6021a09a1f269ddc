"""What the queue has done on a card, a JSON line a step in results/CARD/queue.jsonl, and what is carried home of it."""

from __future__ import annotations

import io
import json
import os
import secrets
import tarfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.machine import flags
from harness.machine.cache import cache_folder

ROOT = Path(__file__).resolve().parents[2]
CHOICES = "autotune.tar.gz"
Line = dict[str, Any]


def results(place: str) -> Path:
    """Return the folder of a card's records."""
    return ROOT / "results" / place


def runs(place: str) -> Path:
    """Return the folder of a card's run folders and logs."""
    return ROOT / "runs" / place


def read(file: Path) -> list[Line]:
    """Return the lines of a record; one that a kill cut off is passed over."""
    found = []
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def add(file: Path, **line: Any) -> None:
    """Append a line, by one write to the disk."""
    file.parent.mkdir(parents=True, exist_ok=True)
    cut_off = file.exists() and not file.read_bytes().endswith(b"\n") and file.stat().st_size > 0
    with file.open("ab", buffering=0) as out:
        out.write((("\n" if cut_off else "") + json.dumps(line) + "\n").encode())
        os.fsync(out.fileno())


def newest(lines: Iterable[Line], step: str, key: str | None = None, status: str = "done") -> Line | None:
    """Return the newest line of a step that came to `status`, under `key` where one is given."""
    found = [x for x in lines if x["step"] == step and x["status"] == status and key in (None, x["key"])]
    return found[-1] if found else None


def utc() -> str:
    """Return the time as records have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def cache_id() -> str:
    """Return a name of the cache of compiled programs here, which another machine does not have."""
    file = cache_folder() / "id"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(secrets.token_hex(8))
    return file.read_text()


def archive(file: Path, place: str, workloads: Sequence[str]) -> Path:
    """Gather all records of a card in FILE, a .tar.gz of paths from the project's root; it is whole at any time.

    Raises ConfigError where nothing is recorded.
    """
    kept = [path for path in sorted(results(place).rglob("*")) if path.is_file()]
    kept += [path for path in sorted(runs(place).rglob("*")) if path.is_file() and _is_record(path)]
    kept += [path for name in workloads if (path := ROOT / "results/targets" / f"{name}.jsonl").exists()]
    if not kept:
        raise ConfigError(f"nothing is recorded in {results(place)}; python scripts/card.py --minutes 9 records")
    for name in workloads:
        kept += [path for part in ("target.json", "README.md") if (path := ROOT / "workloads" / name / part).exists()]
    file.parent.mkdir(parents=True, exist_ok=True)
    making = file.with_name(f".{file.name}.making")
    with tarfile.open(making, "w:gz") as tar:
        for path in kept:
            tar.add(path, path.relative_to(ROOT))
    making.replace(file)
    return file


def _is_record(path: Path) -> bool:
    return "checkpoints" not in path.parts and (path.suffix in (".json", ".jsonl", ".log", ".gz"))


def keep_choices(place: str) -> None:
    """Put the autotuner's choices beside the records: the next machine with such a card takes the same kernels, and
    need not look for them.
    """
    files = [path for path in sorted(flags.autotune_cache().glob("*")) if path.is_file()]
    if not files:
        return
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for path in files:
            tar.add(path, path.name)
    target = results(place) / CHOICES
    target.parent.mkdir(parents=True, exist_ok=True)
    making = target.with_name(f".{CHOICES}.making")
    making.write_bytes(made.getvalue())
    making.replace(target)


def take_choices(place: str) -> int:
    """Give the autotuner the choices that are recorded, beside its own; return how many."""
    held = results(place) / CHOICES
    if not held.exists():
        return 0
    folder = flags.autotune_cache()
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(held) as tar:
        new = [member for member in tar.getmembers() if member.isfile() and not (folder / member.name).exists()]
        tar.extractall(folder, members=new, filter="data")
    return len(new)
