"""A child process, an exporter or a deriver: it is asked once, and answers a line for each job. Needs no jax."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, SubmissionError
from harness.program.manifest import MAX_EXPORT_S
from harness.record import plain_data


class Child:
    """An exporter or a deriver. It imports what it needs while the caller goes on, then reads one request."""

    def __init__(self, name: str, where: str, attention: str | None = None):
        self._name, self._where = name, where
        self._attention = {} if attention is None else {"HARNESS_ATTENTION": attention}

    def __enter__(self) -> Child:
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"harness.program.{self._name}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment() | self._attention,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            with suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]

    def ask(self, request: Any, count: int) -> Iterator[dict[str, Any] | HarnessError]:
        """Yield the answer to each of the request's jobs; what ended the process is that to all it leaves open."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(plain_data.to_plain(request)).encode())
            self._process.stdin.close()
        left = count
        for line in self._lines():
            if left == 0:
                break
            if line is None:
                late = f"no program within {MAX_EXPORT_S:.0f} s; tracing goes on without end"
                yield from [self._failure(late)] * left
                return
            left -= 1
            answer: dict[str, Any] = json.loads(line)
            yield answer
        if left:
            code = self._process.wait()
            self._log.seek(0)
            last = [line for line in self._log.read().splitlines() if line.strip()][-1:] or ["it printed nothing"]
            yield from [self._failure(f"exit code {code}: {last[0]}")] * left

    def _lines(self) -> Iterator[bytes | None]:
        """Yield lines until the output ends; None where none comes in time."""
        assert self._process.stdout is not None
        rest, deadline = b"", time.monotonic() + MAX_EXPORT_S
        while True:
            wait = deadline - time.monotonic()
            if wait <= 0 or not select.select([self._process.stdout], [], [], wait)[0]:
                yield None
                return
            chunk = os.read(self._process.stdout.fileno(), 65536)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                deadline = time.monotonic() + MAX_EXPORT_S
            yield from lines

    def _failure(self, why: str) -> HarnessError:
        own = self._name == "export" and (Path(self._where) / "submission.py").is_file()
        kind = SubmissionError if own else HarnessError
        return kind(f"{self._where}: the process that makes its program ended: {why}")


def environment() -> dict[str, str]:
    """Return the environment of a process that imports this package, from wherever it is, uses no accelerator, and
    traces the same whatever jax is told outside.
    """
    own = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [own, os.environ.get("PYTHONPATH")]))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    return kept | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
