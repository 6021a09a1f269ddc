"""A job at work: its trials one after another, or a search and the trials that follow from it. What another process
holds is left to that one, and is no failure. A person can do one too: `python -m harness.campaign jobs.json --job N`.

A job that begins again may find its own locks held: those of a host that was lost stay on a shared disk until the
server there takes them back. It waits for that, `LEASE_S` at most.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from harness.campaign import plan, searches
from harness.campaign.launch import jobs, local, plan_runs, requeue
from harness.campaign.launch.jobs import Job, Note
from harness.campaign.plan import PlannedTrial
from harness.errors import ConfigError, HarnessError, HeldError
from harness.machine import hardware
from harness.record import run_folder
from harness.record.files import write_atomic
from harness.record.plain_data import to_plain
from harness.record.search_record import SearchRun

STEPS = ("chunk", "measurement", "end")
LEASE_S = 150.0
"""So long may a shared disk keep the locks of a host that is gone: a server of NFS 4 does for 90 seconds."""


class _Work:
    """A job at work: what it says of itself, how many attempts came before, whether something came of this one, whether
    its time is over.
    """

    def __init__(self, folder: Path, number: int):
        self.moved = self.late = False
        self.earlier = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        self._file = folder / f"{number}.json"
        before = jobs.note(folder, number)
        self._note = Note(socket.gethostname(), trials=before.trials if before else ())
        self.say()

    def say(self, **told: Any) -> None:
        """Write the note."""
        self._note = replace(self._note, **told)
        write_atomic(self._file, to_plain(self._note))

    def on_event(self, event: dict[str, Any]) -> None:
        """Take in an event of a trial."""
        self.moved = self.moved or event["event"] in STEPS

    def on_late(self, number: int, frame: FrameType | None) -> None:
        """End as at Ctrl-C: the trial under way saves."""
        self.late = True
        os.kill(os.getpid(), signal.SIGINT)


def call(file: str, number: int) -> NoReturn:
    """Do a job and end the process, for Slurm to learn how: what submitit calls."""
    sys.exit(run(Path(file), number))


def run(file: Path, number: int) -> int:
    """Do what job `number` of a batch leaves to do; return the exit code: that of `harness.campaign.plan_file.run`, or
    130 where it was stopped.
    """
    batch = jobs.read(file)
    if not 0 <= number < len(batch.jobs):
        raise ConfigError(f"{file}: --job {number}: expected 0 to {len(batch.jobs) - 1}")
    work = _Work(file.parent, number)

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if batch.engine == "slurm":
        signal.signal(signal.Signals[f"SIG{requeue.LATE}"], work.on_late)
    where = socket.gethostname()
    if "CUDA_VISIBLE_DEVICES" in os.environ:  # as the cluster has set it
        where += f", GPUs {','.join(hardware.visible_gpus())}"
    again = f", attempt {work.earlier + 1}" if work.earlier else ""
    print(f"{batch.jobs[number].title}: job {number} on {where}{again}", flush=True)
    try:
        code = _do(file.parent, batch.jobs[number], work)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
        if work.late:
            _go_on_later(work)
        else:
            print("stopped; what had begun is saved", flush=True)
    work.say(code=code)
    return code


def _go_on_later(work: _Work) -> None:
    """Put the job in the queue again, unless nothing came of the time that it had."""
    if not work.moved:
        print("error: the time limit came before a step was made; ask for more with launcher.hours=", file=sys.stderr)
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # by which Slurm ends what it puts in the queue again
    if (why := requeue.requeue()) is None:
        print("the time limit comes: saved, and put in the queue again", flush=True)
    else:
        print(f"error: the time limit comes, and Slurm does not put the job in the queue again: {why}", file=sys.stderr)


def _do(folder: Path, job: Job, work: _Work) -> int:
    if job.search is None:
        return _run_left(jobs.planned(folder, job), work)
    return _search(job.search, work)


def _run_left(trials: Sequence[PlannedTrial], work: _Work) -> int:
    _await_release(work, lambda: any(run_folder.holder(trial.path) for trial in trials))
    return plan_runs.run_left(trials, work.on_event, _note)


def _note(text: str) -> None:
    print(text.removesuffix(local.KILLS), flush=True)  # nobody is there to press again


def _await_release(work: _Work, held: Callable[[], bool]) -> None:
    """Wait for what an attempt before this one may still hold."""
    if not work.earlier or not held():
        return
    print(f"waiting for locks, which a lost host may hold, {LEASE_S:g} s at most", flush=True)
    deadline = time.monotonic() + LEASE_S
    while held() and time.monotonic() < deadline:
        time.sleep(0.5)


def _is_held(file: Path) -> bool:
    try:
        with searches.held(file):
            return False
    except HeldError:
        return True


def _search(search: jobs.Search, work: _Work) -> int:
    codes = [0]

    def on_problem(problem: HarnessError) -> None:
        print(f"error: {problem}", file=sys.stderr, flush=True)
        codes.append(0 if isinstance(problem, HeldError) else problem.exit_code)

    def on_run(run: SearchRun) -> None:
        work.moved = True
        print(f"tuning seed {run.study}, {run.hyperparameters}: step {run.steps[-1]}: {run.values[-1]:.4g}", flush=True)

    planned = plan.make_plan(search.run, [search.submission])
    plan.record(planned)
    for due in planned.due:
        _await_release(work, functools.partial(_is_held, due.file))
        try:
            searches.run(due, on_run)
        except HarnessError as error:
            on_problem(error)
    if planned.due:
        planned = plan.make_plan(search.run, [search.submission])
        plan.record(planned)
        print(*(choice.text for choice in planned.choices), sep="\n", flush=True)
    for problem in planned.problems:
        on_problem(problem)
    for trial in planned.runnable:
        plan.make_ready(trial)
    work.say(trials=tuple(trial.spec.folder for trial in planned.trials))
    return max([*codes, _run_left(planned.trials, work)])
