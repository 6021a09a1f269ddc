"""How far each submission is ahead of AdamW on the held-out variants of a workload, and on the workload itself.

The final metric is that of the validation slice at the end of the horizon, the median over seeds. A gap is the lead
over AdamW on the same variant, positive where the submission is better, in units of the spread: the standard deviation
over seeds of the baseline's final metric, from the runs that set the workload's target. A move is the gap on a variant
less the gap on the workload itself, which runs under the same terms (`harness.program.workload.UNCHANGED`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.program.workload import UNCHANGED, VARIANTS
from harness.record.result import Status
from harness.record.run_folder import Trial
from harness.record.spec import Mode
from harness.search.targets import REFERENCE

OF_FAMILIES: Mapping[str, str] = {
    "mup": "the maximal update parametrisation, twice as wide as its base",
    "ghost": "BatchNorm over virtual batches",
    "repeated": "an eighth of the training data, eight times as often",
}
"""Held-out variants that only some workloads have, beside those of `VARIANTS`."""

KNOWN: Mapping[str, str] = {**VARIANTS, **OF_FAMILIES}
"""All held-out variants there are, in the order of the tables, each with what it changes."""


@dataclass(frozen=True)
class Final:
    """The end of the runs of a submission on a variant.

    Attributes:
      value: the median over seeds of the final metric; None unless every run reached the end of the horizon.
      seeds: runs there are.
      error: standard error of that median, as of normal values; None with a single run.
      why: what keeps it from having a value: the status of runs that ended otherwise, with how many of them.
    """

    value: float | None
    seeds: int
    error: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Comparison:
    """A workload with its variants.

    Attributes:
      workload, metric, mode, steps: of the runs; the steps are those of the horizon.
      spread: the unit of gaps; None where no target's record tells one: the gaps are in units of the metric then.
      variants: those that were run, `UNCHANGED` first.
      finals: by submission, then variant.
      unfinished: submissions whose `horizon`, the length of the schedule in step hints, is above 1, with that length:
        at the end of these runs their learning rate has not decayed.
    """

    workload: str
    metric: str
    mode: Mode
    steps: int
    spread: float | None
    variants: tuple[str, ...]
    finals: Mapping[str, Mapping[str, Final]]
    unfinished: Mapping[str, float] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, int]:
        """The least and the greatest number of seeds behind a final metric."""
        numbers = [final.seeds for row in self.finals.values() for final in row.values()]
        return min(numbers), max(numbers)

    def gap(self, submission: str, variant: str) -> float | None:
        """Return the lead over the reference on a variant; None where one of the two has no final metric there."""
        own, other = (self._value(name, variant) for name in (submission, REFERENCE))
        if own is None or other is None:
            return None
        lead = other - own if self.mode == "min" else own - other
        return lead / (self.spread or 1.0)

    def move(self, submission: str, variant: str) -> float | None:
        """Return the gap on a variant less that on the workload itself; None where one of them is missing."""
        there, here = self.gap(submission, variant), self.gap(submission, UNCHANGED)
        return None if there is None or here is None else there - here

    def move_error(self, submission: str, variant: str) -> float | None:
        """Return the standard error of a move, from the seeds that ran; None where one of its four has a single one."""
        four = [self._final(name, where) for name in (submission, REFERENCE) for where in (variant, UNCHANGED)]
        errors = [final.error for final in four if final is not None and final.error is not None]
        if submission == REFERENCE or variant == UNCHANGED or len(errors) < len(four):
            return None
        return math.hypot(*errors) / (self.spread or 1.0)

    def _value(self, submission: str, variant: str) -> float | None:
        final = self._final(submission, variant)
        return None if final is None else final.value

    def _final(self, submission: str, variant: str) -> Final | None:
        return self.finals.get(submission, {}).get(variant)


def compare(trials: Iterable[Trial], spreads: Mapping[str, float | None]) -> list[Comparison]:
    """Return a comparison for each workload; `trials` are of held-out variants (`selection.select_variants`), `spreads`
    the spread of each workload's target.
    """
    by_workload: dict[str, list[Trial]] = {}
    for trial in trials:
        by_workload.setdefault(trial.spec.workload, []).append(trial)
    return [_compared(group, spreads.get(workload)) for workload, group in sorted(by_workload.items())]


def _compared(trials: Sequence[Trial], spread: float | None) -> Comparison:
    cells: dict[str, dict[str, list[Trial]]] = {}
    for trial in trials:
        cells.setdefault(trial.spec.submission, {}).setdefault(str(trial.spec.variant), []).append(trial)
    names = sorted(cells, key=lambda name: (name != REFERENCE, name))
    ran = {variant for row in cells.values() for variant in row}
    spec = trials[0].spec
    return Comparison(
        workload=spec.workload,
        metric=spec.metric,
        mode=spec.mode,
        steps=spec.horizon,
        spread=spread or None,
        variants=tuple(variant for variant in (UNCHANGED, *KNOWN) if variant in ran),
        finals={name: {variant: _final(group) for variant, group in cells[name].items()} for name in names},
        unfinished=_unfinished(trials),
    )


def _unfinished(trials: Sequence[Trial]) -> dict[str, float]:
    lengths = {trial.spec.submission: trial.spec.hyperparameters.get("horizon") for trial in trials}
    return {name: length for name, length in sorted(lengths.items()) if isinstance(length, float) and length > 1}


def _final(trials: Sequence[Trial]) -> Final:
    values = [trial.result.last for trial in trials if trial.result and trial.status is Status.HORIZON_REACHED]
    finite = [value for value in values if value is not None]
    if len(finite) == len(trials):
        return Final(statistics.median(finite), len(trials), _error(finite))
    others = [str(t.status) for t in trials if t.status is not Status.HORIZON_REACHED] or [
        f"no finite {trials[0].spec.metric}"
    ]
    why = ", ".join(dict.fromkeys(others))
    told = why if len(trials) == 1 else f"{len(trials) - len(finite)} of {len(trials)}: {why}"
    return Final(None, len(trials), why=told)


def _error(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    over_mean = math.sqrt(math.pi / 2) if len(values) > 2 else 1.0  # a median varies more than a mean
    return over_mean * statistics.stdev(values) / math.sqrt(len(values))
