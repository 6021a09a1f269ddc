"""What is left of planned trials, run with a line on how each ended: by `python -m harness.campaign`, which may be
typed several times for one folder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from harness.campaign.device import resolve_device
from harness.campaign.launch import gpus, local
from harness.campaign.plan import PlannedTrial
from harness.errors import HarnessError, HeldError
from harness.machine import load
from harness.record import run_folder
from harness.record.result import FAILED, UNFINISHED, Status
from harness.record.spec import DeviceConfig


def run_left(
    trials: Sequence[PlannedTrial],
    on_event: Callable[[local.Event], None] = lambda event: None,
    note: Callable[[str], None] = print,
) -> int:
    """Run the trials that are left, one on each card that is visible; return the exit code: 0, or 1 where one failed,
    now or earlier, 2 for a run folder that cannot be used, 3 for missing data.

    Raises ConfigError where the device that the trials are for is not there.

    One that another process holds is left to it. Those whose process has ended since without finishing them are taken
    up once the others are done.
    """
    ended = [trial.status for trial in trials if not trial.runnable]
    problems: list[HarnessError] = []
    held: list[PlannedTrial] = []

    def one(trial: PlannedTrial, slot: gpus.Slot) -> None:
        try:
            end = local.run_trial(
                trial, on_event, note=note, environment=slot.environment, presses=slot.presses, worker=slot.worker
            )
        except HeldError as error:
            print(f"{trial.spec.folder}: left to {str(error).split(' is held by ')[-1].split(';')[0]}", flush=True)
            held.append(trial)
            return
        ended.append(end.status)
        print(f"{trial.spec.folder}: {end.status}: {end.reason}", flush=True)

    left = gpus.in_order([trial for trial in trials if trial.runnable])
    if any(trial.spec.device == "gpu" for trial in left):
        resolve_device(DeviceConfig("gpu"))
    timed = any(trial.spec.max_steps is None for trial in left)
    if busy := load.warning(load.others()) if timed else None:
        print(f"note: {busy}", file=sys.stderr, flush=True)
    while left:
        held.clear()
        for problem in gpus.run_all(left, one):
            print(f"error: {problem}", file=sys.stderr, flush=True)
            problems.append(problem)
        left = [trial for trial in held if _free(trial)]
    short = any(status in FAILED | UNFINISHED for status in ended)
    return max([problem.exit_code for problem in problems], default=int(short))


def _free(trial: PlannedTrial) -> bool:
    return run_folder.read_trial(trial.path).status in UNFINISHED - {Status.RUNNING}
