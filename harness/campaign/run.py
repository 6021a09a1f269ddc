"""A plan carried out: its searches, then the trials, whose points they choose."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence

from harness.campaign import plan, searches
from harness.campaign.launch import gpus
from harness.campaign.plan import Plan, PlannedTrial
from harness.campaign.searches import PlannedSearch
from harness.campaign.tuned_point import Choice
from harness.errors import HarnessError, of_machine
from harness.record import run_folder
from harness.record.search_record import SearchRun


@contextlib.contextmanager
def within(hours: float | None, told: Callable[[str], object]) -> Iterator[None]:
    """End what runs in the block as Ctrl-C does once so many hours are over: trials under way save and stop."""
    if hours is None:
        yield
        return

    def end() -> None:
        told(f"max_hours={hours:g} are over")
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(hours * 3600.0, end)
    timer.daemon = True
    timer.start()
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # what a script starts in the background is deaf to it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)


def run_plan(
    planned: Plan,
    names: Sequence[str],
    run_one: Callable[[PlannedTrial, gpus.Slot], object],
    *,
    on_run: Callable[[PlannedSearch, SearchRun], None],
    on_problem: Callable[[HarnessError], None],
    on_choices: Callable[[Sequence[Choice]], None],
    on_trials: Callable[[Sequence[PlannedTrial], Sequence[PlannedTrial]], object] = lambda left, asked: None,
) -> Plan:
    """Run what a plan leaves to run and return the plan as it stands then.

    Searches come first; the plan of the submissions `names` is made again once they have chosen. `on_run` is called
    with each run of a search; `on_trials`, before the first trial begins, with those to run and with all that were
    asked for. What cannot be run is handed to `on_problem` and stops none of the others. The harness does not rerun
    finished trials; they count as asked for now, so that `harness score` shows them and no experiment of between.
    """
    plan.record(planned)
    for search in planned.due:
        try:
            searches.run(search, functools.partial(on_run, search))
        except HarnessError as error:
            on_problem(error)
        except OSError as error:
            on_problem(of_machine(error))
    if planned.due:
        planned = plan.make_plan(planned.run, list(names))
        on_choices(planned.choices)
        plan.record(planned)
    for trial in planned.trials:
        if not trial.runnable:
            run_folder.ask_again(trial.path)
    left = gpus.in_order(planned.runnable)
    on_trials(left, planned.trials)
    for problem in gpus.run_all(left, run_one):
        on_problem(problem)
    return planned
