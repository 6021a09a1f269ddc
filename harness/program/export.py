"""The exporter: a process that turns a workload, or a submission on it, into StableHLO. It holds no array of any split.

    python -m harness.program.export REQUEST.json

reads one `ExportRequest` and answers with a JSON object a line on standard output, one for each job in order:
`{"error": null}` where the job's folder holds its functions and `declared.json`, else why not. A workload is exported
by a process that imports no submission. What a process that imported one says is not taken: `harness.program.derive`
looks at the files.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from harness.errors import HarnessError, SubmissionError
from harness.program import discovery
from harness.program.manifest import MAX_EXPORT_BYTES
from harness.program.requests import ExportRequest
from harness.record import plain_data


def main(argv: list[str]) -> int:
    """Do the jobs of the request in the file argv[0]."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a submission prints is no answer
    limit = (MAX_EXPORT_BYTES, MAX_EXPORT_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, limit)
    request = plain_data.read(ExportRequest, json.loads(Path(argv[0]).read_text()), argv[0])
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    jax.config.update("jax_enable_compilation_cache", False)
    from harness.program.exporting import export_submission, export_workload

    path = Path(request.workload)
    workload = discovery.load_workload(discovery.Folder("workloads", path.name, path), request.variant)
    for job in request.jobs:
        error = None
        try:
            if request.submission is None:
                declared = export_workload(workload, request.platform, writer(job.out))
            else:
                source = Path(request.submission)
                with no_devices(source):
                    declared = export_submission(
                        workload, discovery.Folder("submissions", source.name, source), job, request.platform,
                        writer(job.out),
                    )  # fmt: skip
            (Path(job.out) / "declared.json").write_text(json.dumps(plain_data.to_plain(declared)))
        except HarnessError as problem:
            error = str(problem)
        except MemoryError:
            where = request.submission or request.workload
            error = f"{where}: tracing took more than {MAX_EXPORT_BYTES / 2**30:.0f} GiB of memory"
        except Exception as problem:  # noqa: BLE001 - whatever code that is not ours raises, and the other jobs go on
            error = discovery.blame(Path(request.submission or request.workload), "export", problem)
        print(json.dumps({"error": error}), file=answers, flush=True)
    return 0


def writer(out: str) -> Callable[[str, bytes], None]:
    """Return what writes a function's file."""

    def write(name: str, data: bytes) -> None:
        (Path(out) / f"{name}.mlir").write_bytes(data)

    return write


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
    sys.exit(main(sys.argv[1:]))
