"""A child process, an exporter or a deriver: it is asked once, and answers a line for each job. Needs no jax."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, MachineError, SubmissionError
from harness.machine import children
from harness.program import confinement
from harness.program.manifest import MAX_ANSWER_BYTES, MAX_EXPORT_S
from harness.program.sandbox import Bounds
from harness.record import plain_data

STOPPED_BY_OTHERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""By which somebody ends a process, or the kernel for memory: nothing is wrong with what it worked on."""


_alive = set["Child"]()


def end_all() -> None:
    """End all that work now, so that the threads that wait for their answers end: the user has interrupted them."""
    for each in list(_alive):
        each._kill()


class Child:
    """An exporter or a deriver. It imports what it needs while the caller goes on, then reads one request.

    What it answers and prints is whatever a submission makes of it: it is read within limits, and believed in nothing.
    """

    def __init__(self, name: str, where: str, attention: str | None = None, bounds: Bounds | None = None):
        """`bounds` confine it; `where` names the folder at fault in its errors."""
        self._module, self._where, self._bounds = f"harness.program.{name}", where, bounds
        self._attention = {} if attention is None else {"HARNESS_ATTENTION": attention}

    def __enter__(self) -> Child:
        self._log = tempfile.TemporaryFile()
        confined = self._bounds is not None
        self._process = subprocess.Popen(
            confinement.command(self._module) if confined else children.command(self._module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=(confinement.environment() if confined else environment()) | self._attention,
            cwd="/" if confined else None,
            start_new_session=True,
        )
        _alive.add(self)
        if self._bounds is not None:
            self._write(confinement.first_line(self._bounds))
        return self

    def __exit__(self, *_: object) -> None:
        _alive.discard(self)
        self._kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            with suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]

    def ask(self, request: Any, count: int) -> Iterator[dict[str, Any] | HarnessError]:
        """Yield the answer to each of the request's jobs; what ended the process is that to all it leaves open."""
        assert self._process.stdin is not None
        self._write(json.dumps(plain_data.to_plain(request)).encode())
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        lines = self._lines()
        for left in range(count, 0, -1):
            try:
                yield read_answer(next(lines))
            except NoAnswerError as why:
                yield from [self._failure(str(why))] * left
                return

    def _lines(self) -> Iterator[bytes]:
        """Yield lines without end. Raises NoAnswerError where none comes in time, or none will."""
        assert self._process.stdout is not None
        rest, deadline = b"", time.monotonic() + MAX_EXPORT_S
        while True:
            wait = deadline - time.monotonic()
            if wait <= 0 or not select.select([self._process.stdout], [], [], wait)[0]:
                told = f"no program within {MAX_EXPORT_S:.0f} s; tracing goes on without end"
                raise NoAnswerError(f"{told}, or others keep the machine busy: try again when they are done")
            chunk = os.read(self._process.stdout.fileno(), MAX_ANSWER_BYTES)
            if not chunk:
                raise NoAnswerError(self._ended())
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                deadline = time.monotonic() + MAX_EXPORT_S
            yield from [*lines, rest] if len(rest) > MAX_ANSWER_BYTES else lines

    def _ended(self) -> str:
        """Return how the process ended, and the last line that it printed."""
        try:
            code = str(self._process.wait(timeout=10))
        except subprocess.TimeoutExpired:
            self._kill()
            code = "none, it closed its answers and went on"
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - MAX_ANSWER_BYTES))
        printed = self._log.read().decode(errors="replace")
        last = [line for line in printed.splitlines() if line.strip()][-1:] or ["it printed nothing"]
        return f"exit code {code}: {shown(last[0][:1000])}"

    def _failure(self, why: str) -> HarnessError:
        if -(self._process.poll() or 0) in STOPPED_BY_OTHERS:
            text = f"{self._where}: the process that makes its program was ended from outside ({why})"
            return MachineError(f"{text}; type the same again")
        own = self._module == "harness.program.export" and (Path(self._where) / "submission.py").is_file()
        kind = SubmissionError if own else HarnessError
        return kind(f"{self._where}: the process that makes its program ended: {why}")

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


class NoAnswerError(Exception):
    """Why a process answers no more."""


def read_answer(line: bytes) -> dict[str, Any]:
    """Return the answer that a line holds: an object whose `error` is null or a text. Raises NoAnswerError."""
    with suppress(ValueError, RecursionError):
        answer = json.loads(line) if len(line) <= MAX_ANSWER_BYTES else None
        if isinstance(answer, dict) and isinstance(answer.get("error", 0), str | None):
            return answer | {"error": answer["error"] and shown(answer["error"])}
    raise NoAnswerError(f"it answered {line[:80]!r}, which is no answer")


def shown(text: str) -> str:
    """Return a text without the characters by which it would steer the terminal that shows it."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def read_line(file: int, seconds: float) -> bytes:
    """Return the line that a process writes to a pipe before it waits again, whatever follows it; nothing where it has
    closed the pipe. Raises NoAnswerError where none comes in time.
    """
    held, deadline = b"", time.monotonic() + seconds
    while b"\n" not in held and len(held) <= MAX_ANSWER_BYTES:
        wait = deadline - time.monotonic()
        if wait <= 0 or not select.select([file], [], [], wait)[0]:
            raise NoAnswerError(f"no answer within {seconds:.0f} s")
        chunk = os.read(file, MAX_ANSWER_BYTES)
        if not chunk:
            return b""
        held += chunk
    return held.partition(b"\n")[0]


def environment() -> dict[str, str]:
    """Return the environment of a process that imports this package, from wherever it is, uses no accelerator, and
    traces the same whatever jax is told outside.
    """
    kept = {name: value for name, value in children.environment().items() if not name.startswith("XLA_")}
    return kept | {"JAX_PLATFORMS": "cpu"}
