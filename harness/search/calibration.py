"""One configuration for all workloads: chosen on some, judged on the rest. A pure function of the runs; no jax.

What is asked is how far an algorithm is from needing no tuning (Kasimbeg et al. 2025, arXiv:2505.24005, who calibrate
on all of AlgoPerf's workloads but the ones that they judge on). Each workload is left out in turn: the two passes of
`harness.search.two_passes` choose a point on the others, and beside it a point on that workload alone, by the same
rule. Both run there on tuning studies that chose nothing, so that no lucky seed makes either look better than it is.
The price of one configuration is what the target costs at the first over what it costs at the second.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.record.search_record import Asked
from harness.search import two_passes
from harness.search.two_passes import FINALISTS, STUDIES, Ask, Finished, Values

JUDGES = (3, 4, 5)
"""The tuning studies that points are judged on; `two_passes.STUDIES` choose them."""


@dataclass(frozen=True)
class Judged:
    """A point on the workload that it is judged on.

    Attributes:
      steps: to the target, on each study; None for a miss.
      cost: what the target cost, the median over the studies, in the unit of its workload; None for a miss.
      best: the metric at the best measurement, the median over the studies; None without one.
    """

    point: Values
    steps: tuple[int | None, ...]
    cost: float | None
    best: float | None


@dataclass(frozen=True)
class Held:
    """A workload that was left out.

    Attributes:
      chosen_on: the others.
      unit: of the costs: "steps" where the points share one program, else "seconds".
      left_out: the point that the others chose.
      tuned: the point that was chosen on this workload alone.
      default: the defaults, whatever they were tuned on.
    """

    asked: Asked
    chosen_on: tuple[str, ...]
    unit: str
    left_out: Judged
    tuned: Judged
    default: Judged

    @property
    def price(self) -> float | None:
        """How many times as much the target costs without tuning here; infinite where only the tuned point reaches it,
        None where that does not.
        """
        if self.tuned.cost is None:
            return None
        return math.inf if self.left_out.cost is None else self.left_out.cost / self.tuned.cost


@dataclass(frozen=True)
class Calibration:
    """What came of a submission.

    Attributes:
      points: how many were tried.
      everywhere: the point that all workloads together chose: the configuration to hand on. Nothing judges it.
    """

    submission: str
    points: int
    everywhere: Values
    held: tuple[Held, ...]

    @property
    def price(self) -> float | None:
        """The geometric mean of the prices over the workloads where both points reach the target; None without one."""
        found = [one.price for one in self.held if one.price is not None and math.isfinite(one.price)]
        return math.exp(statistics.fmean(map(math.log, found))) if found else None

    @property
    def priced(self) -> int:
        """Workloads behind that mean."""
        return sum(one.price is not None and math.isfinite(one.price) for one in self.held)

    @property
    def missed(self) -> tuple[str, ...]:
        """The workloads that the point of the others misses."""
        return tuple(one.asked.workload for one in self.held if one.left_out.cost is None)


def calibrate(
    submission: str, asked: Sequence[Asked], default: Values, ask_on: Callable[[Sequence[int]], Ask]
) -> Calibration:
    """Return what came of a submission whose points are those of `asked`, which has a workload in each of its places.

    `ask_on` gives the way to the runs on the workloads of these numbers.
    """
    numbers = range(len(asked))

    def choose(on: Sequence[int]) -> Values:
        return chosen([asked[n] for n in on], ask_on(on))

    held = []
    for number in numbers:
        others = [n for n in numbers if n != number]
        points = choose(others), choose([number]), default
        held.append(_judged(asked, number, others, points, ask_on([number])))
    return Calibration(submission, len(asked[0].points), choose(list(numbers)), tuple(held))


def chosen(asked: Sequence[Asked], ask: Ask) -> Values:
    """Return the point that the two passes choose on these workloads."""
    points = asked[0].points
    if len(points) == 1:
        return points[0]
    finished = two_passes.finish(two_passes.halved(asked, ask)[-1], STUDIES, ask)
    return two_passes.ordered(finished, asked)[0].point


def _judged(
    asked: Sequence[Asked], number: int, others: Sequence[int], points: tuple[Values, Values, Values], ask: Ask
) -> Held:
    """Judge the points (left out, tuned, default) on the workload of this number; those that are one run once."""
    here = asked[number]
    distinct = [point for n, point in enumerate(points) if point not in points[:n]]
    finished = two_passes.finish(distinct, JUDGES, ask)
    unit, costs = two_passes.costs(finished, [here])
    found = [_judgement(one, here, cost[0]) for one, cost in zip(finished, costs, strict=True)]
    of = [found[distinct.index(point)] for point in points]
    return Held(here, tuple(asked[n].workload for n in others), unit, *of)


def _judgement(one: Finished, asked: Asked, costs: Sequence[float | None]) -> Judged:
    cost = two_passes.middle(costs, "min")
    return Judged(one.point, tuple(one.steps([asked])[0]), cost, one.best([asked])[0])


def most_steps(asked: Sequence[Asked]) -> list[int]:
    """Return the steps that a calibration takes at most on each workload."""
    choices = len(asked) + 1  # a workload takes part in that of all, in its own, and in those of the others
    found = []
    for one in asked:
        points, steps = len(one.points), 3 * len(JUDGES) * one.budget_steps
        if points > 1:
            halved = one.rungs[-1] if points > FINALISTS else 0
            finalists = min(points, FINALISTS * choices)
            steps += points * halved + finalists * (len(STUDIES) * one.budget_steps - halved)
        found.append(steps)
    return found
