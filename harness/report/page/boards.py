"""From trials, published records or AlgoPerf's logs to boards: one JSON-like structure that every view is made of.

The numbers are those of `harness score`: what stands under "scores" is what `--json` prints, on each clock that was
measured.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import RunFolderError
from harness.record.run_folder import Trial
from harness.record.spec import Clock
from harness.report import leaderboard, score_files, staleness
from harness.report.page import curves, plots, records
from harness.report.page.curves import Curve
from harness.report.scores import rank_text, verdict
from harness.scoring import profiles, score, selection, speeds
from harness.scoring.algoperf import Logs
from harness.scoring.algoperf_targets import Targets
from harness.scoring.outcomes import UNITS, Outcome, outcome
from harness.scoring.score import Scores
from harness.scoring.standings import Standings

Board = dict[str, Any]

MOST_MEASUREMENTS = 40_000  # of all curves of a page, so that it stays under 5 MB


def of_trials(
    trials: Sequence[Trial],
    name: str,
    unscored: Collection[str],
    *,
    published: bool = False,
    below: Path | None = None,
    allow_missing: bool = False,
    stale: bool = True,
    most: int = MOST_MEASUREMENTS,
) -> Board:
    """Return the board of trials by one ruleset; `below` is the folder that links to records start from, `stale` asks
    what is another one here now, and curves are thinned to `most` measurements in all.

    Raises RunFolderError where no trial counts, or where they cannot be scored together.
    """
    chosen = selection.select(trials, unscored)
    if not chosen.trials:
        raise RunFolderError(f"{name}: no trial there counts ({'; '.join(chosen.notes) or 'there is none'})")
    options: dict[str, Any] = {"allow_missing": allow_missing, "every_baseline": True}
    known = speeds.pooled(chosen.trials)
    both = [(trial, outcome(trial, speeds.own_over_pooled(trial, known))) for trial in chosen.trials]
    board = _board(
        name,
        lambda clock: score.score(trials, unscored, clock=clock, **options),
        [one for _, one in both],
        lambda place, counts: curves.of_trial(*both[place], counts),
        most,
    )
    found, specs = board.pop("found"), {trial.spec.workload: trial.spec for trial in chosen.trials}
    changed, gone = staleness.submissions(chosen.trials) if stale else ([], [])
    board["modes"] = {w: spec.mode for w, spec in specs.items()}
    board["target_values"] = {w: spec.target for w, spec in specs.items()}
    board["records"] = [
        records.of_trial(*both[place], counts, below) for place, counts in enumerate(board.pop("counting"))
    ]
    for workload, row in board["cells"].items():
        for submission, cell in row.items():
            of = [t.result for t in chosen.trials if t.result and _cell(t) == (submission, workload)]
            peaks = [result.peak_bytes for result in of if result.peak_bytes is not None]
            cell["peak_bytes"] = statistics.median(peaks) if peaks else None
    return board | {
        "notes": [*board["notes"], *(leaderboard.what_it_shows(chosen.trials) if published else [])],
        "stale": {"lines": staleness.since_published(chosen.trials) if stale else [], "submissions": [*changed, *gone]},
        "commits": staleness.commits(chosen.trials),
        "spent": records.spent(chosen.trials),
        "points": records.points(found, both, found.clock),
        "surroundings": records.surroundings(chosen.trials),
        "terms": records.rules(chosen.trials),
        "workloads": records.workloads(chosen.trials),
        "programs": records.programs(chosen.trials),
    }


def of_logs(logs: Logs, targets: Targets, name: str, *, most: int = MOST_MEASUREMENTS, **options: Any) -> Board:
    """Return the board of AlgoPerf's logs; `options` are those of `harness.scoring.score.score_logs`."""
    outcomes = logs.outcomes
    board = _board(
        name,
        lambda clock: score.score_logs(logs, targets, clock=clock, every_baseline=True, **options),
        outcomes,
        lambda place, counts: curves.of_rows(logs.rows.get(outcomes[place].where, ()), outcomes[place], counts),
        most,
        only_counting=True,
    )
    board.pop("found")
    scored = {one.workload for one in outcomes}
    counting = board.pop("counting")
    return board | {
        "modes": {w: targets.known[w].mode for w in scored},
        "target_values": {w: targets.known[w].value for w in scored},
        "records": [records.of_outcome(one, counts) for one, counts in zip(outcomes, counting, strict=True)],
        "stale": {"lines": [], "submissions": []},
        "commits": [],
        "spent": {},
        "points": [],
        "surroundings": [],
        "terms": {"ruleset": board["rules"], "targets file": Path(targets.where).name},
        "workloads": [],
        "programs": [],
    }


def _board(
    name: str,
    scored: Callable[[Clock | None], Scores],
    outcomes: Sequence[Outcome],
    curve: Callable[[int, bool], Curve],
    most: int,
    *,
    only_counting: bool = False,
) -> Board:
    """Return what trials and logs have alike; `found` and `counting` are for the caller to take out."""
    found = scored(None)
    assert found.clock is not None
    on: dict[Clock, Scores] = {found.clock: found}
    on |= {clock: scored(clock) for clock in found.times if clock != found.clock}
    stands = {one.where for row in found.cells.values() for cell in row.values() for one in cell.values()}
    counting = [one.where in stands for one in outcomes]
    places = [n for n, counts in enumerate(counting) if counts or not only_counting]
    drawn, thinned = curves.thinned([curve(n, counting[n]) for n in places], most)
    by_workload: dict[str, list[tuple[int, Curve]]] = {}
    for place, one in zip(places, drawn, strict=True):
        by_workload.setdefault(one.outcome.workload, []).append((place, one))
    rank = found.ranking.rank if found.ranking else {}
    order = [*sorted(rank, key=lambda n: (rank[n], n)), *(n for n in found.submissions if n not in rank)]
    return {
        "name": name,
        "rules": found.rules,
        "clock": found.clock,
        "clocks": {clock: UNITS[clock] for clock in on},
        "submissions": order,
        "looks": {name: plots.look(place) for place, name in enumerate(order)},
        "ranked": list(found.ranked),
        "held_out": dict(found.held_out),
        "targets": found.targets,
        "metrics": found.metrics,
        "several": found.several,
        "cells": _cells(found),
        "scores": {clock: score_files.as_json(one) for clock, one in on.items()},
        "standings": {clock: _standings(one.ranking) for clock, one in on.items() if one.ranking},
        "notes": list(found.notes),
        "clock_notes": {clock: [n for n in one.notes if n not in found.notes] for clock, one in on.items()},
        "curves": {w: [curves.plain(one, at) for at, one in of] for w, of in sorted(by_workload.items())},
        "medians": {w: _medians([one for _, one in of if one.counts]) for w, of in by_workload.items()},
        "axes": _axes(found.clock, drawn),
        "thinned": thinned,
        "found": found,
        "counting": counting,
    }


def _axes(clock: Clock, drawn: Sequence[Curve]) -> dict[str, str]:
    """What curves can be drawn against, the ranking clock first."""
    measured = {axis for one in drawn for axis in one.axes}
    order = [clock, "calibrated", "wall", "steps", "examples", "cpu", "energy"]
    return {axis: curves.AXES[axis] for axis in dict.fromkeys(order) if axis in measured}


def _medians(drawn: Sequence[Curve]) -> dict[str, dict[str, Any]]:
    by_name: dict[str, list[Curve]] = {}
    for one in drawn:
        by_name.setdefault(one.outcome.submission, []).append(one)
    axes = dict.fromkeys(axis for one in drawn for axis in one.axes)
    return {axis: {name: curves.median(of, axis) for name, of in sorted(by_name.items())} for axis in axes}


def _cells(found: Scores) -> dict[str, dict[str, dict[str, Any]]]:
    """What `harness score` shows of each submission on each workload beside times."""
    told: dict[str, dict[str, dict[str, Any]]] = {workload: {} for workload in found.targets}
    for name, row in found.cells.items():
        for workload, cell in row.items():
            of = list(cell.values())
            missed = [one.best for one in of if one.best is not None and not one.reached]
            told[workload][name] = {
                "status": found.status(name, workload),
                "reached": sum(one.reached for one in of),
                "studies": len(of),
                "finished": all(one.finished for one in of),
                "missed_best": statistics.median(missed) if missed else None,
                "steps": found.steps(name, workload),
                "test": found.test(name, workload),
                "times": {clock: times[name].get(workload) for clock, times in found.times.items()},
            }
    return told


def _standings(ranking: Standings) -> dict[str, Any]:
    """What the JSON of scores lacks: ranks as text, profiles, speed-ups over each submission, verdicts of pairs."""
    return {
        "rank": {name: rank_text(ranking, name) for name in ranking.submissions} if ranking.rank_set else {},
        "tested": any(pair.separable is not None for pair in ranking.pairs),
        "profiles": {name: profile([e.value for e in row.values()]) for name, row in ranking.ratio.items()},
        "speed_ups": {
            base: {
                name: None
                if one.ratio is None
                else {
                    "value": _finite(one.ratio.value),
                    "ends": _ends(one.ratio.interval or one.ratio.range),
                    "workloads": len(one.common),
                }
                for name, one in row.items()
            }
            for base, row in ranking.speed_ups.items()
        },
        "verdicts": [verdict(pair) for pair in ranking.pairs],
        "interval": any(one.interval for one in ranking.score.values()),
        "range": any(one.range for one in ranking.score.values()),
    }


def profile(ratios: Sequence[float]) -> list[list[float]]:
    """Return the corners of a performance profile: from each ratio on, the share of workloads that took at most so
    many times the best; from 1 to the largest ratio that scores.
    """
    values = [value for value in ratios if value <= profiles.R_MAX]
    places = sorted({1.0, *values, profiles.R_MAX})
    ratios_W = np.array(ratios, float)
    return [[place, profiles.profile(ratios_W, place)] for place in places]


def _cell(trial: Trial) -> tuple[str, str]:
    return trial.spec.submission, trial.spec.workload


def _ends(ends: tuple[float, float] | None) -> list[float | None] | None:
    """Return the ends of a speed-up, None for a miss: 0 is one of the submission, infinity one of the baseline."""
    return None if ends is None else [_finite(end or math.inf) for end in ends]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
