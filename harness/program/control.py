"""The controller: a process that answers a submission's control calls. It holds no data and is stopped in between.

    python -m harness.program.control

reads an `ExportRequest` of one job from the first line of its input, builds the algorithm at its point and answers with
a JSON object a line: `{"error": null}` once it is built, then for each further line, a `harness.api.Progress`, the
`Control` that the submission returns (or null) as `{"answer": ..., "error": null}`, or why there is none. It is
confined (`harness.program.sandbox`) like an exporter, and its clocks tell `control` nothing.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.api import Algorithm, Control, Progress
from harness.errors import HarnessError
from harness.machine.lifetime import end_with_parent
from harness.program import clocks, discovery
from harness.program.manifest import MAX_ERROR
from harness.program.requests import ExportRequest
from harness.record import plain_data


def main() -> int:
    """Answer the questions of one trial until the input ends."""
    end_with_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a submission prints is no answer
    request = plain_data.read(ExportRequest, json.loads(sys.stdin.readline()), "request")
    os.environ["JAX_PLATFORMS"] = "cpu"
    assert request.submission is not None

    def say(error: str | None, **fields: Any) -> None:
        print(json.dumps({"error": error, **fields}), file=answers, flush=True)

    source = Path(request.submission)
    try:
        algorithm = built(request, source)
    except HarnessError as error:
        say(str(error)[:MAX_ERROR])
        return 0
    say(None)
    for line in sys.stdin:
        progress = plain_data.read(Progress, json.loads(line), "question")
        try:
            with clocks.refused(source):
                answer = asked(algorithm, progress)
        except Exception as error:  # noqa: BLE001 - whatever a submission raises is told as its own
            told = discovery.blame(source, f"control at step {progress.step}", error)
            say(told.replace(f"{source}: ", f"{source}/submission.py: ", 1)[:MAX_ERROR])
        else:
            say(None, answer=None if answer is None else asdict(answer))
    return 0


def built(request: ExportRequest, source: Path) -> Algorithm:
    """Return the algorithm at the point of the request's job."""
    from harness.program.build import build_algorithm, task_view

    clocks.replace()
    (job,) = request.jobs
    path = Path(job.workload)
    workload = discovery.load_workload(discovery.Folder("workloads", path.name, path), job.variant)
    task = task_view(workload, job.budget_steps, job.declared_steps, job.platform)
    assert job.hyperparameters is not None
    return build_algorithm(discovery.Folder("submissions", source.name, source), task, job.hyperparameters)


def asked(algorithm: Algorithm, progress: Progress) -> Control | None:
    """Return what the submission answers. Raises TypeError where it is no answer."""
    assert algorithm.control is not None
    answer = algorithm.control(progress)
    if not isinstance(answer, Control | None):
        raise TypeError(f"returned {type(answer).__name__}; return a harness.api.Control or None")
    if answer is None:
        return None
    size = answer.batch_size
    return Control(None if size is None else int(size), bool(answer.stop))


if __name__ == "__main__":
    sys.exit(main())
