"""Curves: every measurement of a trial, against each axis, and the median of the seeds.

A curve comes of the events of a run folder or of the rows of AlgoPerf's logs. Where a page would get too large, curves
are thinned; the first measurement, the last, the best and the one that met the target always stay.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import RunFolderError
from harness.record.run_folder import Trial
from harness.record.spec import CLOCKS, Mode
from harness.scoring.outcomes import UNITS, Outcome

AXES = {**{str(clock): unit for clock, unit in UNITS.items()}, "examples": "training examples"}
"""What a curve can be drawn against, and its unit."""

GRID = 40  # places at which a median is taken

_DIGITS = 7  # as many as float32 metrics have


@dataclass(frozen=True)
class Curve:
    """The measurements of one trial.

    Attributes:
      outcome: what the trial contributes to the scores.
      counts: whether it stands for its study.
      values: the workload's metric at each measurement; None where it is no finite number.
      axes: by name in `AXES`, how far the trial was at each measurement; only axes that were measured throughout.
      hit: index of the measurement that met the target, where that counts.
    """

    outcome: Outcome
    counts: bool
    values: list[float | None]
    axes: dict[str, list[float]]
    hit: int | None


def of_trial(trial: Trial, outcome: Outcome, counts: bool) -> Curve:
    """Return the curve of a run folder, its calibrated seconds at the speed of its program, as in the scores.

    Raises RunFolderError where a measurement is damaged.
    """
    events = [event for event in trial.events if event["event"] == "measurement"]
    try:
        values = [event["metrics"][trial.spec.metric] for event in events]
        axes: dict[str, list[float | None]] = {
            "steps": [event["step"] for event in events],
            "examples": [event["examples"] for event in events],
        }
        for clock in CLOCKS:
            speed = outcome.speed if clock == "calibrated" else 1.0
            held = [event["scored"][clock] for event in events]
            axes[clock] = [None if value is None else value / speed for value in held]
    except (KeyError, TypeError) as error:
        raise RunFolderError(
            f"{trial.path}/log.jsonl: a measurement is damaged ({error!r}); remove the folder to run the trial anew"
        ) from None
    return _curve(outcome, counts, values, axes)


def of_rows(rows: Sequence[tuple[float, float, float]], outcome: Outcome, counts: bool) -> Curve:
    """Return the curve of one of AlgoPerf's logs, from rows of seconds, step and metric."""
    seconds, steps, values = zip(*rows, strict=True) if rows else ((), (), ())
    return _curve(outcome, counts, values, {"wall": seconds, "steps": steps})


def _curve(
    outcome: Outcome,
    counts: bool,
    values: Iterable[float | None],
    axes: Mapping[str, Sequence[float | None]],
) -> Curve:
    known = {name: [_rounded(x) for x in at] for name, at in axes.items()}
    return Curve(
        outcome,
        counts,
        [_rounded(value) for value in values],
        {name: [x for x in at if x is not None] for name, at in known.items() if at and None not in at},
        outcome.evaluation if outcome.reached else None,
    )


def thinned(curves: Sequence[Curve], most: int) -> tuple[list[Curve], bool]:
    """Return the curves with at most about `most` measurements in all, and whether any was left out."""
    total = sum(len(curve.values) for curve in curves)
    if total <= most:
        return list(curves), False
    share = max(12, most // len(curves))
    return [_thin(curve, share) for curve in curves], True


def _thin(curve: Curve, number: int) -> Curve:
    count = len(curve.values)
    if count <= number:
        return curve
    known = [(value, i) for i, value in enumerate(curve.values) if value is not None]
    ends = [min(known)[1], max(known)[1]] if known else []
    hit = [] if curve.hit is None else [curve.hit]
    kept = sorted({*np.linspace(0, count - 1, number - 3).round().astype(int).tolist(), *ends, *hit})
    axes = {name: [at[i] for i in kept] for name, at in curve.axes.items()}
    place = None if curve.hit is None else kept.index(curve.hit)
    return Curve(curve.outcome, curve.counts, [curve.values[i] for i in kept], axes, place)


def median(curves: Sequence[Curve], axis: str) -> tuple[list[float], list[float]]:
    """Return x and y of the median over seeds: between measurements a curve is a straight line, after its end it holds
    its last value. The median ends where half of the curves have ended. One curve is its own median.
    """
    drawn = [_points(curve, axis) for curve in curves if axis in curve.axes]
    drawn = [(x, y) for x, y in drawn if len(x)]
    if len(drawn) < 2:
        return (drawn[0][0].tolist(), drawn[0][1].tolist()) if drawn else ([], [])
    start = max(float(x[0]) for x, _ in drawn)
    end = statistics.median(float(x[-1]) for x, _ in drawn)
    if end <= start:
        return [], []
    grid = np.linspace(start, end, GRID)
    middle = np.median([np.interp(grid, x, y) for x, y in drawn], axis=0)
    return [float(f"{v:.5g}") for v in grid], [float(f"{v:.5g}") for v in middle]


def domain(curves: Iterable[Sequence[float | None]], target: float | None, mode: Mode) -> tuple[float, float] | None:
    """Return the values a plot starts with: those of the measurements past the first tenth of each curve but for its
    worst twentieth, without the worst tenth of the curves, and the target. The rest is often so far off that it would
    flatten all else; zooming out shows it.
    """
    sign = 1.0 if mode == "min" else -1.0  # times this, lower is better
    ends = [] if target is None else [(sign * target, sign * target)]
    for held in curves:
        skipped = min(max(1, math.ceil(len(held) / 10)), len(held) - 1) if len(held) > 2 else 0
        values = [sign * value for value in held[skipped:] if value is not None]
        if values:
            ends.append((min(values), float(np.quantile(values, 0.95))))
    if not ends:
        return None
    lowest, highest = zip(*ends, strict=True)
    end = float(np.quantile(highest, 0.9, method="higher"))
    best, worst = sign * min(lowest), sign * (end if target is None else max(end, sign * target))
    room = 0.05 * abs(worst - best) or 0.05 * abs(best) or 1.0
    return min(worst, best) - room, max(worst, best) + room


def _points(curve: Curve, axis: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    both = [(x, y) for x, y in zip(curve.axes[axis], curve.values, strict=True) if y is not None]
    x, y = np.array(both, float).reshape(-1, 2).T
    return x, y


def plain(curve: Curve, record: int) -> dict[str, Any]:
    """Return a curve as JSON; `record` is the number of its row among the records."""
    one = curve.outcome
    return {
        "s": one.submission,
        "n": f"{one.study}/{one.trial}",
        "r": record,
        "counts": curve.counts,
        "hit": curve.hit,
        "y": curve.values,
        "x": curve.axes,
    }


def _rounded(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.{_DIGITS}g}")
