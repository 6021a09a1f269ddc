"""`harness watch`: a campaign that runs elsewhere, followed through its run folders."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.errors import RunFolderError
from harness.record import run_folder
from harness.record.result import Status
from harness.record.run_folder import Trial
from harness.report import progress
from harness.report.tables import layout, print_line, print_table

HEAD = ("workload", "submission", "seed", "study/trial", "status", ">step", ">validation", ">target", "reason")
EVERY_S = 2.0
ORDER = (Status.RUNNING, Status.PLANNED, Status.INTERRUPTED)  # first what goes on


def follow(places: Sequence[Path], *, once: bool = False, every_s: float = EVERY_S) -> list[Trial]:
    """Show the trials at or below `places` until none of them runs any more; return them.

    On a terminal the table is drawn anew; elsewhere a line tells of each trial that goes on. Raises RunFolderError
    where there is no run folder.
    """
    trials = _read(places)
    if not trials:
        raise RunFolderError(f"no run folder at or below {', '.join(map(str, places))}; `harness run` makes some")
    if not once and sys.stdout.isatty():
        return _live(places, every_s)
    print_table(HEAD, [row(trial) for trial in ordered(trials)])
    print_line(summary(trials))
    told = {trial.path: _line(trial) for trial in trials}
    while not once and any(trial.status == Status.RUNNING for trial in trials):
        time.sleep(every_s)
        trials = _read(places)
        for trial in trials:
            if told.get(trial.path) != (line := _line(trial)):
                told[trial.path] = line
                print(line, flush=True)
    return trials


def _live(places: Sequence[Path], every_s: float) -> list[Trial]:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            trials = _read(places)
            cells = layout(HEAD, [row(trial) for trial in ordered(trials)], console.width)
            lines = [line for of_row in cells for line in of_row]
            live.update(Text("\n".join([*lines[: console.height - 3], summary(trials)])), refresh=True)
            if not any(trial.status == Status.RUNNING for trial in trials):
                return trials
            time.sleep(every_s)


def _read(places: Sequence[Path]) -> list[Trial]:
    """Return the trials that can be read; one that is just being written comes with the next look."""
    found = []
    for path in dict.fromkeys(path for place in places for path in run_folder.find_trials(place)):
        try:
            found.append(run_folder.read_trial(path))
        except RunFolderError as error:
            print(f"{path}: {error}", file=sys.stderr)
    return found


def ordered(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials with those that run first, those that ended last."""
    rank = {status: number for number, status in enumerate(ORDER)}
    key = [(rank.get(t.status, len(ORDER)), t.spec.task, t.spec.submission, t.spec.study, t.spec.trial) for t in trials]
    return [trials[n] for n in sorted(range(len(trials)), key=key.__getitem__)]


def row(trial: Trial) -> tuple[str, ...]:
    """Return a row below `HEAD`."""
    spec, known = trial.spec, _progress(trial)
    value = "-" if known.metric is None else f"{known.metric:.4f}"
    target = "-" if spec.target is None else f"{spec.target:.4f}"
    return (
        spec.task, spec.submission, str(spec.seed), spec.number, str(trial.status), f"{known.step}/{known.limit}",
        value, target, trial.reason,
    )  # fmt: skip


def summary(trials: Sequence[Trial]) -> str:
    """Return one line on how many trials there are of each status."""
    counts = Counter(str(trial.status) for trial in trials)
    told = ", ".join(f"{n} {status}" for status, n in counts.most_common())
    return f"{len(trials)} trial{'s' * (len(trials) != 1)}: {told}"


def _line(trial: Trial) -> str:
    known = _progress(trial)
    if trial.status == Status.RUNNING:
        known.status = None
    elif known.status is None:
        known.status, known.reason = str(trial.status), trial.reason
    return progress.line(known)


def _progress(trial: Trial) -> progress.Progress:
    known = progress.Progress(trial.spec)
    for event in trial.events:
        known.add(event)
    return known
