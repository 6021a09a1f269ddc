"""The verdict on runs of a declared length: does the mean of their final metric meet the target, beyond chance?

One-sided one-sample t-test of the final metric on the validation slice against the target, as the records of
modded-nanogpt are judged: no run is stopped on the metric, and all runs count.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.record.result import FAILED, UNFINISHED
from harness.record.run_folder import Trial
from harness.record.spec import Clock

ALPHA = 0.001
"""The level, ten times stricter than that of those records: nobody counts how many lengths were tried before the one
that is declared. It supposes that final metrics are about normal: eight runs cannot exclude that a few in a hundred end
much worse.
"""

OWN_WORD = (
    "the length was declared beforehand; how many were tried before it, and whether on these very seeds, is the "
    "submitter's own word"
)


@dataclass(frozen=True)
class Verdict:
    """What the runs of one submission on one workload say.

    Attributes:
      submission, workload, metric, target: of what.
      runs, expected: finished runs, and how many there are to be.
      steps: the declared length.
      mean, sd: of the final metric over the finished runs; None where one of them has none, and for sd with one run.
      p: of the test; None where there was none.
      met: the verdict; None where it is open, because runs are missing.
      time: median time of a run on the ranking clock; None where a run did not end.
      why: in words, where there is no p.
    """

    submission: str
    workload: str
    metric: str
    target: float
    runs: int
    expected: int
    steps: int
    mean: float | None
    sd: float | None
    p: float | None
    met: bool | None
    time: float | None
    why: str = ""


def verdicts(trials: Sequence[Trial], clock: Clock, expected: int, allow_missing: bool = False) -> tuple[Verdict, ...]:
    """Return a verdict for each submission and workload, by workload; the fewer steps come first.

    A run that diverged or failed has no final metric, and the target is not met. While runs are missing the verdict is
    open, unless `allow_missing`.
    """
    cells: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        if trial.spec.target is not None:
            cells.setdefault((trial.spec.workload, trial.spec.submission), []).append(trial)
    found = [_verdict(runs, clock, expected, allow_missing) for runs in cells.values()]
    return tuple(sorted(found, key=lambda v: (v.workload, not v.met, v.steps, v.submission)))


def p_value(values: Sequence[float], target: float, mode: str) -> float | None:
    """Return the p of the one-sided test that the mean is on the good side of the target; None for under two values."""
    if len(values) < 2:
        return None
    sign = 1.0 if mode == "min" else -1.0
    margin = sign * (target - statistics.fmean(values))
    error = statistics.stdev(values) / math.sqrt(len(values))
    if error == 0.0:
        return 0.0 if margin > 0 else 1.0
    from scipy import special  # slow to import, and only verdicts need it

    return float(special.stdtr(len(values) - 1, -margin / error))


def _verdict(trials: Sequence[Trial], clock: Clock, expected: int, allow_missing: bool) -> Verdict:
    spec = trials[0].spec
    assert spec.target is not None
    ended = [_final(trial, clock) for trial in trials if trial.status not in UNFINISHED]
    values = [end[0] for end in ended if end is not None]
    times = [end[1] for end in ended if end is not None and end[1] is not None]
    without = len(ended) - len(values)
    p = None if without else p_value(values, spec.target, spec.mode)
    met: bool | None = p is not None and p < ALPHA
    why = ""
    if without:
        why = f"{without} of {len(ended)} runs did not reach the last step with a finite {spec.metric}"
    elif len(ended) < expected and not allow_missing:
        p, met, why = None, None, f"{expected - len(ended)} of {expected} runs are missing"
    elif p is None:
        met, why = None, "one run: no test"
    return Verdict(
        submission=spec.submission,
        workload=spec.workload,
        metric=spec.metric,
        target=spec.target,
        runs=len(ended),
        expected=expected,
        steps=spec.horizon,
        mean=statistics.fmean(values) if values and not without else None,
        sd=statistics.stdev(values) if len(values) > 1 and not without else None,
        p=p,
        met=met,
        time=statistics.median(times) if len(times) == len(ended) and times else None,
        why=why,
    )


def _final(trial: Trial, clock: Clock) -> tuple[float, float | None] | None:
    """Return metric and time at the end of the declared length; None where the run has no such measurement."""
    spec, last = trial.spec, trial.measurements[-1:]
    if trial.status in FAILED or not last or last[0].examples < spec.horizon * spec.batch_size:
        return None
    value = last[0].metrics.get(spec.metric)
    time: float | None = getattr(last[0].scored, clock)
    return None if value is None else (value, time)
