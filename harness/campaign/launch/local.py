"""One trial as a subprocess on this machine: started, followed through its log, and judged if it leaves no result.

On a CPU each trial that is scored has a process of its own, since a compiled program is some 5% faster in one than in
another. Smoke tests take turns in one process while their program is the same (`Worker`), which compiles it once; so do
trials on a GPU, where the autotuner's choices are the same in every process.

The worker lives in a session of its own and holds one end of a pipe: Ctrl-C reaches this process alone, which passes it
on, and the worker ends when this process does, however that happens.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.campaign.plan import PlannedTrial, make_ready
from harness.errors import DataError, HarnessError, HeldError, MachineError
from harness.machine import children
from harness.program.child import STOPPED_BY_OTHERS
from harness.record import run_folder
from harness.record.result import UNFINISHED, Result, Status
from harness.record.run_folder import Trial
from harness.record.spec import TrialSpec
from harness.trial import EXIT_DATA, EXIT_HELD, EXIT_MACHINE, EXIT_UNUSABLE

Event = dict[str, Any]


class Worker:
    """A worker process that is kept for the next trial of its program."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._key: tuple[object, ...] | None = None
        self._reports: int | None = None

    def start(
        self, command: Sequence[str], spec: TrialSpec, path: Path, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Hand the run folder to the process that has the trial's program, or start one; return it."""
        key = (
            (spec.workload_program, spec.program, spec.device, spec.deterministic, spec.devices)
            if keeps(spec)
            else None
        )
        kept = self._process
        if kept is not None and kept.poll() is None and key is not None and key == self._key:
            with contextlib.suppress(BrokenPipeError):
                assert kept.stdin is not None
                kept.stdin.write(f"{path}\n".encode())
                kept.stdin.flush()
                return kept
        self.close()
        words = [*command, str(path), "--started", repr(time.monotonic())]
        reports: tuple[int, ...] = ()
        if key is not None:
            self._reports, end = os.pipe()
            os.set_blocking(self._reports, False)
            reports, words = (end,), [*words, "--more", str(end)]
        with (path / "worker.log").open("ab") as log:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": children.python_path()} | dict(environment),
                start_new_session=True,
                pass_fds=reports,
            )
        for end in reports:
            os.close(end)
        self._key = key
        return self._process

    def code(self) -> int | None:
        """Return how it is done with the trial: its answer, or the exit code of the process; None while it works."""
        assert self._process is not None
        exited = self._process.poll()  # asked first: what it said last is read too
        if self._reports is not None:
            with contextlib.suppress(BlockingIOError):
                if said := os.read(self._reports, 4096):
                    return int(json.loads(said.splitlines()[-1])["code"])
        return exited

    def close(self) -> None:
        """End the process and its children."""
        if self._process is not None:
            _kill(self._process)
        if self._reports is not None:
            os.close(self._reports)
        self._process = self._reports = self._key = None


def keeps(spec: TrialSpec) -> bool:
    """Whether a trial may share its process: on a GPU, or as a smoke test; not where compilation is scored."""
    return (spec.device == "gpu" or spec.max_steps is not None) and not spec.score_compile


@contextlib.contextmanager
def worker() -> Iterator[Worker]:
    """Yield a `Worker`, which ends with the block."""
    made = Worker()
    try:
        yield made
    finally:
        made.close()


WORKER = tuple(children.command("harness.trial.worker"))
POLL_S = 0.1
NO_MEMORY = (
    "bad_alloc", "memoryerror", "cannot allocate memory", "out of memory", "pthread_create", "memory allocation",
)  # fmt: skip
"""What a process prints, in any case, that dies for want of memory, or of room for the stack of a thread, whatever it
dies by."""
SAVING = "stopping, with a checkpoint if it has begun to train"
KILLS = "; press again to kill"
"""Follows `SAVING` where there is somebody to press."""


def run_trial(
    planned: PlannedTrial,
    on_event: Callable[[Event], None] = lambda event: None,
    *,
    on_start: Callable[[], None] = lambda: None,
    note: Callable[[str], None] = print,
    command: Sequence[str] = WORKER,
    environment: Mapping[str, str] | None = None,
    presses: list[int] | None = None,
    worker: Worker | None = None,
) -> Trial:
    """Run one trial to its end and return it as its folder then reads.

    Each new event of the log is handed to `on_event`; `on_start` is called once the worker is on its way. The first
    SIGINT or SIGTERM asks the worker to save and stop, the second kills it; either way KeyboardInterrupt is raised once
    it has ended. `environment` is added to the worker's; `presses` holds the interrupts where somebody else collects
    them, for several trials at once (`interrupts`). `worker` is kept for the next trial, where it may be. Raises
    HeldError where another process holds the folder, MachineError where the machine failed (a full disk),
    HarnessError where the folder cannot be used.
    """
    _refuse_held(planned.path)
    path = make_ready(planned)
    if _finished(path):  # by another process, since the plan was made
        return run_folder.read_trial(path)
    events = _new_events(path / "log.jsonl")
    hang_s = planned.options.hang_s
    killed_before = oom_kills()
    collected = interrupts() if presses is None else contextlib.nullcontext(presses)
    log = path / "worker.log"
    output_from = log.stat().st_size if log.exists() else 0
    held = worker or Worker()
    with collected as presses:
        process = held.start(command, planned.spec, path, dict(environment or {}))
        done = None
        try:
            on_start()
            done = _follow(process, held.code, events, on_event, hang_s, presses, note)
        finally:
            if worker is None or done in (None, HUNG) or presses:
                held.close()
    hung, code = done == HUNG, process.returncode if done in (None, HUNG) else done
    assert code is not None
    output = (path / "worker.log").read_bytes()[output_from:].decode(errors="replace")
    if code == EXIT_HELD:
        _refuse_held(path)
        raise HeldError(_last_line(output) or f"{path} is held by another process")
    if code == EXIT_DATA:
        raise DataError(_last_line(output) or "data are missing; see harness doctor")
    if code == EXIT_UNUSABLE:
        raise HarnessError(_last_line(output) or f"{path} cannot be used")
    if code == EXIT_MACHINE:
        trouble = _last_line(output) or f"{path} cannot be written; free some space there, then go on"
        if not presses:
            raise MachineError(trouble)
        note(trouble)
    if presses:
        raise KeyboardInterrupt
    if not _ended(path, code):
        why = f"no sign of life for hang_s={hang_s:g} s; killed. What it printed is in {path / 'worker.log'}; "
        why += f"if it is only slow, run it again with retry=true hang_s={3 * hang_s:g}"
        late = (Status.HUNG, why)
        end = late if hung else verdict(code, output, oom_killed=oom_kills() > killed_before)
        if end is not None:
            _write_result(path, planned, *end)
            for event in events():
                on_event(event)
    return run_folder.read_trial(path)


def verdict(code: int, output: str, *, oom_killed: bool) -> tuple[Status, str] | None:
    """Say how a worker ended that left no result: by its exit code (negative: a signal), and what it printed last.

    None where it was stopped from outside, so that the trial goes on when run again.
    """
    if code == -signal.SIGKILL and oom_killed:
        return Status.OUT_OF_MEMORY, "killed by the kernel: the machine or its memory limit ran out of memory"
    if -code in STOPPED_BY_OTHERS:
        return None
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    if (
        line := next((line for line in output.splitlines() if any(sign in line.lower() for sign in NO_MEMORY)), None)
    ) is not None:
        return Status.OUT_OF_MEMORY, f"{name}: {line.strip()}"
    return Status.CRASHED, f"{name}: {_last_line(output) or 'the worker printed nothing'}"


def oom_kills(root: Path = Path("/")) -> int:
    """Return how many processes the kernel has killed for memory, in this control group or else the whole machine."""
    exact, wide = [], [root / "proc/vmstat"]
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if not controllers:
                exact.append(root / "sys/fs/cgroup" / group.strip("/") / "memory.events")
            elif "memory" in controllers.split(","):
                exact.append(root / "sys/fs/cgroup/memory" / group.strip("/") / "memory.oom_control")
                wide.append(root / "sys/fs/cgroup/memory/memory.oom_control")
    told = [count for file in exact if (count := _oom_kill_line(file)) is not None]
    return sum(told or [_oom_kill_line(file) or 0 for file in wide])


def _oom_kill_line(file: Path) -> int | None:
    try:
        found = re.search(r"^oom_kill (\d+)$", file.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def _refuse_held(path: Path) -> None:
    if held_by := run_folder.holder(path):
        raise HeldError(f"{path} is held by {held_by}; wait for it or stop it")


@contextlib.contextmanager
def interrupts() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of being ended by them."""
    presses: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield presses  # only the main thread may handle signals
        return
    both = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda n, _: presses.append(n)) for number in both}
    try:
        yield presses
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


HUNG = -1000
"""In place of an exit code: no sign of life."""


def _follow(
    worker: subprocess.Popen[bytes],
    done: Callable[[], int | None],
    events: Callable[[], list[Event]],
    on_event: Callable[[Event], None],
    hang_s: float,
    presses: list[int],
    note: Callable[[str], None],
) -> int | None:
    """Hand on events until the worker is done with the trial, and return how; None where it is to be killed."""
    alive = time.monotonic()
    forwarded = False
    while True:
        code = done()  # asked before reading, so that what it wrote last is read too
        for event in events():
            on_event(event)
            alive = time.monotonic()
        if code is not None:
            return code
        if presses and not forwarded:
            worker.send_signal(signal.SIGINT)
            note(SAVING + KILLS)
            forwarded = True
        if len(presses) > 1:
            return None  # the caller kills it
        if time.monotonic() - alive > hang_s:
            return HUNG
        time.sleep(POLL_S)


def _kill(worker: subprocess.Popen[bytes]) -> None:
    """Make sure that the worker and its children have ended."""
    if worker.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that waits for a broken device cannot be killed
            worker.wait(timeout=30)
    if worker.stdin is not None:
        worker.stdin.close()


def _new_events(log: Path) -> Callable[[], list[Event]]:
    """Return a function that returns the events that were completed since it was called last."""
    position = log.stat().st_size if log.exists() else 0
    tail = b""

    def read() -> list[Event]:
        nonlocal position, tail
        if not log.exists():
            return []
        with log.open("rb") as file:
            file.seek(position)
            new = file.read()
        position += len(new)
        *lines, tail = (tail + new).split(b"\n")
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and "event" in event:
                    found.append(event)
        return found

    return read


def _ended(path: Path, code: int) -> bool:
    """Whether the worker has left the result of this attempt; one of an interrupted attempt may still lie there."""
    try:
        status = json.loads((path / "result.json").read_text())["status"]
    except FileNotFoundError:
        return False
    return code == 0 or status not in UNFINISHED


def _finished(path: Path) -> bool:
    """Whether the trial has come to its end, as its folder says under the lock."""
    with run_folder.hold(path) as folder:
        return folder.ended() is not None


def _write_result(path: Path, planned: PlannedTrial, status: Status, reason: str) -> None:
    """Write the result in the worker's stead, with what its log tells."""
    trial = run_folder.read_trial(path)
    steps = [event for event in trial.events if event["event"] == "chunk"]
    last = steps[-1] if steps else {"step": 0, "examples": 0}
    decided = next((event for event in reversed(trial.events) if event["event"] == "decided"), None)
    if decided is not None:  # it went wrong after the end: in the evaluation of the full splits
        status, reason = Status(decided["status"]), f"{decided['reason']}; then {status}: {reason}"
    values = [value for m in trial.measurements if (value := m.metrics[planned.spec.metric]) is not None]
    result = Result(
        status=status,
        reason=reason,
        spec_id=planned.spec.id,
        steps=last["step"],
        examples=last["examples"],
        best=(min if planned.spec.mode == "min" else max)(values) if values else None,
        last=values[-1] if values else None,
        wall_s=max((event.get("t") or 0.0 for event in trial.events), default=0.0),
        attempts=max((event.get("attempt") or 1 for event in trial.events), default=1),
    )
    with run_folder.hold(path) as folder:
        folder.write_result(result)


def _last_line(output: str) -> str:
    """Return the line that says most: the fatal error of the interpreter or of XLA (`F1129 ... Check failed`) if there
    is one, else the last non-empty one.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    fatal = [line for line in lines if re.match(r"Fatal Python error|F\d{4} ", line)]
    return (fatal or lines or [""])[-1]
