"""A plan carried out: its searches, then the trials, whose points they choose."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from harness.campaign import plan, searches
from harness.campaign.launch import gpus
from harness.campaign.plan import Plan, PlannedTrial
from harness.campaign.searches import PlannedSearch
from harness.campaign.tuned_point import Choice
from harness.errors import HarnessError
from harness.record import run_folder
from harness.record.search_record import SearchRun


def run_plan(
    planned: Plan,
    names: Sequence[str],
    run_one: Callable[[PlannedTrial, gpus.Slot], object],
    *,
    on_run: Callable[[PlannedSearch, SearchRun], None],
    on_problem: Callable[[HarnessError], None],
    on_choices: Callable[[Sequence[Choice]], None],
) -> Plan:
    """Run what a plan leaves to run and return the plan as it stands then.

    Searches come first; the plan of the submissions `names` is made again once they have chosen. `on_run` is called
    with each run of a search. What cannot be run is handed to `on_problem` and stops none of the others. Finished
    trials do not run again; they count as asked for now, so that `harness score` shows them and no experiment of
    between.
    """
    plan.record(planned)
    for search in planned.due:
        try:
            searches.run(search, functools.partial(on_run, search))
        except HarnessError as error:
            on_problem(error)
    if planned.due:
        planned = plan.make_plan(planned.run, list(names))
        on_choices(planned.choices)
        plan.record(planned)
    for trial in planned.trials:
        if not trial.runnable:
            run_folder.ask_again(trial.path)
    for problem in gpus.run_all(planned.runnable, run_one):
        on_problem(problem)
    return planned
