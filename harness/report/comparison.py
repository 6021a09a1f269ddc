"""`harness compare`: two submissions in a few lines. How many times as fast, where, and may it be chance?"""

from __future__ import annotations

import json as json_
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, HarnessError, suggest
from harness.program import ramps, submission
from harness.record.run_folder import Trial
from harness.record.spec import TrialSpec
from harness.report.scores import unscored_workloads, verdict
from harness.report.tables import print_line
from harness.scoring import score
from harness.scoring.sampling import Estimate
from harness.scoring.score import Scores
from harness.scoring.standings import Pair, inverse

AS_THEY_RAN = (
    "the test tells two submissions apart as they ran, learning rate and schedule included; whether a new part makes "
    "the difference, a copy under another name with that part switched off tells"
)


@dataclass(frozen=True)
class Comparison:
    """What there is to say of `a` beside `b`.

    Attributes:
      found: the scores of the two together.
      overall: over the workloads that both reach by their median seed; None where there are none.
      each: on each of these by itself.
      tested: over all workloads, misses among them, as `harness score` tests them; None where no workload has a target.
      studies: fewest and most studies of a cell.
    """

    a: str
    b: str
    found: Scores
    overall: Pair | None
    each: dict[str, Pair]
    tested: Pair | None
    studies: tuple[int, int]
    more: str  # what runs enough seeds for a test


def compare(trials: Sequence[Trial], a: str, b: str) -> Comparison:
    """Compare two submissions by their trials, by name or as they were typed for `harness run`; toys count only where
    nothing else compares them. Raises ConfigError where one of them has no trials, or nothing ranks them.
    """
    known = {trial.spec.submission for trial in trials}
    a, b = (name if name in known else ramps.called(name) for name in (a, b))
    for name in (a, b):
        if name not in known:
            if "=" in name:
                raise ConfigError(
                    f"'{name}': runs at a point of their own (hp.NAME=VALUE) are compared with no others; copy the "
                    "submission under another name, with other defaults, and run that"
                )
            told = f"no runs of '{name}'; {suggest(name, known, 'there are runs of')}"
            raise ConfigError(f"{told}; `harness run {name} ...` with the same words makes some")
    if a == b:
        raise ConfigError(f"harness compare takes two submissions, got '{a}' twice")
    two = [trial for trial in trials if trial.spec.submission in (a, b)]
    toys = unscored_workloads({trial.spec.workload for trial in two})
    scored = [trial for trial in two if trial.spec.workload not in toys]
    aside = toys if {trial.spec.submission for trial in scored} == {a, b} else set()
    two = scored if aside else two
    both = set.intersection(*({t.spec.workload for t in two if t.spec.submission == name} for name in (a, b)))
    alone = {trial.spec.workload for trial in two} - both if both else set()
    two = [trial for trial in two if trial.spec.workload not in alone]
    found = score.score(two)
    if found.verdicts:
        raise ConfigError("these are runs of a speedrun, where each has a verdict of its own: harness score shows them")
    if aside:
        found = replace(found, notes=(*found.notes, f"toys are left out: {', '.join(sorted(aside))}"))
    if alone:
        told = f"left out, where only one of them ran: {', '.join(sorted(alone))}"
        found = replace(found, notes=(*found.notes, told))
    common = [w for w in found.targets if found.clock and all(_time(found, name, w) is not None for name in (a, b))]
    each = {w: _pair([t for t in two if t.spec.workload == w]) for w in common}
    overall = _pair([t for t in two if t.spec.workload in common]) if common else None
    tested = next(iter(found.ranking.pairs), None) if found.ranking else None
    counts = [len(row) for cell in found.cells.values() for row in cell.values()]
    ends = min(counts, default=0), max(counts, default=0)
    return Comparison(a, b, found, overall, each, tested, ends, _more_seeds(two, found, (a, b)))


def _pair(trials: Sequence[Trial]) -> Pair:
    """Return the two on these trials' workloads."""
    ranking = score.score(trials).ranking
    assert ranking is not None
    (pair,) = ranking.pairs
    return pair


def _more_seeds(trials: Sequence[Trial], found: Scores, names: Sequence[str]) -> str:
    """Return the command that goes on with the runs of these two, as one would type it. hp. goes to all submissions on
    a line, so two that ran at points of their own take a line each.
    """
    last = trials[-1]
    root = last.path.parents[2] if len(last.path.parents) > 2 else last.path
    words = [f"workload={','.join(found.targets)}", f"rules={found.rules}" if found.rules != "quick" else ""]
    words += [f"stop={last.spec.stop}" if last.spec.stop != "target" else ""]
    words += [f"seed={last.spec.seed}" if last.spec.seed else "", "studies=7"]
    words += [f"out={root}" if root.is_dir() and root != Path("runs") else ""]
    tail = " ".join(filter(None, words))
    points: dict[str, list[str]] = {}
    for name in names:
        own = next(trial.spec for trial in reversed(trials) if trial.spec.submission == name)
        points.setdefault(_moved(own), []).append(name)
    return " && ".join(f"harness run {' '.join(of)}{point} {tail}" for point, of in points.items())


def _moved(spec: TrialSpec) -> str:
    """Return hp.NAME=VALUE for what a point has beside the defaults, each after a space."""
    try:
        info = submission.read_info(ramps.find(spec.submission))
    except HarnessError:
        return " hp.NAME=VALUE" if spec.by_hand else ""  # it lies elsewhere
    if not (spec.by_hand or info.required):
        return ""
    moved = (n for n, v in spec.hyperparameters.items() if n in info.required or info.defaults.get(n) != v)
    return "".join(f" hp.{name}={spec.hyperparameters[name]}" for name in moved)


def _times_as_fast(one: Comparison, pair: Pair) -> tuple[float, tuple[float, float] | None]:
    """Return how many times as fast a is as b, and the interval or range of it: 0 where a misses a target, infinite
    where b does.
    """
    ends = pair.ratio.interval or pair.ratio.range
    if pair.a == one.a:
        return pair.ratio.value, ends
    return 1 / pair.ratio.value, ends and (inverse(ends[1]), inverse(ends[0]))


def _time(found: Scores, name: str, workload: str) -> float | None:
    assert found.clock is not None
    return found.times[found.clock].get(name, {}).get(workload)


def print_comparison(one: Comparison, *, json: bool = False) -> None:
    """Print it, for people or as one JSON object."""
    if json:
        print(json_.dumps(as_json(one), allow_nan=False))
        return
    if one.overall is not None and _times_as_fast(one, one.overall)[0] < 1:
        one = replace(one, a=one.b, b=one.a)  # the faster one first
    found, (low, high) = one.found, one.studies
    seeds = f"{low} seed{'s' * (low != 1)} each" if low == high else f"{low} to {high} seeds each"
    by = f"by {'wall ' if found.clock == 'wall' else ''}{found.unit}, {seeds}"
    reach = f"that both reach{' by their median seeds' if found.several else ''}"
    number, of = len(one.each), len(found.targets)
    if one.overall is None:
        print_line(f"{one.a} and {one.b}: there is no workload {reach} ({seeds})", style="bold")
    else:
        value, ends = _times_as_fast(one, one.overall)
        only = (
            f"on {number} of {of} workloads, the {'ones' if number > 1 else 'only one'} {reach}, "
            if number < of
            else ""
        )
        mean = f"geometric mean over {number} workloads, " if number > 1 else ""
        print_line(f"{only}{one.a} is {value:.3f}{_ends(ends)} times as fast as {one.b}: {mean}{by}", style="bold")
    width = max(map(len, found.targets), default=0)
    for workload in found.targets:
        print_line(f"  {workload.ljust(width)}  {_on(one, workload)}")
    if one.tested is not None:
        print_line(f"score: {_scores(one, one.tested)}")
        print_line(f"chance: {_chance(one, one.tested)}")
        if one.tested.separable:
            print_line(f"note: {AS_THEY_RAN}")
    for note in found.notes:
        print_line(f"note: {note}")


def _on(one: Comparison, workload: str) -> str:
    if workload in one.each:
        value, ends = _times_as_fast(one, one.each[workload])
        times = " against ".join(f"{_time(one.found, name, workload):.3g}" for name in (one.a, one.b))
        told = {name: one.found.reached(name, workload) for name in (one.a, one.b)}
        few = [f"{name}: {n} reach the target" for name, n in told.items() if len({*n.split(" of ")}) > 1]
        told_few = f" ({', '.join(few)})" if few else ""
        return f"{value:.3f}{_ends(ends)} times as fast: {times} {one.found.unit}{told_few}"
    return "; ".join(_alone(one, name, workload) for name in (one.a, one.b))


def _alone(one: Comparison, name: str, workload: str) -> str:
    if workload not in one.found.cells.get(name, {}):
        return f"{name} did not run"
    time, reached = _time(one.found, name, workload), one.found.reached(name, workload)
    if time is not None:
        return f"{name} takes {time:.3g} {one.found.unit} ({reached} reach the target)"
    whose = f"{name}'s median seed" if one.found.several else name
    return f"{whose} misses ({reached} reach the target)"


def _scores(one: Comparison, pair: Pair) -> str:
    """Return both scores, misses among them, and of what was tested how often the seeds of one are the faster."""
    higher, lower = (f"{name} {value:.3f}" for name, value in _score_values(one, (pair.a, pair.b)).items())
    tested = pair.separable is not None
    order = "and" if pair.test.difference == 0 else "ranks above" if pair.separable else "against"
    wins = f"; {pair.a} wins {pair.win_probability:.0%} of pairs of seeds" if tested else ""
    return f"{higher} {order} {lower} (of these two alone, misses counted){wins}"


def _score_values(one: Comparison, names: Sequence[str]) -> dict[str, float | None]:
    ranking = one.found.ranking
    return {name: ranking.score[name].value if ranking and name in ranking.score else None for name in names}


def _chance(one: Comparison, pair: Pair) -> str:
    if pair.separable is None:
        return f"not tested: a test takes 5 seeds at least, and 7 give an interval: {one.more}"
    p = "p < 0.001" if pair.test.p_holm is not None and pair.test.p_holm < 0.001 else f"p = {pair.test.p_holm:.2g}"
    better = f", {pair.a} scores higher" if pair.separable and (one.overall is None or pair.a != one.a) else ""
    return f"{verdict(pair)}{better} ({p} that the scores differ so by chance)"


def _ends(ends: tuple[float, float] | None) -> str:
    """Return an interval or a range in brackets; an end that is 0 or infinite is a miss."""
    told = ["missed" if not end or math.isinf(end) else f"{end:.3f}" for end in ends or ()]
    return f" [{', '.join(told)}]" if told else ""


def as_json(one: Comparison) -> dict[str, Any]:
    """Return the comparison as JSON has it. Ends are those of the 95% interval, of the range below 6 studies; null for
    a miss, of a at the low end and of b at the high one.
    """

    def told(pair: Pair | None) -> dict[str, Any] | None:
        if pair is None:
            return None
        value, ends = _times_as_fast(one, pair)
        estimate: Estimate = pair.ratio
        kind = "interval" if estimate.interval else "range" if estimate.range else None
        shown = ends and [end if end and math.isfinite(end) else None for end in ends]
        return {"times_as_fast": value, "ends": shown, "kind": kind}

    def reached(workload: str) -> dict[str, int]:
        cells = {name: one.found.cells.get(name, {}).get(workload, {}) for name in (one.a, one.b)}
        return {name: sum(study.reached for study in cell.values()) for name, cell in cells.items()}

    pair = one.tested
    return {
        "a": one.a,
        "b": one.b,
        "clock": one.found.clock,
        "unit": one.found.unit,
        "studies": one.studies,
        "overall": told(one.overall),
        "scores": _score_values(one, (one.a, one.b)),
        "wins": None if pair is None else pair.win_probability if pair.a == one.a else 1 - pair.win_probability,
        "separable": None if pair is None else pair.separable,
        "p": None if pair is None else pair.test.p_holm,
        "seeds_needed": None if pair is None else pair.test.seeds,
        "workloads": {
            workload: {
                "times": {name: _time(one.found, name, workload) for name in (one.a, one.b)},
                "reached": reached(workload),
                "speed": told(one.each.get(workload)),
            }
            for workload in one.found.targets
        },
        "notes": list(one.found.notes),
    }
