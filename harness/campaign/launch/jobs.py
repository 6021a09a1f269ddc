"""What is handed to a launcher that outlives the command: jobs, written down below the output folder.

    <out>/jobs/<time>/jobs.json     a Batch: what one command has submitted, a job for each program
                      <n>.log       what job n prints, over all its attempts
                      submitit/     what submitit hands to the jobs of a cluster
                      <n>.json      a Note: what job n says of itself

A job names run folders, which are ready when it is submitted, or a search, whose trials follow from it. So it goes on
like any trial: exactly, under the folder's lock, whoever works on it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.campaign.plan import PlannedTrial
from harness.campaign.searches import PlannedSearch
from harness.errors import RunFolderError
from harness.record import plain_data, run_folder
from harness.record.files import write_atomic
from harness.record.spec import RunSpec

FOLDER = "jobs"
Engine = Literal["background", "slurm"]


@dataclass(frozen=True)
class Member:
    """A trial of a job: its run folder below the output folder, and those of its rivals (see `PlannedTrial`)."""

    folder: str
    rivals: tuple[str, ...] = ()


@dataclass(frozen=True)
class Search:
    """A search of a job, after which it runs the trials that follow: what was asked for, of this submission's path on
    this workload.
    """

    run: RunSpec
    submission: str


@dataclass(frozen=True)
class Job:
    """What one process works on, one thing after another: trials of one program, or a search. `title` is for people."""

    title: str
    trials: tuple[Member, ...] = ()
    search: Search | None = None


@dataclass(frozen=True)
class Batch:
    """The jobs of one command, which is `typed` ("" in older batches); `id` is the engine's (None until it has taken
    them): Slurm's, or of a process.
    """

    engine: Engine
    jobs: tuple[Job, ...]
    id: str | None = None
    schema: int = 1
    typed: str = ""


@dataclass(frozen=True)
class Note:
    """What a job says of itself: the host of its last attempt, its exit code once it ended by itself, and the run
    folders that followed from its search.
    """

    host: str
    code: int | None = None
    trials: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """How an engine says that a job stands, in its own words; `active`: it will run, or runs."""

    state: str
    active: bool
    host: str = ""
    reason: str = ""


def grouped(trials: Iterable[PlannedTrial]) -> list[Job]:
    """Return a job for each program on each device, its trials in their order."""
    found: dict[tuple[object, ...], list[PlannedTrial]] = {}
    for trial in trials:
        spec = trial.spec
        key = (spec.workload_program, spec.program, spec.submission, spec.device, spec.deterministic)
        found.setdefault(key, []).append(trial)
    return [
        Job(f"{group[0].spec.task} / {group[0].spec.submission}", tuple(map(_member, group)))
        for group in found.values()
    ]


def _member(trial: PlannedTrial) -> Member:
    return Member(trial.spec.folder, tuple(str(path.relative_to(trial.root)) for path in trial.rivals))


def of_search(search: PlannedSearch, run: RunSpec) -> Job:
    """Return the job of a search; `run` is what it goes by where it runs."""
    pairing = search.pairing
    title = f"{search.asked.workload} / {search.asked.submission}"
    return Job(title, search=Search(run, str(pairing.folder.path)))


def create(out: Path) -> Path:
    """Make the folder of a new batch and return it."""
    for number in range(1000):
        path = out / FOLDER / (time.strftime("%Y%m%d-%H%M%S") + (f"-{number}" if number else ""))
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise RunFolderError(f"{out / FOLDER}: a thousand batches in one second; remove those that are of no use")


def write(folder: Path, batch: Batch) -> None:
    """Write the batch of a folder."""
    write_atomic(folder / "jobs.json", plain_data.to_plain(batch))


def read(file: Path) -> Batch:
    """Read a `jobs.json`. Raises RunFolderError where it cannot be read."""
    batch = plain_data.read(Batch, plain_data.read_json(file, RunFolderError), str(file), RunFolderError)
    if batch.schema != 1:
        raise RunFolderError(f"{file}: schema {batch.schema}, this harness reads 1; move the folder away")
    return batch


def folders(out: Path) -> list[Path]:
    """Return the folders of batches below an output folder, the oldest first."""
    return sorted(file.parent for file in (out / FOLDER).glob("*/jobs.json"))


def out_of(folder: Path) -> Path:
    """Return the output folder that the folder of a batch lies in."""
    return folder.parent.parent


def note(folder: Path, number: int) -> Note | None:
    """Return what a job says of itself; None where it has not begun, or its note is being written."""
    file = folder / f"{number}.json"
    try:
        return plain_data.read(Note, plain_data.read_json(file, RunFolderError), str(file), RunFolderError)
    except RunFolderError:
        return None


def members(folder: Path, batch: Batch, number: int) -> list[Path]:
    """Return the run folders of a job that are there."""
    job, said = batch.jobs[number], note(folder, number)
    names = [member.folder for member in job.trials] if job.search is None else list(said.trials if said else ())
    return [path for name in names if (path := out_of(folder) / name) and (path / "spec.json").exists()]


def planned(folder: Path, job: Job) -> list[PlannedTrial]:
    """Return the trials of a job as they stand. Raises RunFolderError for a run folder that is gone or damaged."""
    out, found = out_of(folder), []
    for member in job.trials:
        trial = run_folder.read_trial(out / member.folder)
        options = run_folder.read_spec(trial.path)[1]
        rivals = tuple(out / name for name in member.rivals)
        found.append(PlannedTrial(trial.spec, options, out, trial.path, trial.status, False, None, rivals))
    return found


def last_line(file: Path) -> str:
    """Return the last line of a log that says something; "" where there is none."""
    try:
        with file.open("rb") as log:
            log.seek(max(0, file.stat().st_size - 8192))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
