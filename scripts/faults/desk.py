"""Where a campaign runs and is disturbed: its folders, the command as it is typed, and when a fault is to strike."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from faults import processes
from faults.forms import ROOT, Form

from harness.record import run_folder
from harness.record.run_folder import Trial

PATIENCE_S = 240.0
"""So long a command may take before it counts as one that does not end."""

MOMENTS = {
    "planning": 1.0,
    "export": 2.0,
    "worker": 2.0,
    "control": 0.5,
    "search": 2.0,
    "train": 0.5,
    "saving": 0.3,
    "end": 0.3,
}
"""From when on a fault may strike, and within how many seconds of it."""
_LOGGED = {"train": b'"event": "chunk"', "saving": b'"event": "checkpoint"', "end": b'"event": "decided"'}
_RUNS = {"export": "exporter", "worker": "worker", "control": "controller", "search": "searcher"}


@dataclass
class Home:
    """What all rounds share: a store and a compile cache that are filled, and what undisturbed campaigns come to.

    Attributes:
      folder: below which all lies; on a disk of its own kind where there is one in memory.
      mounts: whether this process may mount; why not otherwise.
    """

    folder: Path
    mounts: str = ""

    @property
    def cache(self) -> Path:
        """The harness's cache folder."""
        return self.folder / "cache"

    def reference(self, form: Form) -> Path:
        """Where the undisturbed campaign of a form lies."""
        return self.folder / "references" / form.name


class Typed:
    """`harness run` as typed, in a process group of its own as a shell would have it."""

    def __init__(self, desk: Desk, words: tuple[str, ...], out: Path, environment: dict[str, str]):
        self.desk, self.out = desk, out
        self._sizes = {log: log.stat().st_size for log in out.glob("*/*/*/log.jsonl")}
        self._said = desk.folder / f"said-{len(desk.typed)}.txt"
        command = [sys.executable, "-m", "harness.cli", "run", *words, f"out={out}"]
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                command, cwd=desk.folder, env=environment, stdin=subprocess.DEVNULL, stdout=said,
                stderr=subprocess.STDOUT, process_group=0,
            )  # fmt: skip

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self._said.read_text(errors="replace")

    def find(self, role: str) -> int | None:
        """Return its process of a role."""
        return processes.named(self.process.pid, role)

    def reaches(self, moment: str, delay_s: float, patience_s: float = PATIENCE_S) -> bool:
        """Wait for a moment and some seconds more; False where the command ends before."""
        if not self.waits(lambda: self._is(moment), patience_s):
            return False
        return not self.waits(lambda: False, delay_s) and self.process.poll() is None

    def waits(self, condition: Callable[[], object], seconds: float) -> bool:
        """Wait for a condition; False where the command ends before, or the time is over."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(0.02)
        return False

    def end(self) -> int | None:
        """Return its exit code once it has ended; None where it does not, and is killed."""
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            for pid in [self.process.pid, *processes.below(self.process.pid)]:
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)
            self.process.wait()
            return None

    def _is(self, moment: str) -> bool:
        if moment in _RUNS:
            return self.find(_RUNS[moment]) is not None
        return moment == "planning" or any(_LOGGED[moment] in text for text in self._new())

    def _new(self) -> list[bytes]:
        found = []
        for log in self.out.glob("*/*/*/log.jsonl"):
            with suppress(OSError):
                found.append(log.read_bytes()[self._sizes.get(log, 0) :])
        return found


@dataclass
class Desk:
    """A round's own folder, with the campaign in it.

    Attributes:
      out: the output folder.
      own_cache: the round's own store, where it has one.
      environment: what is added to the commands'.
      words: what is added to what is typed, as long as the round lasts.
    """

    home: Home
    form: Form
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ("checkpoint_s=0.01", "tensorboard=false")
    typed: list[Typed] = field(default_factory=list)
    outs: list[Path] = field(default_factory=list)
    own_cache: Path | None = None
    mounted: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "tmp").mkdir(parents=True)
        self.outs.append(self.folder / "runs")

    @property
    def out(self) -> Path:
        """The output folder."""
        return self.outs[0]

    @property
    def cache(self) -> Path:
        """The cache folder in use."""
        return self.own_cache or self.home.cache

    def type(self, *more: str, out: Path | None = None) -> Typed:
        """Type the command, with further words."""
        words = (*self.form.words, *self.words, *more)
        self.typed.append(Typed(self, words, out or self.out, self.shell()))
        return self.typed[-1]

    def shell(self) -> dict[str, str]:
        """Return the environment of what is typed."""
        base = os.environ | {
            "PYTHONPATH": str(ROOT), "HARNESS_PATH": str(self.home.folder), "HARNESS_CACHE": str(self.cache),
            "HARNESS_DATA": str(self.home.folder / "data"), "TMPDIR": str(self.folder / "tmp"), "JAX_PLATFORMS": "cpu",
        }  # fmt: skip
        return base | self.environment

    def trials(self) -> list[Path]:
        """Return all run folders, but those that `retry=true` moved aside."""
        return [path for out in self.outs for path in run_folder.find_trials(out)]

    def references(self) -> dict[str, Trial]:
        """Return the undisturbed trials by the names of their folders."""
        root = self.home.reference(self.form)
        return {str(p.relative_to(root)): run_folder.read_trial(p) for p in run_folder.find_trials(root)}

    def take_store(self, *, cold: bool) -> Path:
        """Give the round a store of its own; a cold one lacks the submissions' programs. Return its folder."""
        if self.own_cache is None:
            self.own_cache = self.folder / "cache"
            self.own_cache.mkdir()
            (self.own_cache / "xla").symlink_to(self.home.cache / "xla")
            shutil.copytree(self.home.cache / "programs", self.own_cache / "programs")
        store = self.own_cache / "programs"
        if cold:
            for trial in self.references().values():
                if (place := store / str(trial.spec.program)).exists():
                    shutil.rmtree(place)
        return store

    def clear(self) -> None:
        """Take away what the campaign came to."""
        for path in [path for out in self.outs if out.exists() for path in out.iterdir()]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def mount(self, place: Path, mib: int) -> None:
        """Put a disk of its own, in memory, in place of a folder; what is there goes onto it."""
        place.mkdir(parents=True, exist_ok=True)
        aside = self.folder / "aside"
        shutil.copytree(place, aside, symlinks=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "soak", str(place)], check=True)
        self.mounted.append(place)
        shutil.copytree(aside, place, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(aside)

    def remount(self, place: Path, how: str) -> None:
        """Make a mounted disk `ro` or `rw`."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True)

    def close(self, *, keep: bool) -> None:
        """Take the disks away, and the folder unless it is to be kept."""
        for place in reversed(self.mounted):
            if keep:
                shutil.copytree(place, self.folder / f"kept-{place.name}", symlinks=True)
            subprocess.run(["umount", "-l", str(place)], check=False)
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


def told_to_remove(said: str) -> list[Path]:
    """Return the folders that the harness says to remove."""
    found = re.findall(r"remove the folder (\S+) to run|(\S+) holds another spec: .*; move that folder away", said)
    return [Path(one or other) for one, other in found]
