"""Scores for programs: the object that `--json` prints, and `scores.csv`. README.md beside this describes both."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from typing import Any

from harness.record import plain_data
from harness.scoring import bootstrap, profiles, separability
from harness.scoring.gaps import Gap
from harness.scoring.sampling import Ends, Estimate
from harness.scoring.score import Scores
from harness.scoring.standings import Pair, Standings

SCHEMA = 1


def as_json(found: Scores) -> dict[str, Any]:
    """Return what `--json` prints. Null stands for a miss, and for an end of an interval that has none."""
    ranking = found.ranking
    none: dict[str, float | None] = {"score": None, "low": None, "high": None}
    scores = dict.fromkeys(found.submissions, none) | (_scores(ranking) if ranking else {})
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "rules": found.rules,
        "clock": found.clock,
        "unit": found.unit,
        "workloads": list(found.targets),
        "ranked": list(found.ranked),
        "held_out": dict(found.held_out),
        "scores": scores,
        "ranges": {},
        "ranks": {},
        "rank_sets": {},
        "parts": {},
        "ranks_without": {},
        "time_to_target": found.times[found.clock] if found.clock else {},
        "time_intervals": {},
        "ratios": {},
        "mean_ratios": {},
        "speed_ups": {},
        "pairs": [],
        "clocks": {
            clock: {
                "scores": _scores(on),
                "ranks": dict(on.rank),
                "speed_ups": _speed_ups(on),
                "time_to_target": found.times[clock],
            }
            for clock, on in found.standings.items()
        },
        "studies": {
            name: {w: [one.times.get(found.clock) for one in row.values()] for w, row in cell.items()}
            for name, cell in found.cells.items()
            if found.clock
        },
        "steps_to_target": {name: {w: _whole(found.steps(name, w)) for w in row} for name, row in found.cells.items()},
        "status": {name: {w: found.status(name, w) for w in row} for name, row in found.cells.items()},
        "tuning": [plain_data.to_plain(choice) for choice in found.choices],
        "speeds": _speeds(found),
        "looks": dict(found.looks),
        "verdicts": [plain_data.to_plain(verdict) for verdict in found.verdicts],
        "missing": [_gap(gap) for gap in found.gaps],
        "method": {
            "r_max": profiles.R_MAX,
            "interval": bootstrap.LEVEL,
            "draws": bootstrap.DRAWS,
            "least_studies": bootstrap.MIN_STUDIES,
            "seed": bootstrap.SEED,
            "alpha": separability.ALPHA,
            "power": separability.POWER,
        },
        "notes": list(found.notes),
    }
    if ranking is None:
        return data
    return data | {
        "ranges": {name: _ends(e.range) for name, e in ranking.score.items()},
        "ranks": dict(ranking.rank),
        "rank_sets": {name: list(ends) for name, ends in ranking.rank_set.items()},
        "parts": {name: [plain_data.to_plain(p) for p in e.parts] for name, e in ranking.score.items() if e.parts},
        "ranks_without": {w: dict(row) for w, row in ranking.rank_without.items()},
        "time_intervals": {n: {w: _ends(e.interval) for w, e in row.items()} for n, row in ranking.time.items()},
        "ratios": {n: {w: _estimate("ratio", e) for w, e in row.items()} for n, row in ranking.ratio.items()},
        "mean_ratios": {name: _estimate("ratio", e) for name, e in ranking.mean_ratio.items()},
        "speed_ups": _speed_ups(ranking),
        "pairs": [_pair(pair) for pair in ranking.pairs],
    }


def as_csv(found: Scores) -> str:
    """Return scores.csv: a line for each submission in the order of ranks, an empty cell for what there is not."""
    ranking = found.ranking
    others = [clock for clock in found.standings if clock != found.clock]
    head = ["rank", "submission", "score", "low", "high", "range_low", "range_high", "mean_ratio", "targets_reached"]
    head += ["speed_up", "speed_up_low", "speed_up_high", "speed_up_workloads"]
    head += [*(f"score_{clock}" for clock in others), *(f"time_{w}" for w in found.ranked)]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(head)
    last = len(found.submissions)
    for name in sorted(found.submissions, key=lambda n: (ranking.rank.get(n, last) if ranking else 0, n)):
        if ranking is None or name not in ranking.rank:
            rows.writerow([None, name] + [None] * (len(head) - 2))
            continue
        score, speed_up = ranking.score[name], _speed_ups(ranking).get(name, {})
        times = [
            found.times[ranking_clock][name][w]
            for ranking_clock in [found.clock]
            if ranking_clock
            for w in found.ranked
        ]
        rows.writerow(
            [ranking.rank[name], name, score.value, *(score.interval or (None, None)), *(score.range or (None, None))]
            + [_finite(ranking.mean_ratio[name].value), sum(t is not None for t in times)]
            + [speed_up.get(key) for key in ("speed_up", "low", "high")]
            + [len(speed_up["workloads"]) if speed_up else None]
            + [found.standings[clock].score[name].value for clock in others]
            + times
        )
    return text.getvalue()


def _scores(on: Standings) -> dict[str, dict[str, float | None]]:
    return {name: _estimate("score", estimate) for name, estimate in on.score.items()}


def _speed_ups(on: Standings) -> dict[str, dict[str, Any]]:
    return {
        name: _times_as_fast("speed_up", found.ratio or Estimate(math.nan)) | {"workloads": list(found.common)}
        for name, found in on.speed_up.items()
    }


def _speeds(found: Scores) -> dict[str, dict[str, dict[str, Any]]]:
    """By submission and workload: the calibrated seconds of a step, in steps of the yardstick, and over how many
    processes they are pooled.
    """
    told: dict[str, dict[str, dict[str, Any]]] = {}
    for (name, workload), speed in found.speeds.items():
        ratios = {str(size): ratio for size, ratio in speed.step_ratio.items()}
        told.setdefault(name, {})[workload] = {
            "step_ratio": ratios,
            "processes": len(speed.processes),
            "scatter": speed.scatter,
        }
    return told


def _pair(pair: Pair) -> dict[str, Any]:
    test = pair.test
    return {
        "a": pair.a,
        "b": pair.b,
        **_times_as_fast("ratio", pair.ratio),
        "range": _ends(_missed_at_0(pair.ratio.range)),
        "win_probability": pair.win_probability,
        "difference": abs(test.difference),
        "error": test.error,
        "p": test.p,
        "p_holm": test.p_holm,
        "separable": pair.separable,
        "faster": pair.a if pair.separable else None,
        "seeds": test.seeds,
    }


def _gap(gap: Gap) -> dict[str, Any]:
    return {
        "submission": gap.submission,
        "workload": gap.workload,
        "studies": list(gap.studies),
        "trials": gap.trials,
        "studies_expected": gap.studies_expected,
        "trials_expected": gap.trials_expected,
    }


def _estimate(name: str, estimate: Estimate) -> dict[str, Any]:
    return {name: _finite(estimate.value)} | (_ends(estimate.interval) or {"low": None, "high": None})


def _times_as_fast(name: str, ratio: Estimate) -> dict[str, Any]:
    return _estimate(name, replace(ratio, interval=_missed_at_0(ratio.interval)))


def _missed_at_0(ends: Ends | None) -> Ends | None:
    """Make both ends that stand for a miss infinite: how many times as fast is 0 where the first misses."""
    return ends and (ends[0] or math.inf, ends[1] or math.inf)


def _ends(ends: Ends | None) -> dict[str, float | None] | None:
    return None if ends is None else {"low": _finite(ends[0]), "high": _finite(ends[1])}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _whole(steps: float | None) -> int | float | None:
    """Steps as an integer, but for the middle of two studies."""
    return int(steps) if steps is not None and steps.is_integer() else steps
