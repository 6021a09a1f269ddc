"""The trial's end of the controller: the process that runs a submission's `control`, the only host code it has."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.api import Control, Progress
from harness.errors import MachineError, SubmissionError
from harness.program import confinement
from harness.program.child import STOPPED_BY_OTHERS, NoAnswerError, read_answer, read_line
from harness.program.discovery import Folder
from harness.program.manifest import MAX_EXPORT_S, Manifest
from harness.program.requests import ExportRequest, Job
from harness.record import plain_data


class Controller:
    """A controller process; it runs only while it is asked, and ends with the thread that started it.

    It is confined like an exporter, and in a process group of its own, so that where the kernel lets a submission start
    processes, these are stopped and ended along with it.
    """

    def __init__(self, source: Path, job: Job, submission: Manifest):
        """Start it for the submission at `source`, whose point and workload `job` holds. Raises SubmissionError where
        it has other sources now, or cannot be built.
        """
        self._source = source
        if Folder("submissions", source.name, source).source_hash != submission.contract.control:
            raise SubmissionError(f"{source}: its files have changed since the trial was planned; plan it anew")
        requires = tuple(submission.sources.get("requires", {}))
        bounds = confinement.of_submission(source, [Path(job.workload)], requires=requires)
        self._process = subprocess.Popen(
            confinement.command("harness.program.control"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=confinement.environment(),
            cwd="/",
            process_group=0,
        )
        self._write(confinement.first_line(bounds))
        self._say(plain_data.to_plain(ExportRequest(str(source), (job,))))
        self._answer()  # it has built

    def ask(self, progress: Progress) -> Control | None:
        """Return the submission's answer. Raises SubmissionError naming its line where it gives none, MachineError
        where somebody has killed the process.
        """
        self._signal(signal.SIGCONT)
        self._say(asdict(progress))
        answer = self._answer().get("answer")
        return None if answer is None else plain_data.read(Control, answer, "control", SubmissionError)

    def close(self) -> None:
        """End it."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]

    def _say(self, plain: Any) -> None:
        self._write(json.dumps(plain).encode() + b"\n")

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            line = read_line(self._process.stdout.fileno(), MAX_EXPORT_S)
            answer = read_answer(line) if line else {}
        except NoAnswerError as problem:
            self.close()
            raise SubmissionError(f"{self._ended}: {problem}") from None
        if not answer:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it has closed its answers, and may go on
                self._process.wait(timeout=10)
            code = self._process.poll()
            self.close()
            if code is not None and -code in STOPPED_BY_OTHERS:
                raise MachineError(f"{self._ended} by {signal.Signals(-code).name}; type the same again to go on")
            raise SubmissionError(f"{self._ended}, exit code {self._process.returncode}")
        if answer["error"]:
            self.close()
            raise SubmissionError(answer["error"])
        self._signal(signal.SIGSTOP)
        return answer

    @property
    def _ended(self) -> str:
        return f"{self._source}/submission.py: the process of `control` ended"

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
