"""The record of a search: runs that no clock measured, and for the search of a trial's point what was asked.

A JSON-lines file. The search that chose the point of fresh seeds lies beside their run folders, as
`<out>/<workload>/<submission>/search.jsonl`: its first line says what was asked, each other one is a run. The file is
written anew, in one piece, after each run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import RunFolderError
from harness.record import plain_data
from harness.record.files import write_text_atomic
from harness.record.spec import Mode, Value


@dataclass(frozen=True)
class SearchRun:
    """One run without a clock: a line of a record.

    Attributes:
      role: "tuning" (on tuning seeds, none of which is scored) or "scoring" (set a target, on fresh seeds).
      study: what its random streams were drawn from, with the seed.
      status: "running" as far as `steps` go, or "diverged".
      steps, values: the measurements of the target's metric.
      seconds: of training and measuring.
      machine: processor, cores that the run had, and versions.
      workload_program, program: ids of the programs that ran; None in records that are older than programs.
    """

    workload: str
    workload_hash: str
    submission: str
    submission_hash: str
    role: Literal["tuning", "scoring"]
    hyperparameters: dict[str, Value]
    seed: int
    study: int
    status: str
    steps: tuple[int, ...]
    values: tuple[float | None, ...]
    seconds: float
    machine: str
    workload_program: str | None = None
    program: str | None = None

    @property
    def point(self) -> tuple[str, dict[str, Value]]:
        """What was run: the submission's name and its hyperparameters."""
        return self.submission, self.hyperparameters


@dataclass(frozen=True)
class Asked:
    """What a search on one workload is to decide between, and by what.

    Attributes:
      target: of the metric; None where none is set.
      rungs: the steps at which the points are halved, the first of them first.
      budget_steps: where a run ends that does not reach the target.
      points: all of them, in the order that settles ties.
    """

    submission: str
    workload: str
    metric: str
    mode: Mode
    target: float | None
    rungs: tuple[int, ...]
    budget_steps: int
    points: tuple[dict[str, Value], ...]


@dataclass(frozen=True)
class SearchRecord:
    """What was asked, and the runs so far."""

    asked: Asked
    runs: tuple[SearchRun, ...] = ()


def file_of(folder: Path, max_steps: int | None = None) -> Path:
    """Return where the search lies beside the run folders in `folder`; that of a smoke test is a file of its own."""
    return folder / ("search.jsonl" if max_steps is None else f"search-{max_steps}.jsonl")


def read(file: Path) -> SearchRecord | None:
    """Return the record; None where there is no file. Raises RunFolderError naming the line where it is damaged."""
    if not file.is_file():
        return None
    lines: list[Any] = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        try:
            lines.append(json.loads(line))
        except ValueError:
            raise RunFolderError(f"{file}: line {number} is damaged; remove the file to search anew") from None
    return from_plain(lines, str(file))


def from_plain(lines: list[Any], where: str) -> SearchRecord:
    """Return the record that these lines hold. Raises RunFolderError where they hold none."""
    if not lines or not isinstance(lines[0], dict) or "asked" not in lines[0]:
        raise RunFolderError(f"{where}: the line that says what was asked is missing; remove it to search anew")
    asked = plain_data.read(Asked, lines[0]["asked"], f"{where}: asked", RunFolderError)
    runs = (
        plain_data.read(SearchRun, line, f"{where}: line {n}", RunFolderError) for n, line in enumerate(lines[1:], 2)
    )
    return SearchRecord(asked, tuple(runs))


def to_plain(record: SearchRecord) -> list[Any]:
    """Return the lines; the order of the runs does not depend on which ended first."""

    def order(run: SearchRun) -> tuple[int, int]:
        points = record.asked.points
        return run.study, points.index(run.hyperparameters) if run.hyperparameters in points else len(points)

    runs = sorted(record.runs, key=order)
    return [{"asked": plain_data.to_plain(record.asked)}, *map(plain_data.to_plain, runs)]


def write(file: Path, record: SearchRecord) -> None:
    """Write the record in one piece."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(file, "".join(json.dumps(line) + "\n" for line in to_plain(record)))
