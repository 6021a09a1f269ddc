"""How hyperparameters are searched, by `rules=tuned` and by `scripts/tune.py` alike. No jax.

Two passes. All points run on the first tuning study and are halved on the way: the better half goes on past 25% of the
step hint, the best two past 50%. These run to the target, or to the end of the budget, on three tuning studies. The one
with the lower median over the studies wins; a miss is worse than any time, one that ended far from the target worse
than one that ended near it, and of equal ones the better metric decides. One lucky seed chooses nothing.

A search is on one workload (`rules=tuned`), or on several that share one setting (`scripts/tune.py`). It follows from
the runs alone: `Ask` gives them, out of a record (`recorded`) or by running what the record lacks
(`recorded_search.running`), so that it comes to the same whenever it was stopped.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from harness.program.workload import WorkloadInfo, next_measurement
from harness.record.search_record import Asked, SearchRecord, SearchRun
from harness.record.spec import Mode, Value
from harness.search import halving
from harness.search.targets import first_step

STUDIES = (0, 1, 2)  # tuning studies; all points run on the first of them
SEED = 0  # what the streams of tuning studies are drawn from: public, since none of them is scored
RUNGS = (0.25, 0.5)  # of the step hint: where the better half goes on, and the best two
FINALISTS = 2
FAR = 0.1  # of the target's value: a miss that ended so far from it counts as two budgets

Values: TypeAlias = Mapping[str, Value]
"""The hyperparameters of a point."""
Table: TypeAlias = list[list[list[SearchRun]]]
"""Runs by workload, by point, by study."""


class Ask(Protocol):
    """Gives the runs of points on tuning studies: up to step `until[i]` of workload i, or to the target or the end of
    the budget where none is given.
    """

    def __call__(
        self, points: Sequence[Values], studies: Sequence[int], until: Sequence[int] | None = None
    ) -> Table: ...


class NotRun(Exception):
    """A record lacks a run that the search wants next."""


@dataclass(frozen=True)
class Finished:
    """A point whose runs ended at the target or with the budget.

    Attributes:
      runs: by workload, by study.
    """

    point: Values
    runs: tuple[tuple[SearchRun, ...], ...]

    def steps(self, asked: Sequence[Asked]) -> list[list[int | None]]:
        """Return the steps to the target by workload and study, None for a miss."""
        return [
            [reached(run, one.target, one.mode) for run in runs] for one, runs in zip(asked, self.runs, strict=True)
        ]

    def best(self, asked: Sequence[Asked]) -> list[float | None]:
        """Return, by workload, the median over the studies of the best metric; None without one."""
        return [
            middle([best_value(run, one.mode) for run in runs], one.mode)
            for one, runs in zip(asked, self.runs, strict=True)
        ]


def rung_steps(info: WorkloadInfo) -> tuple[int, ...]:
    """Return the steps at which points are halved: the last measurement at or before each part of the step hint, which
    a run passes wherever it was begun.
    """
    found = []
    for part in RUNGS:
        step = following = next_measurement(info.step_hint, 0, info.measurements)
        while following <= part * info.step_hint:
            step, following = following, next_measurement(info.step_hint, following, info.measurements)
        found.append(step)
    return tuple(found)


def asked_of(
    info: WorkloadInfo,
    submission: str,
    points: Sequence[Values],
    *,
    budget_steps: int | None = None,
    max_steps: int | None = None,
) -> Asked:
    """Return what a search on a workload has to decide. The budget is the workload's own unless another is given; no
    run goes past `max_steps`.
    """
    budget = info.budget_steps if budget_steps is None else budget_steps
    limit = budget if max_steps is None else min(max_steps, budget)
    rungs = tuple(min(step, limit) for step in rung_steps(info))
    return Asked(
        submission, info.name, info.metric, info.mode, info.target.value, rungs, limit, tuple(map(dict, points))
    )


def halved(asked: Sequence[Asked], ask: Ask) -> list[list[Values]]:
    """Return all points, those that went on past the first rung, and the best two that went on past the last."""
    left: list[Values] = list(asked[0].points)
    stages = [left]
    for number in range(len(asked[0].rungs)):
        last = number == len(asked[0].rungs) - 1
        if len(left) > FINALISTS:
            until = [one.rungs[number] for one in asked]
            table = ask(left, STUDIES[:1], until)
            columns = [
                halving.ranks([value_at(runs[0], step) for runs in points], one.mode)
                for one, step, points in zip(asked, until, table, strict=True)
            ]
            half = max(FINALISTS, math.ceil(len(left) / 2))
            left = halving.better(left, columns, FINALISTS if last else half)
        stages.append(left)
    return stages


def finish(points: Sequence[Values], studies: Sequence[int], ask: Ask) -> list[Finished]:
    """Run points to the target, or the end of the budget, on every workload; return what they came to."""
    if not points:
        return []
    table = ask(points, studies)
    return [Finished(point, tuple(tuple(rows[n]) for rows in table)) for n, point in enumerate(points)]


def ordered(finished: Sequence[Finished], asked: Sequence[Asked]) -> list[Finished]:
    """Return the points, the best first: by the lower median over the studies of (workloads missed, mean logarithm of
    the costs), of equal ones by the rank of their best metrics, then in their order.
    """
    medians = [statistics.median_low(rows) for rows in _scores(finished, asked)]
    best = zip(*(one.best(asked) for one in finished), strict=True)
    columns = [halving.ranks(values, one.mode) for one, values in zip(asked, best, strict=True)]

    def key(number: int) -> tuple[int, float, float, int]:
        missed, cost = medians[number]
        return missed, cost, sum(column[number] for column in columns), number

    return [finished[number] for number in sorted(range(len(finished)), key=key)]


def costs(finished: Sequence[Finished], asked: Sequence[Asked]) -> tuple[str, list[list[list[float | None]]]]:
    """Return the unit, and what the target cost each point, by workload and study; None for a miss.

    Where the points of a workload share one program, a step costs the same at each, and steps are the unit. Elsewhere
    it is seconds: steps times the program's seconds per step, the median over its runs here. That is a coarse figure,
    from cores that other runs share; it tells a step that costs twice as much, not one that costs 5% more.
    """
    prices = [_prices([run for one in finished for run in one.runs[w]]) for w in range(len(asked))]
    unit = "steps" if all(set(price.values()) == {1.0} for price in prices) else "seconds"
    table = [
        [
            [None if n is None else n * price[run.program] for n, run in zip(steps, runs, strict=True)]
            for steps, runs, price in zip(one.steps(asked), one.runs, prices, strict=True)
        ]
        for one in finished
    ]
    return unit, table


def _scores(finished: Sequence[Finished], asked: Sequence[Asked]) -> list[list[tuple[int, float]]]:
    """Return, by point and study, how many workloads were missed, and the mean logarithm of the costs. A miss counts as
    `budgets` of the dearest program.
    """
    _, table = costs(finished, asked)
    prices = [_prices([run for one in finished for run in one.runs[w]]) for w in range(len(asked))]
    budget = [one.budget_steps * max(price.values()) for one, price in zip(asked, prices, strict=True)]
    found = []
    for one, rows in zip(finished, table, strict=True):
        logs = [
            [
                math.log(budget[w] * budgets(run, asked[w]) if cost is None else cost)
                for cost, run in zip(row, one.runs[w], strict=True)
            ]
            for w, row in enumerate(rows)
        ]
        missed = [sum(cost is None for cost in by_study) for by_study in zip(*rows, strict=True)]
        means = [statistics.fmean(by_study) for by_study in zip(*logs, strict=True)]
        found.append(list(zip(missed, means, strict=True)))
    return found


def budgets(run: SearchRun, asked: Asked) -> float:
    """Return how many budgets a miss counts as: 1 where its best metric is next to the target, up to 2 where that lacks
    `FAR` of the target's value, where the run diverged, and without a target. So a point that misses a workload by a
    hair is not thrown away with one that does not learn it.
    """
    best = best_value(run, asked.mode)
    if run.status == "diverged" or best is None or not asked.target:
        return 2.0
    return 1.0 + min(1.0, abs(best - asked.target) / (FAR * abs(asked.target)))


def _prices(runs: Sequence[SearchRun]) -> dict[str | None, float]:
    """Return the seconds per step of each program of a workload; 1 where there is only one."""
    by_program: dict[str | None, list[float]] = {}
    for run in runs:
        by_program.setdefault(run.program, []).append(max(run.seconds, 1e-3) / run.steps[-1])
    if len(by_program) == 1:
        return dict.fromkeys(by_program, 1.0)
    return {program: statistics.median(seconds) for program, seconds in by_program.items()}


def recorded(records: Sequence[SearchRecord]) -> Ask:
    """Return the way to the runs of records, one for each workload. Raises NotRun for one that is not there."""

    def ask(points: Sequence[Values], studies: Sequence[int], until: Sequence[int] | None = None) -> Table:
        steps = [record.asked.budget_steps for record in records] if until is None else until
        return [
            [[_find(record, point, study, step, to_target=until is None) for study in studies] for point in points]
            for record, step in zip(records, steps, strict=True)
        ]

    return ask


def _find(record: SearchRecord, point: Values, study: int, until: int, *, to_target: bool) -> SearchRun:
    target = record.asked.target if to_target else None
    for run in record.runs:
        if (run.role, run.study, run.hyperparameters) == ("tuning", study, point):
            if far_enough(run, until, target, record.asked.mode):
                return run
    raise NotRun


def far_enough(run: SearchRun, until: int, target: float | None, mode: Mode) -> bool:
    """Whether a run went to step `until`, or ended before it as it would again: at the target, or diverged."""
    return run.status == "diverged" or reached(run, target, mode) is not None or run.steps[-1] >= until


def reached(run: SearchRun, target: float | None, mode: Mode) -> int | None:
    """Return the first measured step that meets the target; None for a miss, or without a target."""
    return None if target is None else first_step(run, target, mode)


def value_at(run: SearchRun, step: int) -> float | None:
    """Return the metric at the last measurement at or before `step`; None where the run had diverged by then."""
    found = [value for at, value in zip(run.steps, run.values, strict=True) if at <= step]
    return None if not found or (run.status == "diverged" and run.steps[-1] <= step) else found[-1]


def best_value(run: SearchRun, mode: Mode) -> float | None:
    """Return the metric at a run's best measurement; None without one."""
    found = [value for value in run.values if value is not None]
    return (min if mode == "min" else max)(found) if found else None


def middle(values: Sequence[float | None], mode: Mode) -> float | None:
    """Return the lower median, None being worse than all."""
    worst = math.inf if mode == "min" else -math.inf
    found = statistics.median_low([worst if v is None else v for v in values])
    return None if math.isinf(found) else found


def most_steps(asked: Asked) -> int:
    """Return the steps that a search takes at most."""
    left, before, steps = len(asked.points), 0, 0
    for number, rung in enumerate(asked.rungs):
        if left > FINALISTS:
            last = number == len(asked.rungs) - 1
            steps, before = steps + left * (rung - before), rung
            left = FINALISTS if last else max(FINALISTS, math.ceil(left / 2))
    return steps + left * (len(STUDIES) * asked.budget_steps - before)
