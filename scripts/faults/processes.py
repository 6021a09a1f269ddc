"""Processes below this one, as /proc tells: which there are, what each does, and that none is left."""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
ROLES = {
    "harness.cli": "parent",
    "harness.trial.worker": "worker",
    "harness.trial.sweep": "searcher",
    "harness.program.export": "exporter",
    "harness.program.derive": "deriver",
    "harness.program.control": "controller",
}
"""What a process is called here, by the module of the harness that it runs."""


def adopt_orphans() -> None:
    """Have what a killed process leaves behind become a child of this one, so that it can be found."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def below(pid: int, states: str = "RSDTtI") -> list[int]:
    """Return the processes below one, without those that have ended, but for some threads of theirs."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError, IndexError, ValueError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state in states:
                    children.setdefault(int(parent), []).append(int(folder.name))
    found, waiting = [], [pid]
    while waiting:
        new = children.get(waiting.pop(), [])
        found += new
        waiting += new
    return sorted(found)


def role(pid: int) -> str:
    """Return what a process of the harness is, of `ROLES`; else its command line."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "gone"
    known = [ROLES[word] for word in words if word in ROLES]
    return known[-1] if known else " ".join(words).strip() or "nothing"


def named(pid: int, wanted: str) -> int | None:
    """Return the first process below one that has a role, or is that one itself."""
    return next((each for each in [pid, *below(pid)] if role(each) == wanted), None)


def left(patience_s: float) -> list[int]:
    """Return the processes below this one that do not end by themselves, after waiting for them; reap the others. One
    whose first thread has ended may hold its files for a while longer.
    """
    deadline = time.monotonic() + patience_s
    while True:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        found = below(os.getpid(), "RSDTtIZ")
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)
