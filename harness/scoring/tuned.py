"""Which points the fresh seeds were run with, and whether that is what the searches beside them chose."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from harness.campaign.tuned_point import Choice, choose
from harness.record.run_folder import Trial
from harness.record.search_record import SearchRecord
from harness.scoring.studies import Redrawn

_Cell: TypeAlias = tuple[str, str]


def choices(scored: Sequence[Trial]) -> tuple[tuple[Choice, ...], list[str]]:
    """Return the choice of each submission and workload, sorted, and a line on each that does not add up."""
    cells: dict[tuple[str, str], list[Trial]] = {}
    for trial in scored:
        if trial.search is not None:
            cells.setdefault((trial.spec.submission, trial.spec.workload), []).append(trial)
    made, notes = [], []
    for (submission, workload), trials in sorted(cells.items()):
        record = trials[0].search
        assert record is not None
        choice = choose(record)
        if choice is None:
            notes.append(f"the search for the point of {submission} on {workload} is not finished")
            continue
        if any(trial.spec.hyperparameters != choice.point for trial in trials):
            notes.append(
                f"the fresh seeds of {submission} on {workload} were run with another point than {choice.winner}, "
                "which the search here chooses; `harness run` runs that one"
            )
        elif not _of_these(record, choice, trials):
            notes.append(
                f"the search for the point of {submission} on {workload} was of other programs than its fresh seeds"
            )
            continue
        made.append(choice)
    return tuple(made), notes


def _of_these(record: SearchRecord, choice: Choice, trials: Sequence[Trial]) -> bool:
    """Whether the search ran the winner as the program that the fresh seeds ran."""
    ran = {(run.workload_program, run.program) for run in record.runs if run.hyperparameters == choice.point}
    return all((trial.spec.workload_program, trial.spec.program) in ran for trial in trials)


def redrawn(choices: Iterable[Choice]) -> dict[_Cell, Redrawn]:
    """Return by submission and workload what other tuning seeds might have chosen."""
    found = {(one.submission, one.workload): redraw(*one.finalists) for one in choices if len(one.finalists) == 2}
    return {cell: one for cell, one in found.items() if one.share > 0}


def redraw(winner: Sequence[float], other: Sequence[float]) -> Redrawn:
    """Draw the tuning seeds of the two points that went last, in every way with replacement, the same for both.

    The runner-up's time over the winner's is that of their medians over the seeds as they were; 1 where both missed.
    """
    n = len(winner)
    draws = list(itertools.product(range(n), repeat=n))
    turned = sum(_median(other, draw) < _median(winner, draw) for draw in draws)
    own, others = _median(winner, range(n)), _median(other, range(n))
    factor = 1.0 if math.isinf(own) else others / own
    return Redrawn(turned / len(draws), factor)


def _median(costs: Sequence[float], draw: Iterable[int]) -> float:
    return statistics.median_low(costs[i] for i in draw)
