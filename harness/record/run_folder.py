"""The run folder of a trial: spec.json, log.jsonl, result.json. The log is the only truth; the rest are views of it.

`log.jsonl` is append-only, one JSON object a line, each with `v` (schema version), `event`, and last `crc32`, the sum
over the line without it; those that say how far the trial is have `t`, the charged seconds so far. A process may be
killed at any byte: a broken last line is passed over, and what a resumed attempt does again supersedes what the killed
one had logged past its last checkpoint.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HeldError, RunFolderError, beneath
from harness.record import older, plain_data, search_record
from harness.record.files import sha256, write_atomic, write_text_atomic
from harness.record.result import UNFINISHED, Measurement, Result, Status, to_result
from harness.record.search_record import SearchRecord
from harness.record.spec import EXPECTED, SCHEMA, SOURCES, Options, TrialSpec


@dataclass(frozen=True)
class Trial:
    """A run folder as read: the spec, the events that count, the result where there is one, and the search that lies
    beside it where fresh seeds count.
    """

    path: Path
    spec: TrialSpec
    status: Status
    reason: str
    events: list[dict[str, Any]]
    result: Result | None
    search: SearchRecord | None = None

    @property
    def measurements(self) -> list[Measurement]:
        """All measurements, in order."""
        keys = Measurement.__dataclass_fields__
        return [
            plain_data.read(Measurement, {k: e[k] for k in keys}, f"{self.path}/log.jsonl", RunFolderError)
            for e in self.events
            if e["event"] == "measurement"
        ]

    @property
    def hit(self) -> Measurement | None:
        """The first measurement that met the target."""
        return next((m for m in self.measurements if m.met), None)


class RunFolder:
    """A run folder open for writing, held by this process alone."""

    def __init__(self, path: Path):
        self.path = path
        self._log = (path / "log.jsonl").open("ab")
        if self._log.tell() and (path / "log.jsonl").read_bytes()[-1:] != b"\n":
            self._log.write(b"\n")  # close the line that a killed process left open; the reader passes over it

    def append(self, event: str, *, durable: bool = False, **fields: Any) -> None:
        """Append one event to the log; `durable` waits until it is on the disk. Raises OSError where it cannot; what
        is there of the line is passed over by readers.
        """
        line = {"v": SCHEMA, "event": event} | {k: plain_data.to_plain(v) for k, v in fields.items()}
        try:
            self._log.write(to_line(line))
            self._log.flush()
            if durable:
                os.fsync(self._log.fileno())
        except OSError as error:
            error.filename = self._log.name  # a write that fails tells none
            raise

    def write_result(self, result: Result) -> None:
        """Log the end and write `result.json` in one piece."""
        text = json.dumps(plain_data.to_plain(result), indent=1)
        told = {"status": result.status, "reason": result.reason, "result_sha256": sha256(text.encode())}
        self.append("end", durable=True, **told)
        write_text_atomic(self.path / "result.json", text)

    def ended(self) -> Status | None:
        """Return how the trial ended, where `result.json` says that it did; None where it can go on or begin. Raises
        OSError where that cannot be told.
        """
        try:
            status = Status(json.loads((self.path / "result.json").read_text())["status"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return None if status in UNFINISHED else status

    def close(self) -> None:
        """Close the log."""
        with suppress(OSError):  # a line that the disk had no room for, of which `append` has told
            self._log.close()

    @property
    def checkpoints(self) -> Path:
        """Where this trial's checkpoints lie."""
        return self.path / "checkpoints"


def prepare(root: Path, spec: TrialSpec, options: Options) -> Path:
    """Create the run folder of `spec` below `root` or take up the one that is there; return its path.

    Raises RunFolderError where the folder holds another spec: the first field that differs is named.
    """
    path = root / spec.folder
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be created ({error.strerror}); choose another place with out=DIR"
        ) from None
    if (path / "spec.json").exists():
        held = plain_data.to_plain(read_spec(path)[0])
        for name, value in plain_data.to_plain(spec).items():
            if held[name] != value and name not in EXPECTED + SOURCES:
                raise RunFolderError(
                    f"{path} holds another spec: {name} is {held[name]!r} there and {value!r} here; "
                    "move that folder away or choose another with out=DIR"
                )
    write_atomic(
        path / "spec.json", {"id": spec.id, "spec": plain_data.to_plain(spec), "options": plain_data.to_plain(options)}
    )
    return path


def read_spec(path: Path) -> tuple[TrialSpec, Options]:
    """Read `spec.json`."""
    where = str(path / "spec.json")
    try:
        data = json.loads((path / "spec.json").read_text())
        spec, options = data["spec"], data["options"]
    except FileNotFoundError:
        raise RunFolderError(f"{path} is no run folder: it has no spec.json") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise beneath(error) or RunFolderError(
            f"{where} cannot be read ({error}); remove the folder {path} to run the trial anew"
        ) from None
    try:
        return plain_data.read(TrialSpec, older.spec(spec), where, RunFolderError), plain_data.read(
            Options, options, where, RunFolderError
        )
    except RunFolderError as error:
        raise RunFolderError(
            f"{error}; a newer version wrote it, or it is damaged: remove the folder {path} to run the trial anew"
        ) from None


@contextmanager
def hold(path: Path) -> Iterator[RunFolder]:
    """Open a run folder for writing; HeldError names the holder where another process has it.

    The lock goes with the process, however it ends.
    """
    with (path / "lock").open("a+") as lock:
        for patience in reversed(range(20)):  # `holder` takes the lock for a moment when it asks
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if patience:
                    time.sleep(0.01)
                    continue
                lock.seek(0)
                raise HeldError(
                    f"{path} is held by {lock.read().strip() or 'another process'}; wait for it or stop it"
                ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        lock.flush()
        folder = RunFolder(path)
        try:
            yield folder
        finally:
            folder.close()


def ask_again(path: Path) -> None:
    """Note that a trial was asked for now: of several with the same study and trial number the last one asked for
    counts. A folder that cannot be written stays as it is.
    """
    with suppress(OSError):
        os.utime(path / "spec.json")


def holder(path: Path) -> str | None:
    """Return who holds the run folder, or None."""
    try:
        with (path / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read().strip() or "another process"
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):  # there is none of this user's
        pass
    return None


def read_events(path: Path) -> list[dict[str, Any]]:
    """Read the events of `log.jsonl` that count: superseded and broken ones are left out.

    Raises RunFolderError for a line that is broken though whole lines of the same attempt follow it.
    """
    events: list[dict[str, Any]] = []
    broken: int | None = None
    try:
        lines = (path / "log.jsonl").read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise beneath(error) or RunFolderError(
            f"{path}/log.jsonl cannot be read ({error.strerror}); remove the folder {path}"
        ) from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = from_line(line)
            kind = event["event"]
        except (ValueError, KeyError, TypeError):
            broken = broken or number
            continue
        if broken is not None and kind not in ("start", "end"):
            raise RunFolderError(
                f"{path}/log.jsonl: line {broken} is damaged; remove the folder {path} to run the trial anew"
            )
        broken = None
        if event.get("v") != SCHEMA:
            raise RunFolderError(
                f"{path}/log.jsonl: line {number} has schema {event.get('v')}, this harness reads {SCHEMA}"
            )
        if kind == "attempt":
            events = [e for e in events if _before(e, event["resume_step"])]
        events.append(older.event(event))
    return events


def to_line(event: dict[str, Any]) -> bytes:
    """Return an event as a line of the log."""
    text = json.dumps(event).encode()
    return text[:-1] + _SUM + str(zlib.crc32(text)).encode() + b"}\n"


def from_line(line: bytes) -> dict[str, Any]:
    """Return the event of a line. Raises ValueError where it is damaged; older logs have no sums."""
    event: dict[str, Any] = json.loads(line)
    text, mark, _ = line.rpartition(_SUM)
    if mark and event.pop("crc32") != zlib.crc32(text + b"}"):
        raise ValueError("the sum is another one")
    return event


_SUM = b', "crc32": '


def _before(event: dict[str, Any], resume_step: int) -> bool:
    # A checkpoint is written after the measurement of its step and before the control call that follows it.
    step = event.get("step", 0)
    return event["event"] != "end" and bool(step < resume_step or (step == resume_step and event["event"] != "control"))


def read_trial(path: Path) -> Trial:
    """Read a run folder, whatever state it is in."""
    spec, _ = read_spec(path)
    events = read_events(path)
    result = read_result(path / "result.json") if (path / "result.json").exists() else None
    if holder(path):
        status, reason = Status.RUNNING, ""
    elif result is not None:
        status, reason = result.status, result.reason
    elif events:
        stopped = events[-1] if events[-1]["event"] == "stopped" else None  # by its data or the machine
        status, reason = Status.INTERRUPTED, stopped["why"] if stopped else "killed; run again to go on"
    else:
        status, reason = Status.PLANNED, ""
    fresh = spec.counts == "fresh_seeds" and not spec.tuning and spec.max_steps is None
    search = search_record.read(search_record.file_of(path.parent)) if fresh else None
    return Trial(path, spec, status, reason, events, result, search)


def read_result(file: Path) -> Result:
    """Read `result.json`. Raises RunFolderError where it is damaged."""
    try:
        return to_result(json.loads(file.read_text()), str(file))
    except (OSError, ValueError) as error:
        raise beneath(error) or RunFolderError(
            f"{file} cannot be read ({error}); remove the folder {file.parent} to run the trial anew"
        ) from None


def find_trials(root: Path) -> list[Path]:
    """Return the run folders at or below `root`, sorted; those that `retry=true` has moved aside only where `root` is
    one itself.
    """
    found = sorted(p.parent for p in root.rglob("spec.json"))
    return [p for p in found if p == root or not re.search(r"\.failed-\d+$", p.name)]
