"""How the jobs stand that `harness run launcher=...` has submitted, for people and for programs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.campaign.launch import submitting
from harness.campaign.launch.submitting import Standing, Submitted
from harness.errors import HarnessError, RunFolderError
from harness.record.result import FAILED, UNFINISHED
from harness.report.progress import Progress
from harness.report.tables import print_line, print_table

SCHEMA = 1
HEAD = ("job", "what", "state", ">trials", "host", "why", "last line")
EVERY_S = 5.0
MOST = 5  # jobs that are named one by one
ENDS = {"slurm": "scancel", "background": "kill"}


def found(out: Path, on_silent: Callable[[HarnessError], object] | None = None) -> list[Standing]:
    """Return how the jobs of an output folder stand; `on_silent` as in `submitting.standings`. Raises RunFolderError
    where there are none.
    """
    if not (standings := submitting.standings(out, on_silent)):
        submits = "`harness run ... launcher=slurm` submits some, launcher=background without a cluster"
        raise RunFolderError(f"no jobs were submitted for {out}; {submits}")
    return standings


def print_standings(standings: Sequence[Standing]) -> None:
    """Print a row for each job, how many there are of each state, and what goes on with those that failed."""
    print_table(HEAD, [_row(one) for one in standings])
    print_line(summary(standings))
    failed = [one for one in standings if one.state == "failed"]
    for typed in dict.fromkeys(one.typed for one in failed):
        print_line(f"to go on: {typed or 'the command that submitted it, again'}")
    if any(trial.status in FAILED for one in failed for trial in one.trials):
        print_line("trials that failed run again with retry=true in it")


def _row(one: Standing) -> tuple[str, ...]:
    at = "step {} of {}".format(*known) if (known := step(one)) else one.last
    return one.id, one.job.title, one.state, _count(one), one.host or "-", one.why or "-", at or "-"


def step(one: Standing) -> tuple[int, int] | None:
    """Return the step that the trial under way has come to, and how many there are at most; None where none is under
    way, or has made a step.
    """
    if one.state == "running":
        for trial in one.trials:
            made = [event for event in trial.events if event["event"] == "chunk"]
            if made and trial.status in UNFINISHED:
                return made[-1]["step"], Progress(trial.spec).limit
    return None


def _count(one: Standing) -> str:
    ended = sum(trial.status not in UNFINISHED for trial in one.trials)
    return f"{ended} of {len(one.trials) if one.job.search else len(one.job.trials)}"


def summary(standings: Sequence[Standing]) -> str:
    """Return one line on how many jobs there are of each state."""
    counts = Counter(one.state for one in standings)
    told = ", ".join(f"{counts[state]} {state}" for state in ("pending", "running", "done", "failed") if counts[state])
    return f"{len(standings)} job{'s' * (len(standings) != 1)}: {told}"


def as_json(standings: Sequence[Standing]) -> dict[str, Any]:
    """Return what `harness status --json` prints."""
    return {
        "schema": SCHEMA,
        "jobs": [
            {
                "job": one.id,
                "title": one.job.title,
                "state": one.state,
                "why": one.why,
                "host": one.host,
                "search": one.job.search is not None,
                "trials": [{"path": str(trial.path), "status": trial.status} for trial in one.trials],
                "log": str(one.folder / f"{one.number}.log"),
                "step": dict(zip(("made", "of"), known, strict=True)) if (known := step(one)) else None,
                "last_line": one.last,
                "typed": one.typed,
            }
            for one in standings
        ],
    }


def print_submitted(made: Submitted, out: str) -> None:
    """Print what was submitted, and how to follow and end it."""
    if made.left:
        print(f"{made.left} left to jobs and processes that are at them already")
    for one in made.jobs[:MOST]:
        print(f"  {one.id} {one.job.title}: {one.state}{f' ({one.why})' if one.why else ''}")
    if len(made.jobs) > MOST:
        print(f"  and {len(made.jobs) - MOST} further jobs")
    where = f" {out}" if out != "runs" else ""
    if made.jobs:
        ends = list(dict.fromkeys(f"`{ENDS[one.engine]} {one.id}`" for one in made.jobs[:MOST]))
        print(f"`harness status{where}` tells how they stand; {' and '.join(ends)} end{'s' * (len(ends) == 1)} them")
    if made.folder is None:
        print("nothing to submit")
        return
    count, batch = len(made.batch.jobs), made.batch
    trials, searches = sum(len(job.trials) for job in batch.jobs), sum(job.search is not None for job in batch.jobs)
    told = [f"{trials} trial{'s' * (trials != 1)}"] if trials else []
    if searches:
        told.append(f"{searches} search{'es' * (searches != 1)} and the trials that follow")
    print(f"submitted {count} job{'s' * (count != 1)} ({', '.join(told)}) as {batch.id}; logs in {made.folder}")
    command = f"{ENDS[batch.engine]} {batch.id}"
    print(
        f"`harness status{where}` tells how they stand; `{command}` ends them, and what has begun is saved", flush=True
    )


def follow(
    out: Path, every_s: float = EVERY_S, on_silent: Callable[[HarnessError], object] | None = None
) -> list[Standing]:
    """Print a line for each job whose state changes until none runs or waits any more; return how they stand then.
    `on_silent` is told once that an engine does not answer.
    """
    told: dict[tuple[Path, int], tuple[str, ...]] = {}
    silent: list[HarnessError] = []

    def on_first(error: HarnessError) -> None:
        if not silent and on_silent is not None:
            on_silent(error)
        silent.append(error)

    while True:
        standings = submitting.standings(out, on_first)
        for one in standings:
            now = (one.state, _count(one), one.why)
            if told.get((one.folder, one.number)) != now:
                told[one.folder, one.number] = now
                why = f" ({one.why})" if one.why else ""
                print(f"{one.id} {one.job.title}: {one.state}, {_count(one)} trials{why}", flush=True)
        if not any(one.active for one in standings):
            return standings
        time.sleep(every_s)
