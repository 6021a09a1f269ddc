"""The subprocess of `harness check`: runs a submission's programs on toys. It imports no submission.

`python -m harness.trial.conformance REQUEST`, a `Request` as JSON. It compiles what a trial compiles, and writes a JSON
object a line, `{"begin": check, "workload": name}` and `{"end": check, "workload": name, "findings": [...]}`, so that
the parent knows what was being done when a program took the process down.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness.errors import HarnessError
from harness.machine import flags
from harness.record import plain_data
from harness.record.spec import Value
from harness.trial import worker


@dataclass(frozen=True)
class Toy:
    """A workload's folder, and the ids of its own program and of the submission's on it."""

    workload: str
    own: str
    program: str


@dataclass(frozen=True)
class Request:
    """What to run: a submission's folder, the point that its programs are for, and the toys."""

    submission: str
    hyperparameters: dict[str, Value]
    toys: tuple[Toy, ...]


def main(argv: list[str] | None = None) -> int:
    """Examine what is asked for; return 0 whatever is found."""
    (text,) = sys.argv[1:] if argv is None else argv
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker.end_with_parent()
    flags.apply("cpu", deterministic=True)
    from harness.machine import backend  # and with it jax, now that its flags are set

    backend.configure_jax("cpu", compile_cache=True)
    from harness.trial.conformance_checks import examine

    request = plain_data.read(Request, json.loads(text), "request")
    for toy in request.toys:
        reporter = Reporter(answers, Path(toy.workload).name, Path(request.submission))
        examine(reporter, request, toy)
    return 0


@dataclass(frozen=True)
class Reporter:
    """Where the findings on one workload go."""

    answers: IO[str]
    workload: str
    source: Path

    def check(self, name: str, look: Callable[[], Iterator[str]]) -> bool:
        """Report the findings that `look` yields, and what it raises as one more; return whether there were none."""
        self._write(begin=name)
        findings: list[str] = []
        try:
            findings += look()
        except HarnessError as error:
            findings.append(str(error))
        except Exception as error:  # noqa: BLE001 - whatever a program does is a finding about it
            findings.append(f"{self.source}/submission.py: {worker.describe(error, self.source)}")
        self._write(end=name, findings=findings)
        return not findings

    def _write(self, **fields: Any) -> None:
        print(json.dumps({"workload": self.workload, **fields}), file=self.answers, flush=True)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
