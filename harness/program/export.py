"""The exporter: a process that turns a workload, or a submission on it, into StableHLO. It holds no array of any split.

    python -m harness.program.export < request

reads one `ExportRequest` (JSON) and answers with a JSON object a line on standard output, one for each job in order:
`{"error": null}` where the job's folder holds its functions and `declared.json`, else why not. A workload is exported
by a process that imports no submission; a submission by one that imports no other, confined by
`harness.program.sandbox`. What a process that imported one says is not taken: `harness.program.derive` looks at the
files.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from harness.errors import HarnessError, SubmissionError, of_machine
from harness.machine.lifetime import end_with_parent
from harness.program import discovery
from harness.program.manifest import MAX_ERROR, MAX_EXPORT_BYTES, Way
from harness.program.requests import ExportRequest, Job
from harness.record import plain_data


def main() -> int:
    """Do the jobs of the request on standard input."""
    end_with_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a submission prints is no answer
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    jax.config.update("jax_enable_compilation_cache", False)
    import harness.program.exporting  # noqa: F401 - now, while the caller goes on

    request = plain_data.read(ExportRequest, json.load(sys.stdin), "request")
    load = functools.cache(discovery.load_workload)
    for job in request.jobs:
        problem = done(job, request.submission, load)
        print(json.dumps({"error": problem and problem[:MAX_ERROR]}), file=answers, flush=True)
    return 0


def done(job: Job, submission: str | None, load: Callable[..., Any]) -> str | None:
    """Export into the job's folder; return why not, or None."""
    from harness.program.exporting import export_submission, export_workload

    path = Path(job.workload)
    try:
        workload = load(discovery.Folder("workloads", path.name, path), job.variant)
        if submission is None:
            declared = export_workload(workload, job.platform, writer(job.out, job.way))
        else:
            source = discovery.Folder("submissions", Path(submission).name, Path(submission))
            with no_devices(source.path):
                declared = export_submission(workload, source, job, job.platform, writer(job.out, job.way))
        name = "declared.json" if job.way == "xla" else f"declared.{job.way}.json"
        written(Path(job.out) / name, json.dumps(plain_data.to_plain(declared)).encode())
    except HarnessError as problem:
        return str(problem)
    except MemoryError:
        where = submission or job.workload
        return f"{where}: tracing took more than {MAX_EXPORT_BYTES / 2**30:.0f} GiB of memory"
    except Exception as problem:  # noqa: BLE001 - whatever code that is not ours raises, and the other jobs go on
        return discovery.blame(Path(submission or job.workload), "export", problem)
    return None


def writer(out: str, way: Way = "xla") -> Callable[[str, bytes], None]:
    """Return what writes a function's file."""
    suffix = "" if way == "xla" else f".{way}"

    def write(name: str, data: bytes) -> None:
        written(Path(out) / f"{name}{suffix}.mlir", data)

    return write


def written(file: Path, data: bytes) -> None:
    """Write a file of the store. Raises HarnessError where its disk is full: no fault of the submission's."""
    try:
        file.write_bytes(data)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise of_machine(error, str(file)) from None


@contextmanager
def no_devices(source: Path) -> Iterator[None]:
    """Refuse questions about devices: a program is traced for a platform, not for what this process happens to have."""
    import jax

    def refuse(name: str) -> Callable[..., Any]:
        def asked(*_: Any, **__: Any) -> Any:
            raise SubmissionError(
                f"{source}/submission.py: jax.{name}() tells of the process that exports; task.platform tells what the "
                "program is for"
            )

        return asked

    with ExitStack() as patched:
        for name in ("default_backend", "devices", "local_devices", "device_count", "local_device_count"):
            patched.enter_context(mock.patch.object(jax, name, refuse(name)))
        yield


if __name__ == "__main__":
    sys.exit(main())
