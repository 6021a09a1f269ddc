"""Files that are cut short or have a bit turned over, of a campaign that was interrupted or is finished."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from faults import judges
from faults.desk import Desk
from faults.strikes import Strike, Struck, kill

from harness.errors import RunFolderError
from harness.record import run_folder


def hurt(file: Path, draw: random.Random) -> str:
    """Cut a file short or turn a bit of it over; return which."""
    data = bytearray(file.read_bytes())
    if not data or draw.random() < 0.5:
        end = draw.randrange(len(data)) if data else 0
        file.write_bytes(data[:end])
        return f"{file.name} cut to {end} of {len(data)} bytes"
    bit = draw.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)
    return f"bit {bit} of {file.name} turned over"


def between(files: Callable[[Path], Iterable[Path]]) -> Strike:
    """Return what interrupts the campaign once it has saved, and damages a file of a run folder."""

    def strike(desk: Desk, draw: random.Random) -> Struck | None:
        struck = kill("parent", "worker", moments=("saving",))(desk, draw)
        if struck is None:
            return None
        there = [file for path in unfinished(desk) for file in sorted(files(path)) if file.is_file()]
        if not there:
            return None
        return Struck(hurt(draw.choice(there), draw), struck.problems)

    return strike


def unfinished(desk: Desk) -> list[Path]:
    """Return the run folders that can go on."""
    return [path for path in desk.trials() if not (path / "result.json").exists()]


def program(desk: Desk, draw: random.Random) -> Struck | None:
    """Damage a program in the store, before the first attempt or between two."""
    store = desk.take_store(cold=False)
    struck = kill("worker", moments=("train", "saving"))(desk, draw) if draw.random() < 0.5 else Struck("", ())
    ids = {name for one in desk.references().values() for name in (one.spec.program, one.spec.workload_program)}
    files = [file for name in sorted(map(str, ids)) for file in sorted((store / name).glob("*"))]
    return struck and Struck(hurt(draw.choice(files), draw), struck.problems)


def record(desk: Desk, draw: random.Random) -> Struck | None:
    """Damage what a finished campaign leaves. `harness verify` is to find it, where reading alone does not."""
    typed = desk.type()
    if typed.end() != 0:
        return None
    name = draw.choice(("result.json", "log.jsonl", "spec.json", "evaluated.npz"))
    path = draw.choice(desk.trials())
    before = run_folder.read_spec(path)[0]
    what = hurt(path / name, draw)
    problems = list(judges.strays())
    if not found(desk, path) and not (name == "spec.json" and run_folder.read_spec(path)[0] == before):
        problems.append(f"{what}: neither reading nor `harness verify` finds it")
    shutil.rmtree(path)  # as the messages say
    return Struck(what, problems)


def found(desk: Desk, path: Path) -> bool:
    """Whether damage of a record is noticed: where it is read, or by `harness verify`."""
    try:
        trial = run_folder.read_trial(path)
    except RunFolderError:
        return True
    if judges.unbalanced(trial, None):
        return True
    command = [sys.executable, "-m", "harness.cli", "verify", str(path)]
    return subprocess.run(command, cwd=desk.folder, env=desk.shell(), capture_output=True, check=False).returncode != 0


KINDS: tuple[tuple[str, Strike], ...] = (
    ("damaged checkpoint", between(lambda path: (path / "checkpoints").rglob("*"))),
    ("damaged log", between(lambda path: [path / "log.jsonl"])),
    ("damaged spec", between(lambda path: [path / "spec.json"])),
    ("damaged program", program),
    ("damaged record", record),
)
