"""From the tuning trials of one submission on one workload to the point that is run on fresh seeds.

The point of the trial that reached the target in the least time on the ranking clock. Where none reached it, that of
the best metric at any measurement. Of equals the first. A pure function of the records, so that it is the same however
often the campaign was stopped in between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.record.result import FAILED, UNFINISHED
from harness.record.run_folder import Trial
from harness.record.spec import Clock, Value


@dataclass(frozen=True)
class Candidate:
    """One tuning trial as it was compared.

    Attributes:
      trial, id: which one, and the hash of its spec.
      hyperparameters: its point.
      status: how it ended.
      time: to the target on the ranking clock; None where it did not reach it.
      best: the workload's metric at its best measurement; None without one.
    """

    trial: int
    id: str
    hyperparameters: dict[str, Value]
    status: str
    time: float | None
    best: float | None


@dataclass(frozen=True)
class Choice:
    """What was compared and which point won.

    Attributes:
      submission, workload, clock, metric: where, and by what.
      winner: number of the trial that won.
      why: by which number, for people.
      compared: all of them, in order.
    """

    submission: str
    workload: str
    clock: Clock
    metric: str
    winner: int
    why: str
    compared: tuple[Candidate, ...]
    finalists: tuple[tuple[float, ...], ...] = ()

    @property
    def point(self) -> dict[str, Value]:
        """The winner's hyperparameters."""
        return next(c.hyperparameters for c in self.compared if c.trial == self.winner)

    @property
    def varied(self) -> dict[str, Value]:
        """Those of them in which the points differ."""
        differ = {n for c in self.compared for n, v in c.hyperparameters.items() if v != self.point.get(n)}
        return {name: value for name, value in self.point.items() if name in differ}

    @property
    def text(self) -> str:
        """The choice in a line."""
        point = ", ".join(f"{name}={value}" for name, value in self.varied.items())
        return f"{self.workload} / {self.submission}: point {self.winner} of {len(self.compared)} ({point}) {self.why}"


def choose(trials: Sequence[Trial]) -> Choice:
    """Return the choice among finished tuning trials, of which there is at least one."""
    spec = trials[0].spec
    sign = 1.0 if spec.mode == "min" else -1.0
    compared = tuple(_candidate(trial) for trial in sorted(trials, key=lambda t: t.spec.trial))

    def order(one: Candidate) -> tuple[float, float]:
        best = math.inf if one.best is None else sign * one.best
        return (math.inf, best) if one.time is None else (one.time, 0.0)

    winner = min(compared, key=order)
    if winner.time is not None:
        why = f"reached the target first, in {winner.time:.4g} on the {spec.clock} clock"
    elif winner.best is not None:
        why = f"none reached the target; best {spec.metric} {winner.best:.4g}"
    else:
        why = "none reached the target or was measured; the first"
    return Choice(spec.submission, spec.workload, spec.clock, spec.metric, winner.trial, why, compared)


def target_time(trial: Trial) -> float | None:
    """Return the time to the target on the ranking clock; None for a trial that did not reach it, failed or goes on."""
    hit = None if trial.status in FAILED | UNFINISHED else trial.hit
    time: float | None = getattr(hit.scored, trial.spec.clock) if hit else None
    return time


def _candidate(trial: Trial) -> Candidate:
    spec = trial.spec
    best = None if trial.result is None or trial.status in FAILED else trial.result.best
    return Candidate(spec.trial, spec.id, spec.hyperparameters, str(trial.status), target_time(trial), best)
