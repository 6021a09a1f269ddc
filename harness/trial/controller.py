"""The trial's end of the controller: the process that runs a submission's `control`, the only host code it has."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.api import Control, Progress
from harness.errors import SubmissionError
from harness.program.child import environment
from harness.program.discovery import Folder
from harness.program.manifest import Manifest
from harness.program.requests import ExportRequest, Job
from harness.record import plain_data


class Controller:
    """A controller process; it runs only while it is asked, and ends with the thread that started it.

    It is in a process group of its own, so that what a submission starts is stopped and ended along with it.
    """

    def __init__(self, source: Path, job: Job, submission: Manifest):
        """Start it for the submission at `source`, whose point and workload `job` holds. Raises SubmissionError where
        it has other sources now, or cannot be built.
        """
        self._source = source
        if Folder("submissions", source.name, source).source_hash != submission.contract.control:
            raise SubmissionError(f"{source}: its files have changed since the trial was planned; plan it anew")
        request = ExportRequest(str(source), (job,))
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(json.dumps(plain_data.to_plain(request)))
            file.flush()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "harness.program.control", file.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment(),
                process_group=0,
            )
            self._answer()  # it has read the request, and built

    def ask(self, progress: Progress) -> Control | None:
        """Return the submission's answer. Raises SubmissionError naming its line where it gives none."""
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(asdict(progress)) + "\n")
            self._process.stdin.flush()
        answer = self._answer()["answer"]
        return None if answer is None else plain_data.read(Control, answer, "control", SubmissionError)

    def close(self) -> None:
        """End it."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            code = self._process.returncode
            raise SubmissionError(f"{self._source}/submission.py: the process of `control` ended, exit code {code}")
        answer: dict[str, Any] = json.loads(line)
        if answer["error"]:
            self.close()
            raise SubmissionError(answer["error"])
        self._signal(signal.SIGSTOP)
        return answer

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
