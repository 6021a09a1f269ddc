"""Compute classes: the best metric within a fixed number of seconds, whatever the target. Pure functions of records.

As the Languini Kitchen compares language models by what they reach in a class of accelerator hours (Stanić et al. 2023,
arXiv:2309.11197). A time to a target says how long one value took; a class says what each submission has by the same
time, those that miss the target too. The value is the best measurement of the validation slice at or before the end of
the class, with the seconds of the clock that ranks, and no interpolation between measurements. Of a study's trials the
best counts, and of the studies that are there the median; of an even number it is the worse of the two in the middle.

A run that ended at its target before the end of the class would have gone on: its value is marked, and is one that it
reached, not the best that it could have. So is the value of a run that has not come to the end of the class yet.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError, RunFolderError
from harness.record.result import FAILED, UNFINISHED, Status
from harness.record.run_folder import Trial
from harness.record.spec import Clock, Mode, TrialSpec
from harness.scoring import selection, speeds

CUT_SHORT = {Status.TARGET_REACHED, Status.HOPELESS}
"""How a run ends that could have gone on."""


@dataclass(frozen=True)
class Class:
    """The end of a compute class: an amount of the clock's unit, or a share of the workload's budget."""

    amount: float
    of_budget: bool = False

    @property
    def name(self) -> str:
        """As it was typed."""
        return f"{100 * self.amount:g}%" if self.of_budget else f"{self.amount:g}"

    def end(self, spec: TrialSpec) -> float:
        """Return the end on a workload. Raises ConfigError for a share of a budget that no reference time makes
        seconds of.
        """
        if not self.of_budget:
            return self.amount
        if not spec.reference_step_s:
            raise ConfigError(
                f"{spec.workload}: a share of its budget ({self.name}) is no time, since it has no reference step "
                "time; give seconds, as in --at 60,120"
            )
        return self.amount * spec.budget_steps * spec.reference_step_s


@dataclass(frozen=True)
class Cell:
    """What a submission had by the end of a class.

    Attributes:
      value: the median over studies of their best metric; None where the median study had no measurement yet.
      low, high: the least and largest of the studies' values; None without one.
      studies: how many there are.
      expected: how many were asked for.
      unmeasured: of those that are there, those without a measurement by then.
      cut_short: those whose runs ended before the end of the class though they could have gone on.
      running, interrupted: those with a run that has not come to the end of the class: one that runs now, or one that
        `harness run` goes on with.
    """

    value: float | None
    low: float | None
    high: float | None
    studies: int
    expected: int
    unmeasured: int
    cut_short: int
    running: int
    interrupted: int


@dataclass(frozen=True)
class Row:
    """One class on one workload; `end` is on the clock, `best` the submission with the best value, None for several."""

    name: str
    end: float
    cells: Mapping[str, Cell]
    best: str | None


@dataclass(frozen=True)
class Table:
    """The classes of a workload, the smallest first."""

    workload: str
    metric: str
    mode: Mode
    rows: tuple[Row, ...]


def read_classes(text: str) -> tuple[Class, ...]:
    """Return the classes of `10,20,40` or `25%,50%,100%`. Raises ConfigError for anything else."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*(%?)\s*", part)
        try:
            amount = float(match[1]) if match else math.nan
        except ValueError:
            amount = math.nan
        if match is None or not 0 < amount < math.inf:
            raise ConfigError(
                f"--at {text}: expected seconds, or shares of the budget, above 0 and separated by commas, as in "
                f"--at 10,20,40 or --at 25%,50%,100%; got '{part.strip()}'"
            )
        found.append(Class(amount / 100 if match[2] else amount, bool(match[2])))
    return tuple(found)


def tables(
    trials: Sequence[Trial], classes: Sequence[Class], clock: Clock | None = None
) -> tuple[list[Table], Clock, tuple[str, ...]]:
    """Return a table for each workload, the clock, and a line on each thing that was left out.

    `clock` stands in for that of the rules. Raises RunFolderError where there are no trials, where they cannot be
    compared, or where one was not measured on the clock; ConfigError as `Class.end`.
    """
    chosen = selection.select(trials)
    if not chosen.trials:
        raise RunFolderError("no run that counts: smoke tests, held-out variants and tuning seeds are left out")
    ranking: Clock = clock or chosen.trials[0].spec.clock
    known = speeds.pooled(chosen.trials)
    found: list[Table] = []
    for workload in sorted({trial.spec.workload for trial in chosen.trials}):
        of = [trial for trial in chosen.trials if trial.spec.workload == workload]
        spec = of[0].spec
        curves = {trial.path: _curve(trial, ranking, speeds.own_over_pooled(trial, known)) for trial in of}
        rows = []
        for one in classes:
            end = one.end(spec)
            cells = {
                name: _cell([t for t in of if t.spec.submission == name], curves, end)
                for name in sorted({trial.spec.submission for trial in of})
            }
            rows.append(Row(one.name, end, cells, _best(cells, spec.mode)))
        rows.sort(key=lambda row: row.end)
        found.append(Table(workload, spec.metric, spec.mode, tuple(rows)))
    return found, ranking, chosen.notes


def _curve(trial: Trial, clock: Clock, speed: float) -> list[tuple[float, float]]:
    """Return (time, value) of the measurements; the calibrated clock at the program's mean speed, as for scores."""
    found = []
    for measurement in trial.measurements:
        time, value = getattr(measurement.scored, clock, None), measurement.metrics.get(trial.spec.metric)
        if time is None:
            raise RunFolderError(f"{trial.path}: the {clock} clock was not measured there; give another with --clock")
        if value is not None:
            found.append((time / speed if clock == "calibrated" else time, value))
    return found


def _cell(trials: Sequence[Trial], curves: Mapping[Path, Sequence[tuple[float, float]]], end: float) -> Cell:
    """Return what the trials of a submission on a workload had by `end`."""
    mode = trials[0].spec.mode
    best = min if mode == "min" else max
    values: list[float | None] = []
    cut_short = running = interrupted = 0
    for study in sorted({trial.spec.study for trial in trials}):
        of = [trial for trial in trials if trial.spec.study == study]
        seen = [value for trial in of for time, value in curves[trial.path] if time <= end]
        values.append(best(seen) if seen else None)
        short = {trial.status for trial in of if not curves[trial.path] or curves[trial.path][-1][0] < end}
        cut_short += bool(short & (CUT_SHORT | FAILED))
        running += Status.RUNNING in short
        interrupted += Status.RUNNING not in short and bool(short & UNFINISHED)
    known = [value for value in values if value is not None]
    worst = math.inf if mode == "min" else -math.inf
    ordered = [worst if value is None else value for value in values]
    middle = statistics.median_low(ordered) if mode == "max" else statistics.median_high(ordered)
    return Cell(
        None if math.isinf(middle) else middle,
        min(known, default=None),
        max(known, default=None),
        len(values),
        max(len(values), *(trial.spec.studies or 1 for trial in trials)),
        values.count(None),
        cut_short,
        running,
        interrupted,
    )


def _best(cells: Mapping[str, Cell], mode: Mode) -> str | None:
    known = [cell.value for cell in cells.values() if cell.value is not None]
    best = (min if mode == "min" else max)(known, default=None)
    names = [name for name, cell in cells.items() if best is not None and cell.value == best]
    return names[0] if len(names) == 1 else None
