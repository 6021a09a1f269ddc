"""From folders to programs in the store: exporter and deriver run as processes, within limits. Needs no jax."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, SubmissionError, WorkloadError
from harness.machine.flags import Device
from harness.machine.hardware import packages
from harness.program import store
from harness.program.discovery import Folder
from harness.program.manifest import MAX_EXPORT_S
from harness.program.requests import DeriveRequest, ExportRequest, Job
from harness.record import plain_data
from harness.record.spec import Value, short_hash

_OWN = ("api.py", "optim", "program")  # what a program is made by, of the harness


def workload_program(workload: Folder, variant: str | None = None, platform: Device = "cpu") -> store.Program:
    """Return the workload's own program, exported where it is not in the store; WorkloadError where it cannot be."""
    sources = _sources(workload, variant, platform)
    if (found := store.look_up(store.key(**sources))) is not None:
        return found
    with store.scratch() as scratch:
        (scratch / "0").mkdir()
        request = ExportRequest(str(workload.path), variant, None, platform, (Job(str(scratch / "0")),))
        (answer,) = _answers("export", request, 1, workload.path)
        if answer["error"]:
            raise WorkloadError(answer["error"])
        (program,) = _derived([scratch / "0"], None, platform, sources, workload.path)
    if isinstance(program, str):
        raise WorkloadError(f"{workload.path}: {program}")
    store.enter(store.key(**sources), program.manifest.id)
    return program


def submission_programs(
    workload: Folder,
    submission: Folder,
    points: Sequence[Mapping[str, Value]],
    budget_steps: int,
    *,
    declared_steps: int | None = None,
    variant: str | None = None,
    platform: Device = "cpu",
) -> list[store.Program]:
    """Return the program of a submission on a workload at each point; those not in the store are exported together.

    Raises SubmissionError naming file and cause where one breaks the contract or a limit.
    """
    own = workload_program(workload, variant, platform)
    sources = _sources(workload, variant, platform) | {
        "submission": submission.source_hash,
        "budget_steps": budget_steps,
        "declared_steps": declared_steps,
        "workload_program": own.manifest.id,
    }
    keys = [store.key(**sources, point=dict(point)) for point in points]
    programs = {key: program for key in keys if (program := store.look_up(key)) is not None}
    missing = {key: point for key, point in zip(keys, points, strict=True) if key not in programs}
    if missing:
        with store.scratch() as scratch:
            folders = [scratch / key for key in missing]
            for folder in folders:
                folder.mkdir()
            jobs = tuple(
                Job(str(folder), dict(point), budget_steps, declared_steps)
                for folder, point in zip(folders, missing.values(), strict=True)
            )
            request = ExportRequest(str(workload.path), variant, str(submission.path), platform, jobs)
            for answer in _answers("export", request, len(jobs), submission.path):
                if answer["error"]:
                    raise SubmissionError(answer["error"])
            found = _derived(folders, own.manifest.id, platform, sources, submission.path)
        for key, made in zip(missing, found, strict=True):
            if isinstance(made, str):
                raise SubmissionError(f"{submission.path}: {made}")
            store.enter(key, made.manifest.id)
            programs[key] = made
    return [programs[key] for key in keys]


def _derived(
    folders: Sequence[Path], workload: str | None, platform: Device, sources: dict[str, Any], where: Path
) -> list[store.Program | str]:
    """Return the program of each exported folder, moved to the store, or why it is none."""
    request = DeriveRequest(tuple(map(str, folders)), workload, platform, sources)
    found: list[store.Program | str] = []
    for folder, answer in zip(folders, _answers("derive", request, len(folders), where), strict=True):
        if answer["error"]:
            found.append(answer["error"])
            continue
        store.add(folder, answer["id"])
        program = store.read(answer["id"])
        if program is None:
            raise HarnessError(f"{store.root() / answer['id']}: removed while it was read; try again")
        found.append(program)
    return found


def _answers(name: str, request: Any, count: int, where: Path) -> list[dict[str, Any]]:
    """Run a process on a request and return its answers, one for each job. Raises HarnessError where it gives fewer."""
    environment = os.environ | {"PYTHONPATH": _python_path(), "JAX_PLATFORMS": "cpu"}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file, tempfile.TemporaryFile("w+") as log:
        file.write(json.dumps(plain_data.to_plain(request)))
        file.flush()
        process = subprocess.Popen(
            [sys.executable, "-m", f"harness.program.{name}", file.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=MAX_EXPORT_S * count)
        except subprocess.TimeoutExpired:
            raise _failure(
                name, where, f"no program within {MAX_EXPORT_S:.0f} s each; tracing goes on without end"
            ) from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        answers: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines()]
        if process.returncode or len(answers) != count:
            log.seek(0)
            last = [line for line in log.read().splitlines() if line.strip()][-1:] or ["it printed nothing"]
            raise _failure(name, where, f"exit code {process.returncode}: {last[0]}")
    return answers


def _failure(name: str, where: Path, why: str) -> HarnessError:
    kind = SubmissionError if (where / "submission.py").is_file() and name == "export" else HarnessError
    return kind(f"{where}: the process that makes its program ended: {why}")


def _sources(workload: Folder, variant: str | None, platform: Device) -> dict[str, Any]:
    versions = packages()
    return {
        "workload": workload.source_hash,
        "variant": variant,
        "platform": platform,
        "harness": _own_hash(),
        "versions": {name: versions[name] for name in ("jax", "jaxlib", "flax", "optax")},
        "attention": os.environ.get("HARNESS_ATTENTION"),
    }


def _own_hash() -> str:
    """Return a hash of the harness's own sources that a program is made by."""
    package = Path(__file__).resolve().parents[1]
    files = [
        path for name in _OWN for path in ([package / name] if name.endswith(".py") else (package / name).rglob("*.py"))
    ]
    return short_hash({str(path.relative_to(package)): store.sha256(path.read_bytes()) for path in sorted(files)})


def _python_path() -> str:
    own = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, [own, os.environ.get("PYTHONPATH")]))
