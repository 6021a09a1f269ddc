"""A request done: an exporter writes programs, a deriver looks at them, and they go into the store. Needs no jax."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, SubmissionError
from harness.program import confinement, store
from harness.program.child import Child
from harness.program.requests import DECLARED, DeriveRequest, ExportRequest, read_declared
from harness.program.sandbox import Bounds


def make(
    request: ExportRequest,
    requests: Callable[[], Sequence[DeriveRequest]],
    deriver: Child,
    names: Sequence[str],
    requires: Sequence[str] = (),
) -> list[str | HarnessError]:
    """Export, let the deriver look at what came, and move it to the store; return ids, or what is wrong. `requests`
    says what the deriver is asked once all is exported.
    """
    found: dict[int, str | HarnessError] = {}
    asked = os.environ.get("HARNESS_ATTENTION")
    bounds = _bounds(request, requires)
    with Child("export", names[0], asked or "xla", bounds) as exporter:
        for number, answer in enumerate(exporter.ask(request, len(names))):
            if isinstance(answer, HarnessError):
                found[number] = answer
            elif answer["error"]:
                found[number] = SubmissionError(answer["error"])
    derive = requests()
    if asked is None:
        left = [n for n in range(len(derive)) if n not in found]
        found |= _export_cudnn(request, left, derive, names[0], bounds)
    left = [number for number in range(len(derive)) if number not in found]
    for number, answer in zip(left, deriver.ask([derive[n] for n in left], len(left)), strict=True):
        if isinstance(answer, HarnessError):
            found[number] = answer
        elif answer["error"]:
            found[number] = SubmissionError(f"{names[number]}: {answer['error']}")
        else:
            store.add(Path(derive[number].folder), answer["id"])
            found[number] = answer["id"]
    return [found[number] for number in range(len(derive))]


def _export_cudnn(
    request: ExportRequest, numbers: Sequence[int], derive: Sequence[DeriveRequest], where: str, bounds: Bounds | None
) -> dict[int, HarnessError]:
    """Export those jobs a second time with cuDNN's attention, where they have any; why not is declared. Return those
    whose declaration cannot be read.
    """
    declared, broken = dict[int, dict[str, Any]](), dict[int, HarnessError]()
    for n in numbers:
        try:
            if request.jobs[n].platform == "gpu" and _has_attention(derive[n]):
                declared[n] = read_declared(Path(derive[n].folder))
        except SubmissionError as error:
            broken[n] = SubmissionError(f"{where}: {error}")
    if not declared:
        return broken
    jobs = tuple(
        replace(request.jobs[n], way="cudnn", arguments=tuple(found.get("arguments", ())))
        for n, found in declared.items()
    )
    with Child("export", where, "cudnn", bounds) as exporter:
        answers = exporter.ask(replace(request, jobs=jobs), len(jobs))
        for number, answer in zip(declared, answers, strict=True):
            if problem := str(answer) if isinstance(answer, HarnessError) else answer["error"]:
                folder = Path(derive[number].folder)
                for file in folder.glob("*.cudnn.mlir"):
                    file.unlink()
                (folder / DECLARED).write_text(json.dumps(declared[number] | {"cudnn": problem}))
    return broken


def _bounds(request: ExportRequest, requires: Sequence[str]) -> Bounds | None:
    """Return what an exporter may do; None for one that imports no submission."""
    if request.submission is None:
        return None
    workloads = {Path(job.workload) for job in request.jobs}
    return confinement.of_submission(Path(request.submission), workloads, [job.out for job in request.jobs], requires)


def _has_attention(request: DeriveRequest) -> bool:
    """Whether what was exported has attention by HARNESS_ATTENTION: the workload says, or its own program has both."""
    if request.workload is None:
        choices = read_declared(Path(request.folder)).get("choices", {})
        return any("HARNESS_ATTENTION" in choice for choice in choices.values())
    own = store.read(request.workload)
    return own is not None and own.manifest.has("cudnn")
