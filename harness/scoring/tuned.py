"""Which points the fresh seeds were run with, and whether that is what their tuning trials chose."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from harness.campaign.tuned_point import Choice, choose
from harness.record.result import UNFINISHED
from harness.record.run_folder import Trial
from harness.scoring.outcomes import outcome, settled
from harness.scoring.studies import Redrawn

_Cell: TypeAlias = tuple[str, str]


def choices(tuning: Sequence[Trial], scored: Sequence[Trial]) -> tuple[tuple[Choice, ...], list[str]]:
    """Return the choice of each submission and workload, sorted, and a line on each that does not add up."""
    found: dict[_Cell, list[Trial]] = {}
    for trial in tuning:
        found.setdefault((trial.spec.submission, trial.spec.workload), []).append(trial)
    made, notes = [], []
    for (submission, workload), trials in sorted(found.items()):
        finished = [trial for trial in trials if trial.status not in UNFINISHED]
        due = max(trial.spec.trials or 0 for trial in trials)
        whole = all(one.finished for one in settled(map(outcome, trials)))
        if len(finished) < max(due, 1) or not whole:
            notes.append(f"{len(finished)} of {due} tuning trials of {submission} on {workload} are here and finished")
            continue
        choice = choose(finished)
        made.append(choice)
        points = [
            t.spec.hyperparameters for t in scored if (t.spec.submission, t.spec.workload) == (submission, workload)
        ]
        if any(point != choice.point for point in points):
            notes.append(
                f"the fresh seeds of {submission} on {workload} were run with another point than {choice.winner}, "
                "which the tuning trials here choose; `harness run` runs that one"
            )
    return tuple(made), notes


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
