"""Two packs side by side, before and after a change: one board in which each submission stands twice."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.record.run_folder import Trial
from harness.report.page import plots
from harness.report.page.boards import Board
from harness.report.scores import verdict
from harness.scoring import separability
from harness.scoring.sampling import Estimate
from harness.scoring.separability import PairTest
from harness.scoring.standings import Pair


def renamed(trials: Sequence[Trial], label: str) -> list[Trial]:
    """Return the trials with the label beside the names of their submissions, in the searches behind them too."""

    def one(trial: Trial) -> Trial:
        name = f"{trial.spec.submission} ({label})"
        search = trial.search and replace(
            trial.search,
            asked=replace(trial.search.asked, submission=name),
            runs=tuple(replace(run, submission=name) for run in trial.search.runs),
        )
        return replace(trial, spec=replace(trial.spec, submission=name), search=search)

    return [one(trial) for trial in trials]


def looks(both: Board, before: str, after: str) -> dict[str, plots.Look]:
    """Return how the submissions of two packs are drawn: each in one colour, dashed as it was before."""
    own = {name: name.removesuffix(f" ({before})").removesuffix(f" ({after})") for name in both["submissions"]}
    place = {name: n for n, name in enumerate(dict.fromkeys(own.values()))}
    found = {name: plots.look(place[of]) for name, of in own.items()}
    return {name: (one[0], int(name.endswith(f" ({before})")), one[2]) for name, one in found.items()}


def changes(both: Board, before: str, after: str) -> list[dict[str, Any]]:
    """Return, of a board of two packs, what became of each submission that both have: how many times as fast it is
    now, and its time on each workload before and after. The p-values are corrected over these pairs alone, since no
    other is asked about here.
    """
    scores = both["scores"][both["clock"]]
    pairs = {frozenset((pair["a"], pair["b"])): pair for pair in scores["pairs"]}
    names = [name.removesuffix(f" ({before})") for name in both["submissions"] if name.endswith(f" ({before})")]
    asked = [(name, f"{name} ({before})", f"{name} ({after})") for name in names]
    asked = [(name, old, new) for name, old, new in asked if frozenset((old, new)) in pairs]
    found = [pairs[frozenset((old, new))] for _, old, new in asked]
    tests = separability.holm([PairTest(0, 1, one["difference"], one["error"], one["p"]) for one in found])
    rows = []
    for (name, old, new), pair, test in zip(asked, found, tests, strict=True):
        span = pair if pair["low"] is not None or pair["high"] is not None else pair["range"]
        ends = span and [span["low"], span["high"]]
        slower = pair["a"] == old  # a is the one with the better rank, and the ratio how many times as fast a is
        own = _seeds(both, test, old, new, len(tests))
        told = Pair(pair["a"], pair["b"], Estimate(pair["ratio"]), pair["win_probability"], own)
        rows.append(
            {
                "submission": name,
                "ratio": 1.0 / pair["ratio"] if slower and pair["ratio"] else pair["ratio"],
                "ends": ends and ([_turned(end) for end in reversed(ends)] if slower else ends),
                "p": test.p_holm,
                "verdict": verdict(told),
                "times": {w: [scores["time_to_target"][n].get(w) for n in (old, new)] for w in both["ranked"]},
            }
        )
    return rows


def _seeds(both: Board, test: PairTest, old: str, new: str, tests: int) -> PairTest:
    """Return the test with the number of seeds that it takes where so many pairs are asked about."""
    if test.error is None:
        return test
    cells = [both["cells"][w].get(name) for w in both["ranked"] for name in (old, new)]
    studies = statistics.fmean(cell["studies"] for cell in cells if cell)
    seeds = separability.seeds_needed(test.difference, test.error, studies, separability.ALPHA / tests)
    return replace(test, seeds=seeds)


def _turned(end: float | None) -> float | None:
    """The inverse of an end of an interval, where None stands for a miss."""
    return 1.0 / end if end else None
