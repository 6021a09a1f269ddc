"""From a plan to jobs of an engine that outlives the command, and how those stand."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from harness.campaign import plan
from harness.campaign.launch import background, jobs, slurm
from harness.campaign.launch.jobs import Batch, Job, Seen
from harness.campaign.plan import Plan, PlannedTrial
from harness.campaign.searches import PlannedSearch
from harness.errors import ConfigError, HarnessError, MachineError, RunFolderError
from harness.record import run_folder
from harness.record.result import FAILED, UNFINISHED, Status
from harness.record.run_folder import Trial
from harness.record.spec import LauncherConfig, RunSpec


class Engine(Protocol):
    """Where jobs run: a module with these functions."""

    @property
    def check(self) -> Callable[[RunSpec], None]:
        """Raises ConfigError where it cannot take jobs of such a request."""

    @property
    def submit(self) -> Callable[[Path, Batch, RunSpec], str]:
        """Hands it the batch of a folder; returns its id."""

    @property
    def seen(self) -> Callable[[Sequence[tuple[Path, Batch]]], dict[tuple[Path, int], Seen]]:
        """Returns how jobs stand, by folder and number; those it no longer knows are missing."""


ENGINES: dict[str, Engine] = {"background": background, "slurm": slurm}
SILENT = "as its files say"
LOCAL = LauncherConfig("local", "local")
State = Literal["pending", "running", "done", "failed"]


@dataclass(frozen=True)
class Submitted:
    """What one command has submitted: `folder` of its batch (None: there was nothing to submit), how many trials and
    searches were left to jobs or processes that are at them already, and those `jobs`.
    """

    folder: Path | None
    batch: Batch
    left: int
    jobs: tuple[Standing, ...] = ()


@dataclass(frozen=True)
class Standing:
    """How a job stands.

    Attributes:
      folder, number: of its batch, and its number there.
      id: as the engine calls it.
      state: "failed" too where it was ended before it was done.
      why: why it waits, or failed; "" where there is nothing to say.
      host: where it runs, or ran last.
      trials: those with a run folder.
      last: the last line of its log.
      typed: the command that submitted it; "" where it is not known.
      engine: that has it.
    """

    folder: Path
    number: int
    job: Job
    id: str
    state: State
    why: str
    host: str
    trials: tuple[Trial, ...]
    last: str
    typed: str = ""
    engine: jobs.Engine = "slurm"

    @property
    def active(self) -> bool:
        """Whether it runs, or will."""
        return self.state in ("pending", "running")


def check(run: RunSpec) -> None:
    """Raise ConfigError where the launcher cannot do what was asked for."""
    if run.launcher.engine == "local":
        return
    if run.profile:
        raise ConfigError("profile=true traces under launcher=local alone; type it again without launcher=")
    if run.max_hours is not None:
        raise ConfigError(
            "max_hours ends what the command itself runs (launcher=local); of jobs it is launcher.hours, after which "
            "they go on as others"
        )
    ENGINES[run.launcher.engine].check(run)


def submit(planned: Plan, typed: str = "") -> Submitted:
    """Hand to the launcher what a plan leaves to run, a job for each program and search, but what runs already. `typed`
    is the command, for people.

    Raises HarnessError where the engine takes no such job; nothing is left of the attempt then but the run folders.
    """
    run = planned.run
    engine, out = run.launcher.engine, Path(run.out).absolute()
    assert engine != "local"
    plan.record(planned)
    for trial in planned.trials:
        if not trial.runnable:
            run_folder.ask_again(trial.path)
    at_work = [standing for standing in standings(out) if standing.active]
    folders = {member.folder for one in at_work for member in one.job.trials}
    searched = {_of(one.job.search) for one in at_work if one.job.search}
    trials = [t for t in planned.runnable if t.status is not Status.RUNNING and t.spec.folder not in folders]
    searches = [jobs.of_search(search, _told(search, out)) for search in planned.due]
    new = [job for job in searches if job.search and _of(job.search) not in searched]
    batch = Batch(engine, (*new, *jobs.grouped(map(_ready, trials))), typed=typed)
    left = len(planned.runnable) - len(trials) + len(searches) - len(new)
    wanted = {trial.spec.folder for trial in planned.runnable}, {_of(job.search) for job in searches if job.search}
    at_these = tuple(one for one in at_work if _is_at(one.job, *wanted))
    if not batch.jobs:
        return Submitted(None, batch, left, at_these)
    folder = jobs.create(out)
    jobs.write(folder, batch)
    try:
        batch = replace(batch, id=ENGINES[engine].submit(folder, batch, run))
    except HarnessError:
        shutil.rmtree(folder)
        raise
    jobs.write(folder, batch)
    return Submitted(folder, batch, left, at_these)


def _is_at(job: Job, folders: Collection[str], searched: Collection[tuple[object, ...]]) -> bool:
    return any(m.folder in folders for m in job.trials) or bool(job.search and _of(job.search) in searched)


def _told(search: PlannedSearch, out: Path) -> RunSpec:
    """Return what the job of a search goes by, in whatever folder it runs."""
    pairing = search.pairing
    return replace(pairing.run, workload=str(pairing.place.path), out=str(out), launcher=LOCAL)


def _ready(trial: PlannedTrial) -> PlannedTrial:
    plan.make_ready(trial)
    return trial


def _of(search: jobs.Search) -> tuple[object, ...]:
    run = search.run
    return search.submission, run.workload, run.rules, run.seed, run.max_steps, run.device


def standings(out: Path, on_silent: Callable[[HarnessError], object] | None = None) -> list[Standing]:
    """Return how the jobs of an output folder stand, the oldest first. Of a job whose trials a later one has taken over
    nothing is told.

    Where an engine does not answer, `on_silent` is told why, and jobs stand as their files say: one that has not ended
    by itself is taken to run, or to wait. Without `on_silent` MachineError is raised there, or ConfigError where the
    engine's commands are not here.
    """
    batches = [(folder, jobs.read(folder / "jobs.json")) for folder in jobs.folders(out)]
    seen: dict[tuple[Path, int], Seen] = {}
    for name in dict.fromkeys(batch.engine for _, batch in batches):
        of = [(folder, batch) for folder, batch in batches if batch.engine == name]
        try:
            seen |= ENGINES[name].seen(of)
        except (ConfigError, MachineError) as error:
            if on_silent is None:
                raise
            on_silent(error)
            seen |= {key: told for folder, batch in of for key, told in _from_files(folder, batch).items()}
    found: list[Standing] = []
    taken: set[object] = set()
    for folder, batch in reversed(batches):
        here = []
        for number, job in enumerate(batch.jobs):
            keys: set[object] = {_of(job.search)} if job.search else {member.folder for member in job.trials}
            if not keys <= taken:
                here.append(_standing(folder, batch, number, seen.get((folder, number))))
            taken |= keys
        found = here + found
    return found


def _from_files(folder: Path, batch: Batch) -> dict[tuple[Path, int], Seen]:
    """Return the jobs of a batch that have not ended, as their files tell."""
    found = {}
    for number, job in enumerate(batch.jobs):
        note = jobs.note(folder, number)
        trials = [trial for path in jobs.members(folder, batch, number) if (trial := _read(path))]
        if (note is None or note.code is None) and not _whole(job, note, trials):
            found[folder, number] = (
                Seen("PENDING", True, reason=SILENT) if note is None else Seen("RUNNING", True, note.host, SILENT)
            )
    return found


def _standing(folder: Path, batch: Batch, number: int, seen: Seen | None) -> Standing:
    job, note = batch.jobs[number], jobs.note(folder, number)
    trials = [trial for path in jobs.members(folder, batch, number) if (trial := _read(path))]
    state: State
    why = ""
    if seen is not None and seen.active:
        state = "running" if seen.state in ("RUNNING", "COMPLETING") else "pending"
        why = seen.reason or seen.state.lower() if state == "pending" or seen.reason == SILENT else ""
    elif any(trial.status is Status.RUNNING for trial in trials):
        state, why = "running", "another process is at it"
    elif _whole(job, note, trials):
        state = "done"
    else:
        state = "failed"
        ended = next((trial for trial in trials if trial.status in FAILED), None)
        lost = next((trial for trial in trials if trial.status in UNFINISHED), None)
        told = seen.state.lower() if seen is not None else ""
        if ended is not None:
            why = f"{ended.spec.number} {ended.status}: retry=true runs it again"
        else:
            why = ", ".join(filter(None, (told, "not finished" if lost or job.search else "")))
    one = len(batch.jobs) == 1 or batch.engine != "slurm"
    id = "-" if batch.id is None else batch.id if one else f"{batch.id}_{number}"
    host = (seen.host if seen else "") or (note.host if note else "")
    last = jobs.last_line(folder / f"{number}.log")
    return Standing(folder, number, job, id, state, why, host, tuple(trials), last, batch.typed, batch.engine)


def _whole(job: Job, note: jobs.Note | None, trials: Sequence[Trial]) -> bool:
    """Whether nothing is left of a job: its trials have ended, and none failed."""
    short = any(trial.status in FAILED | UNFINISHED for trial in trials)
    if job.search is not None:
        return note is not None and note.code == 0 and bool(note.trials) and not short
    return len(trials) == len(job.trials) and not short


def _read(path: Path) -> Trial | None:
    try:
        return run_folder.read_trial(path)
    except RunFolderError:  # damaged: `harness run` tells of it
        return None
