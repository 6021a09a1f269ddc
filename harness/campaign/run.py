"""A plan carried out: its trials, then those that had to wait for their results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from harness.campaign import plan
from harness.campaign.launch import gpus
from harness.campaign.plan import Plan, PlannedTrial
from harness.campaign.tuned_point import Choice
from harness.errors import HarnessError


def run_plan(
    planned: Plan,
    names: Sequence[str],
    run_one: Callable[[PlannedTrial, gpus.Slot], object],
    *,
    on_problem: Callable[[HarnessError], None],
    on_choices: Callable[[Sequence[Choice]], None],
) -> Plan:
    """Run what a plan leaves to run and return the plan as it stands then.

    Where trials wait for tuning trials to choose their point, the plan of the submissions `names` is made again once
    these have ended. A trial that cannot be run is handed to `on_problem` and stops none of the others.
    """
    tried: set[Path] = set()
    while left := [trial for trial in planned.runnable if trial.path not in tried]:
        plan.record(planned)
        tried.update(trial.path for trial in left)
        for problem in gpus.run_all(left, run_one):
            on_problem(problem)
        if planned.later:
            planned = plan.make_plan(replace(planned.run, retry=False), list(names))
            on_choices(planned.choices)
    plan.record(planned)
    return planned
