"""From the search of one submission on one workload to the point that is run on fresh seeds.

The search is that of `harness.search.two_passes`. A pure function of its record, so that it is the same however often
the campaign was stopped in between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.record.search_record import Asked, SearchRecord
from harness.record.spec import Value
from harness.search import two_passes
from harness.search.two_passes import Ask, NotRun, Values


@dataclass(frozen=True)
class Candidate:
    """One point as it was compared.

    Attributes:
      trial: its number.
      hyperparameters: its values.
      status: "finalist", or where it was ended.
      steps: to the target on each tuning study that it ran to the end on; None for a miss.
      costs: the same in the choice's unit.
      best: the workload's metric at its best measurement, the median over the studies; None without one.
    """

    trial: int
    hyperparameters: dict[str, Value]
    status: str
    steps: tuple[int | None, ...]
    costs: tuple[float | None, ...]
    best: float | None


@dataclass(frozen=True)
class Choice:
    """What was compared and which point won.

    Attributes:
      submission, workload, metric: where, and by what.
      unit: of the costs: "steps" where all points share one program, else "seconds" of the search's cores.
      winner: number of the point that won.
      why: by which number, for people.
      compared: all of them, in order.
    """

    submission: str
    workload: str
    metric: str
    unit: str
    winner: int
    why: str
    compared: tuple[Candidate, ...]

    @property
    def point(self) -> dict[str, Value]:
        """The winner's hyperparameters."""
        return next(c.hyperparameters for c in self.compared if c.trial == self.winner)

    @property
    def finalists(self) -> tuple[tuple[float, ...], ...]:
        """What the target cost the points that ran to the end, the winner first, on each tuning study; infinity for a
        miss. The studies are the same for both, in the same order.
        """
        ended = [one for one in self.compared if one.status == FINALIST]
        ended.sort(key=lambda one: one.trial != self.winner)
        return tuple(tuple(math.inf if cost is None else cost for cost in one.costs) for one in ended)

    @property
    def varied(self) -> dict[str, Value]:
        """Those of the winner's hyperparameters in which the points differ."""
        differ = {n for c in self.compared for n, v in c.hyperparameters.items() if v != self.point.get(n)}
        return {name: value for name, value in self.point.items() if name in differ}

    @property
    def text(self) -> str:
        """The choice in a line."""
        point = ", ".join(f"{name}={value}" for name, value in self.varied.items())
        return f"{self.workload} / {self.submission}: point {self.winner} of {len(self.compared)} ({point}) {self.why}"


FINALIST = "finalist"


def choose(record: SearchRecord) -> Choice | None:
    """Return the choice; None while the record lacks runs that the search wants."""
    asked, ask = [record.asked], two_passes.recorded([record])
    try:
        stages = two_passes.halved(asked, ask)
        finished = two_passes.finish(stages[-1], two_passes.STUDIES, ask)
    except NotRun:
        return None
    unit, costs = two_passes.costs(finished, asked)
    points = list(record.asked.points)
    winner = two_passes.ordered(finished, asked)[0]
    compared = []
    for number, point in enumerate(points):
        place = next((n for n, one in enumerate(finished) if one.point == point), None)
        if place is None:
            compared.append(_halved(number, point, record.asked, stages, ask))
        else:
            one, cost = finished[place], costs[place][0]
            steps = tuple(one.steps(asked)[0])
            compared.append(Candidate(number, dict(point), FINALIST, steps, tuple(cost), one.best(asked)[0]))
    number = points.index(dict(winner.point))
    why = _why(record.asked, compared[number], unit)
    return Choice(
        record.asked.submission, record.asked.workload, record.asked.metric, unit, number, why, tuple(compared)
    )


def _halved(
    number: int, point: dict[str, Value], asked: Asked, stages: Sequence[Sequence[Values]], ask: Ask
) -> Candidate:
    """Return a point that was ended on the way, at the rung past which it did not go."""
    rung = next(step for step, left in zip(asked.rungs, stages[1:], strict=True) if point not in left)
    ((((run,),),)) = ask([point], two_passes.STUDIES[:1], [rung])
    diverged = run.status == "diverged" and run.steps[-1] <= rung
    status = f"diverged at step {run.steps[-1]}" if diverged else f"ended at step {rung}"
    return Candidate(number, point, status, (), (), two_passes.best_value(run, asked.mode))


def _why(asked: Asked, candidate: Candidate, unit: str) -> str:
    count = len(candidate.costs)
    hits = sorted(cost for cost in candidate.costs if cost is not None)
    middle = (count - 1) // 2
    if len(hits) > middle:
        return f"reached the target in {hits[middle]:.4g} {unit}, the median of {count} tuning seeds"
    tail = f" in {count - len(hits)} of {count} tuning seeds" if hits else ""
    if candidate.best is not None:
        return f"missed the target{tail}, as the other finalist did; median best {asked.metric} {candidate.best:.4g}"
    return "missed the target, as the other finalist did, and was not measured; the first"
