"""Faults of the machine: full disks, folders that are read-only, memory, descriptors, the clock, vanished data."""

from __future__ import annotations

import os
import random
import resource
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from faults.desk import Desk, Home
from faults.forms import ROOT, Form
from faults.strikes import Strike, Struck, kill, looked, missed, moment

from harness.record.result import Status

DISK_MIB = 48
GROUPS = Path("/sys/fs/cgroup/memory")

CLOCK = """
import os, time

_now, _now_ns, _behind = time.time, time.time_ns, os.environ.get("SOAK_CLOCK_BEHIND", "")


def _steps_back():
    try:
        return float(open(_behind).read())
    except (OSError, ValueError):
        return 0.0


time.time = lambda: _now() - _steps_back()
time.time_ns = lambda: _now_ns() - int(1e9 * _steps_back())
"""
"""The wall clock of every Python that finds this as `sitecustomize`: once a file is there, so many seconds behind."""


def full_disk(at: str) -> Strike:
    """Return what fills the disk of the output folder at a moment, and frees it once the command has ended."""

    def strike(desk: Desk, draw: random.Random) -> Struck | None:
        desk.mount(desk.out, DISK_MIB)
        if draw.random() < 0.3:
            desk.words = tuple(word for word in desk.words if word != "tensorboard=false")
        when, delay_s = moment(draw, at)
        typed = desk.type()
        if not typed.reaches(when, delay_s):
            return missed(typed)
        leave = draw.choice((0, 0, 512, 4096, 40_000))
        fill(desk.out, leave)
        struck = looked(typed, [1], f"disk full but for {leave} bytes, {delay_s:.2f} s after {when}", said="space")
        (desk.out / "filler").unlink()
        return struck

    return strike


def fill(place: Path, leave: int) -> None:
    """Fill a disk but for so many bytes."""
    with (place / "filler").open("wb", buffering=0) as filler:
        with suppress(OSError):
            while filler.write(bytes(65536)):
                pass
        with suppress(OSError):
            filler.write(bytes(4096))
        filler.truncate(max(0, filler.tell() - leave))


def full_store(desk: Desk, draw: random.Random) -> Struck | None:
    """Fill the disk of the program store while a program is made."""
    store = desk.take_store(cold=True)
    desk.mount(store, DISK_MIB)
    when, delay_s = moment(draw, "planning", "export")
    typed = desk.type()
    if not typed.reaches(when, delay_s):
        return missed(typed)
    fill(store, draw.choice((0, 0, 4096, 20_000)))
    struck = looked(typed, [1, 2], f"store full {delay_s:.2f} s after {when}", said="space")
    (store / "filler").unlink()
    return struck


def read_only(desk: Desk, draw: random.Random) -> Struck | None:
    """Make the output folder or the store one that cannot be written, between two attempts."""
    place = desk.out if draw.random() < 0.5 else desk.take_store(cold=True)
    desk.mount(place, DISK_MIB)
    struck = kill("worker", moments=("train", "saving"))(desk, draw) if draw.random() < 0.5 else Struck("", ())
    if struck is None:
        return None
    if place != desk.out:
        desk.take_store(cold=True)
    desk.remount(place, "ro")
    typed = desk.type()
    again = looked(typed, [1, 2], f"{place.name} read-only", said=str(place))
    desk.remount(place, "rw")
    return Struck(again.what, [*struck.problems, *again.problems])


def descriptors(desk: Desk, draw: random.Random) -> Struck | None:
    """Leave a process no more descriptors than it has, or a few."""
    role = draw.choice(("worker", "parent"))
    when, delay_s = moment(draw, "worker", "train", "saving")
    typed = desk.type()
    if not typed.reaches(when, delay_s) or (pid := typed.find(role)) is None:
        return missed(typed)
    more = draw.choice((0, 0, 1, 3))
    with suppress(OSError):
        there = 1 + max(int(file) for file in os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - names alone
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (there + more, there + more))
    return looked(typed, [1], f"no descriptors for the {role} {delay_s:.2f} s after {when}")


def address_space(desk: Desk, draw: random.Random) -> Struck | None:
    """Set a limit on the worker's address space, at what it has or a little more."""
    when, delay_s = moment(draw, "worker", "worker", "train")
    typed = desk.type()
    if not typed.reaches(when, delay_s) or (pid := typed.find("worker")) is None:
        return missed(typed)
    with suppress(OSError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + draw.choice((0, 2**20, 2**25))
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
    what = f"no more address space {delay_s:.2f} s after {when}"
    return looked(typed, [1], what, Status.OUT_OF_MEMORY, then=("retry=true",))


def memory_group(desk: Desk, draw: random.Random) -> Struck | None:
    """Lower the memory limit of a control group that the command runs in, so that the kernel kills in it."""
    group = GROUPS / f"soak-{os.getpid()}-{desk.folder.name}"
    group.mkdir()
    try:
        when, delay_s = moment(draw, "worker")
        typed = desk.type()
        (group / "cgroup.procs").write_text(str(typed.process.pid))
        if not typed.reaches(when, delay_s):
            return missed(typed)
        with suppress(OSError):
            used = int((group / "memory.usage_in_bytes").read_text())
            (group / "memory.limit_in_bytes").write_text(str(used + draw.choice((2, 8, 32)) * 2**20))
        what = f"memory limit {delay_s:.2f} s after {when}"
        struck = looked(typed, [1, -9], what, Status.OUT_OF_MEMORY, then=("retry=true",))
        return None if "oom_kill 0\n" in (group / "memory.oom_control").read_text() else struck
    finally:
        for _ in range(100):
            with suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.05)


def clock(desk: Desk, draw: random.Random) -> Struck | None:
    """Have the wall clock step back, by minutes or years, and interrupt the campaign some time after."""
    shim, behind = desk.folder / "shim", desk.folder / "behind"
    shim.mkdir(exist_ok=True)
    (shim / "sitecustomize.py").write_text(CLOCK)
    desk.environment |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{shim}", "SOAK_CLOCK_BEHIND": str(behind)}
    seconds = draw.choice((90.0, 3600.0, 3e8))

    when, delay_s = moment(draw)
    typed = desk.type()
    if not typed.reaches(when, delay_s):
        return missed(typed)
    behind.write_text(str(seconds))
    if draw.random() < 0.5:
        pid = typed.find(draw.choice(("worker", "parent")))
        with suppress(ProcessLookupError):
            os.kill(pid or typed.process.pid, 9)
    return looked(typed, [1, -9], f"the clock {seconds:g} s back, {delay_s:.2f} s after {when}")


def data_vanish(desk: Desk, draw: random.Random) -> Struck | None:
    """Have the data folder vanish, before the first attempt or between two."""
    place = desk.folder / "data"
    shutil.copytree(desk.home.folder / "data", place, dirs_exist_ok=True)
    desk.environment |= {"HARNESS_DATA": str(place)}
    struck = (
        kill("worker", "parent", moments=("train", "saving"))(desk, draw) if draw.random() < 0.5 else Struck("", ())
    )
    if struck is None:
        return None
    place.rename(desk.folder / "aside")
    again = looked(desk.type(), [3], "the data folder gone", said="cannot be read")
    (desk.folder / "aside").rename(place)
    return Struck(again.what, [*struck.problems, *again.problems])


def no_mount(home: Home) -> str:
    """Return why no disk can be mounted."""
    return home.mounts


def no_group(home: Home) -> str:
    """Return why there are no control groups of memory."""
    return (
        "" if (GROUPS / "memory.oom_control").exists() and os.access(GROUPS, os.W_OK) else "no control group to write"
    )


def every(form: Form) -> bool:
    """Whether a form can have it: each can."""
    return True


KINDS: tuple[tuple[str, Strike, Callable[[Form], bool], Callable[[Home], str]], ...] = (
    ("full disk: checkpoint", full_disk("saving"), every, no_mount),
    ("full disk: log", full_disk("train"), every, no_mount),
    ("full disk: result", full_disk("end"), every, no_mount),
    ("full disk: store", full_store, every, no_mount),
    ("read-only folder", read_only, every, no_mount),
    ("descriptors run out", descriptors, every, lambda home: ""),
    ("address space", address_space, every, lambda home: ""),
    ("memory limit", memory_group, every, no_group),
    ("clock steps back", clock, every, lambda home: ""),
    ("data folder vanishes", data_vanish, lambda form: form.data, lambda home: ""),
)
