"""Programs of an algorithm made in this process: exported, looked at and compiled, with no folder and no store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from harness.api import Algorithm
from harness.machine.hardware import packages
from harness.program import store
from harness.program.derive import derive
from harness.program.discovery import Folder
from harness.program.export import no_devices, writer
from harness.program.exporting import export_submission, export_workload
from harness.program.requests import DeriveRequest, Ends, Job
from harness.program.store import Program
from harness.program.workload import Data, Workload
from harness.record import plain_data
from harness.trial.programs import Programs, compile_programs

SOURCE = Folder("submissions", "mine", Path("/somewhere/submissions/mine"))


def workload_program(workload: Workload, *, keep: bool = False) -> Program:
    """Return the program of a workload, also put into the store where it is to be kept."""
    with store.scratch() as scratch:
        out = _new(scratch)
        return _derived(out, export_workload(workload, "cpu", writer(str(out))), None, keep)


def exported(
    workload: Workload, own: Program, folder: Folder, point: Mapping[str, Any], *, keep: bool = False
) -> Program:
    """Return the program of a submission's folder, all constant."""
    with store.scratch() as scratch:
        out = _new(scratch)
        job = Job(str(out), "", None, "cpu", dict(point), workload.info.budget_steps)
        with no_devices(folder.path):
            declared = export_submission(workload, folder, job, "cpu", writer(str(out)))
        return _derived(out, declared, own, keep, folder.source_hash)


def submission_program(
    workload: Workload,
    own: Program,
    build: Any,
    point: Mapping[str, Any] | None = None,
    ends: Mapping[str, Ends] | None = None,
) -> Program:
    """Return the program of what `build(task, hp)` makes, or of an algorithm."""
    made = (lambda task, point: build) if isinstance(build, Algorithm) else build
    with store.scratch() as scratch:
        out = _new(scratch)
        job = Job(str(out), "", None, "cpu", dict(point or {}), workload.info.budget_steps, ends=dict(ends or {}))
        return _derived(out, export_submission(workload, SOURCE, job, "cpu", writer(str(out)), made), own)


def compiled(workload: Workload, own: Program, algorithm: Algorithm, *, platform: Any = "cpu") -> Programs:
    """Return the compiled programs of an algorithm."""
    program = submission_program(workload, own, algorithm)
    assert workload.shapes is not None
    data = Data(workload.info, workload.shapes, workload.splits, workload.batch)
    splits = workload.splits()
    train, part = jax.device_put((dict(splits.train), dict(splits.validation_slice)))
    return compile_programs(data, own, program, train, part, platform=platform)


def _new(scratch: Path) -> Path:
    (scratch / "out").mkdir()
    return scratch / "out"


def _derived(folder: Path, declared: Any, own: Program | None, keep: bool = False, source_hash: str = "") -> Program:
    (folder / "declared.json").write_text(json.dumps(plain_data.to_plain(declared)))
    sources = {"submission": source_hash, "versions": packages()}
    manifest = derive(folder, own, DeriveRequest(str(folder), own and own.manifest.id, "cpu", sources))
    program = Program(manifest, {name: (folder / f"{name}.mlir").read_bytes() for name in manifest.functions})
    if keep:
        store.add(folder, manifest.id)
    return program
