"""How many times the data the baseline needs, on each rung of a ladder: a pure function of final metrics. No jax.

A rung is a width of a workload's model and an amount of training data, with a schedule of that length. On each width
the baseline's metric over its amounts D makes a curve L(D). A submission that ends at L_sub on a rung is as good as the
baseline with D' data, L(D') = L_sub, and its speed-up is D' / D: the data-equivalent ratio of Wen et al. (2025,
arXiv:2509.02046).

The curve. Wen et al. fit E + A D^-a. Here such a law goes through each three neighbouring amounts exactly, and between
two amounts the two laws that hold both are blended: one law rarely fits a loss that first falls fast. Of two amounts
there is a straight line over log D. Beyond the amounts the outermost law goes on, and what stands on it is marked. The
baseline has more amounts than there are rungs: those half-way too, and one beyond.

The interval. All submissions share seeds, so seed k has a residual of its own at each D': r_k = (L_sub,k - L_sub) -
(L_k(D') - L(D')), where L_k is the curve moved, to first order, by the seed's own deviations at each amount. The
interval holds each D' at which a t-test does not tell the mean of L_sub - L(D') from 0 (as in Fieller's theorem): a
curve that flattens makes it lopsided, and open where no amount of data would do. It is wider by the
curve's own `doubt`, which no seed tells of.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.record.spec import Mode

LEVEL = 0.95
ALPHA = 0.05  # of a turn that is none
BEYOND = math.log(4.0)  # no equivalent is looked for further than that from the amounts
GRID = 1_600  # places at which it is looked for
LEAST_SEEDS = 3  # of an interval

Array = npt.NDArray[np.float64]
Curve = Callable[[Array], Array]


@dataclass(frozen=True)
class Ladder:
    """The runs of a ladder.

    Attributes:
      workload: the one whose ladder it is.
      submissions: the baseline first.
      workloads, widths: of the rungs of width, ascending.
      ratios, steps: of the amounts of data, ascending.
      curve_steps: of the baseline's amounts, those of the rungs among them.
      finals: by submission, width, amount and seed, the baseline's by its own amounts; None where a run diverged.
    """

    workload: str
    metric: str
    mode: Mode
    submissions: tuple[str, ...]
    workloads: tuple[str, ...]
    widths: tuple[int, ...]
    ratios: tuple[float, ...]
    steps: tuple[int, ...]
    curve_steps: tuple[int, ...]
    finals: dict[str, tuple[tuple[tuple[float | None, ...], ...], ...]]

    @property
    def baseline(self) -> str:
        """What speed-ups are over."""
        return self.submissions[0]

    @property
    def seeds(self) -> int:
        """Runs on each rung."""
        return len(self.finals[self.baseline][0][0])

    def losses(self, submission: str, width: int) -> Array:
        """Return what is to be small on the width of this number, [amounts, seeds]; NaN where a run diverged."""
        sign = 1.0 if self.mode == "min" else -1.0
        return sign * np.array(self.finals[submission][width], float)

    def on_rungs(self, submission: str, width: int) -> Array:
        """Return the same at the amounts of the rungs."""
        losses = self.losses(submission, width)
        if submission != self.baseline:
            return losses
        return losses[[self.curve_steps.index(step) for step in self.steps]]


@dataclass(frozen=True)
class SpeedUp:
    """A data-equivalent ratio.

    Attributes:
      width, ratio: the rung; None: the geometric mean over all, or over all of a width, that have one of their own.
      final: the mean of the metric over the seeds; None where one diverged, and of a mean over rungs.
      value: None where the baseline reaches that metric with no amount that is looked for, or where there is no curve.
      low, high: the ends of the interval; None: open. Both None without `interval`.
      interval: whether there is one.
      extrapolated: whether the equivalent lies beyond the baseline's amounts.
      why: what is in the way of a value.
    """

    submission: str
    width: int | None
    ratio: float | None
    final: float | None
    value: float | None
    low: float | None = None
    high: float | None = None
    interval: bool = False
    extrapolated: bool = False
    why: str = ""


@dataclass(frozen=True)
class Turn:
    """Two submissions whose order turns over: `first` is ahead on one rung (width, ratio), `second` on another."""

    first: str
    second: str
    first_ahead: tuple[int, float]
    second_ahead: tuple[int, float]


def between(ratios: Sequence[float]) -> tuple[float, ...]:
    """Return the baseline's amounts for these of the rungs: with each half-way to the next one, and one beyond."""
    last = ratios[-1] * math.sqrt(ratios[-1] / ratios[-2])
    halves = [math.sqrt(one * other) for one, other in itertools.pairwise(ratios)]
    return tuple(sorted([*ratios, *halves, last]))


def curve(x: Sequence[float], y: Sequence[float]) -> Curve | None:
    """Return the baseline's curve over log data from its values `y` at `x`, ascending; None where it does not fall."""
    if len(x) < 2 or any(not one > other for one, other in itertools.pairwise(y)):
        return None
    if len(x) == 2:
        slope = (y[1] - y[0]) / (x[1] - x[0])
        return lambda at: y[0] + slope * (at - x[0])
    laws = [_law(x[n : n + 3], y[n : n + 3]) for n in range(len(x) - 2)]

    def found(at: Array) -> Array:
        values = np.where(at < x[1], laws[0](at), laws[-1](at))
        for n in range(1, len(x) - 2):
            share = (at - x[n]) / (x[n + 1] - x[n])
            blend = (1.0 - share) * laws[n - 1](at) + share * laws[n](at)
            values = np.where((at >= x[n]) & (at < x[n + 1]), blend, values)
        return values

    return found


def doubt(x: Sequence[float], y: Sequence[float], at: Array) -> Array:
    """Return how far the curve may be off at places, by its own values: how far it would move were the two laws of four
    neighbouring amounts blended by the weights that make a cubic of two parabolas. 0 where one law holds, or for less
    than four amounts.
    """
    found = np.zeros_like(at)
    for n in range(len(x) - 3):
        left, right = _law(x[n : n + 3], y[n : n + 3]), _law(x[n + 1 : n + 4], y[n + 1 : n + 4])
        share = np.clip((at - x[n + 1]) / (x[n + 2] - x[n + 1]), 0.0, 1.0)
        cubic = (at - x[n]) / (x[n + 3] - x[n])
        low = -math.inf if n == 0 else x[n + 1]
        high = math.inf if n == len(x) - 4 else x[n + 2]
        moved = np.abs(share - cubic) * np.abs(right(at) - left(at))
        found = np.where((at >= low) & (at < high), moved, found)
    return found


def _law(x: Sequence[float], y: Sequence[float]) -> Curve:
    """Return E + A exp(-a x) through three points that fall; one that would fall ever faster goes on straight."""
    before, after = x[1] - x[0], x[2] - x[1]
    wanted = (y[0] - y[1]) / (y[1] - y[2])

    def share(a: float) -> float:  # (e^(a before) - 1) / (1 - e^(-a after)), which rises with a
        return before / after if abs(a) < 1e-9 else math.expm1(a * before) / -math.expm1(-a * after)

    low, high = -40.0, 40.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if share(middle) < wanted else (low, middle)
    a = 0.5 * (low + high)

    def law(at: Array) -> Array:
        far = at - x[1]
        if abs(a) < 1e-9:
            return y[1] - (y[0] - y[1]) * far / before
        return y[1] + (y[0] - y[1]) * np.expm1(-a * far) / math.expm1(a * before)

    if a >= 0:
        return law
    slope = (y[0] - y[1]) * -a * math.exp(-a * after) / math.expm1(a * before)
    return lambda at: np.where(at > x[2], y[2] + slope * (at - x[2]), law(np.minimum(at, x[2])))


def speed_ups(ladder: Ladder) -> list[SpeedUp]:
    """Return the speed-up of each submission but the baseline on each rung, then its means over each width and all."""
    found = []
    for name in ladder.submissions[1:]:
        every: list[_Found] = []
        means = []
        for number, width in enumerate(ladder.widths):
            rungs = _of_width(ladder, name, number)
            every += rungs
            means.append(_mean(name, width, rungs))
        found += [one.told for one in every]
        found += means if len(ladder.widths) > 1 and len(ladder.ratios) > 1 else []
        found.append(_mean(name, None, every))
    return found


@dataclass(frozen=True)
class _Found:
    """A speed-up, its logarithm by each seed, None without a value, and how far the curve's doubt moves that."""

    told: SpeedUp
    logs_K: Array | None = None
    doubt: float = 0.0


def _of_width(ladder: Ladder, name: str, number: int) -> list[_Found]:
    """Return each speed-up on a width."""
    width, x = ladder.widths[number], np.log(np.array(ladder.curve_steps, float))
    own_x = np.log(np.array(ladder.steps, float))
    base_DK, own_DK = ladder.losses(ladder.baseline, number), ladder.losses(name, number)
    base_D, sign = base_DK.mean(1), 1.0 if ladder.mode == "min" else -1.0
    if bad := _no_curve(ladder, base_D):
        return [_Found(_without(ladder, name, width, ratio, own_DK[d], bad)) for d, ratio in enumerate(ladder.ratios)]
    at = np.linspace(x[0] - BEYOND, x[-1] + BEYOND, GRID)
    value, slopes = _with_slopes(x, base_D, at)
    doubt_G = doubt(x.tolist(), base_D.tolist(), at)
    moved_KG = (base_DK - base_D[:, None]).T @ slopes  # to first order, of each seed's own curve
    found: list[_Found] = []
    for d, ratio in enumerate(ladder.ratios):
        own_K = own_DK[d]
        if not np.isfinite(own_K).all():
            found.append(_Found(_without(ladder, name, width, ratio, own_K, "a run diverged")))
            continue
        gap_G = own_K.mean() - value
        residual_KG = (own_K - own_K.mean())[:, None] - moved_KG
        log, final = _crossing(at, gap_G), float(sign * own_K.mean())
        ends = _ends(at, gap_G, residual_KG, doubt_G)
        low, high = (None if end is None else math.exp(end - own_x[d]) for end in ends)
        told = SpeedUp(
            name,
            width,
            ratio,
            final,
            None if log is None else math.exp(log - own_x[d]),
            low,
            high,
            interval=ladder.seeds >= LEAST_SEEDS,
            extrapolated=log is None or not x[0] - 1e-9 <= log <= x[-1] + 1e-9,
            why="" if log is not None else "the baseline gets there with no amount of data that its curve tells of",
        )
        if log is None:
            found.append(_Found(told))
        else:
            place = int(np.argmin(abs(at - log)))
            slope = np.gradient(value, at)[place]
            logs_K = (log - own_x[d]) + residual_KG[:, place] / slope
            found.append(_Found(told, logs_K, float(doubt_G[place] / abs(slope))))
    return found


def _no_curve(ladder: Ladder, base_D: Array) -> str:
    if not np.isfinite(base_D).all():
        return f"{ladder.baseline} diverged"
    for (one, before), (other, after) in itertools.pairwise(zip(ladder.curve_steps, base_D, strict=True)):
        if not before > after:
            return f"{ladder.baseline} is no better after {other} steps than after {one}"
    return ""


def _without(ladder: Ladder, name: str, width: int, ratio: float, own_K: Array, why: str) -> SpeedUp:
    sign = 1.0 if ladder.mode == "min" else -1.0
    final = float(sign * own_K.mean()) if np.isfinite(own_K).all() else None
    return SpeedUp(name, width, ratio, final, None, why=why)


def _with_slopes(x: Array, y: Array, at: Array) -> tuple[Array, Array]:
    """Return the curve at places [G], and how far each moves with the values that it goes through, [amounts, G]."""
    made = curve(x.tolist(), y.tolist())
    assert made is not None
    step = 1e-4 * float(-np.diff(y).max())
    slopes = []
    for d in range(len(y)):
        sides = []
        for sign in (-1.0, 1.0):
            near = curve(x.tolist(), (y + sign * step * np.eye(len(y))[d]).tolist())
            assert near is not None
            sides.append(near(at))
        slopes.append((sides[1] - sides[0]) / (2.0 * step))
    return made(at), np.array(slopes)


def _crossing(at: Array, gap_G: Array) -> float | None:
    """Return where a rising gap is 0; None where that is nowhere looked at."""
    if not gap_G[0] <= 0.0 <= gap_G[-1]:
        return None
    return float(np.interp(0.0, np.maximum.accumulate(gap_G), at))


def _ends(at: Array, gap_G: Array, residual_KG: Array, doubt_G: Array) -> tuple[float | None, float | None]:
    """Return the ends of what a t-test over the seeds leaves, and the doubt; None: open, or too few seeds."""
    count = len(residual_KG)
    if count < LEAST_SEEDS:
        return None, None
    from scipy import special  # slow to import

    t = float(special.stdtrit(count - 1, 0.5 + 0.5 * LEVEL))
    error_G = np.sqrt((residual_KG**2).sum(0) / (count * (count - 1)))
    room_G = t * error_G + doubt_G
    below, above = gap_G + room_G, gap_G - room_G  # the equivalent is no less than where `below` crosses 0
    start = int(np.argmin(abs(gap_G)))
    left = np.nonzero(below[: start + 1] < 0.0)[0]
    right = np.nonzero(above[start:] > 0.0)[0]
    low = None if not len(left) else _between(at, below, int(left[-1]))
    high = None if not len(right) else _between(at, above, max(start + int(right[0]) - 1, 0))
    return low, high


def _between(at: Array, values: Array, place: int) -> float:
    """Return where a line between a place and the next one is 0."""
    if place + 1 >= len(at):
        return float(at[-1])
    one, other = values[place], values[place + 1]
    return float(at[place] + (at[place + 1] - at[place]) * min(1.0, max(0.0, -one / (other - one))))


def _mean(name: str, width: int | None, rungs: Sequence[_Found]) -> SpeedUp:
    """Return the geometric mean over the rungs that are not extrapolated. Its interval is Student's t over the seeds,
    wider by the mean doubt.
    """
    inside = [one for one in rungs if not one.told.extrapolated]
    logs = [one.logs_K for one in inside if one.logs_K is not None]
    if not logs:
        return SpeedUp(name, width, None, None, None, why="no rung has one within the baseline's amounts")
    mean_K = np.mean(logs, 0)
    value, count = float(mean_K.mean()), len(mean_K)
    if count < LEAST_SEEDS:
        return SpeedUp(name, width, None, None, math.exp(value))
    from scipy import special

    half = float(special.stdtrit(count - 1, 0.5 + 0.5 * LEVEL)) * float(mean_K.std(ddof=1)) / math.sqrt(count)
    half += float(np.mean([one.doubt for one in inside if one.logs_K is not None]))
    return SpeedUp(
        name, width, None, None, math.exp(value), math.exp(value - half), math.exp(value + half), interval=True
    )


def turns(ladder: Ladder) -> list[Turn]:
    """Return the pairs whose order turns over along the ladder, the baseline among them.

    On one rung the final metric of the first is the better, on another that of the second, each by a one-sided t-test
    over the shared seeds at `ALPHA` over the number of rungs: a pair that keeps its order is told of with 5% at most.
    """
    if ladder.seeds < LEAST_SEEDS:
        return []
    from scipy import special

    rungs = [(number, d) for number in range(len(ladder.widths)) for d in range(len(ladder.steps))]
    found = []
    for first, second in itertools.combinations(ladder.submissions, 2):
        ahead: dict[float, tuple[float, tuple[int, float]]] = {}
        for number, d in rungs:
            lead_K = ladder.on_rungs(second, number)[d] - ladder.on_rungs(first, number)[d]
            if not np.isfinite(lead_K).all() or not lead_K.any():
                continue
            error = lead_K.std(ddof=1) / math.sqrt(len(lead_K))
            t = float(lead_K.mean() / error) if error > 0 else math.copysign(math.inf, lead_K.mean())
            p = float(special.stdtr(len(lead_K) - 1, -abs(t)))
            rung = (ladder.widths[number], ladder.ratios[d])
            side = math.copysign(1.0, t)
            if p <= ALPHA / len(rungs) and (side not in ahead or p < ahead[side][0]):
                ahead[side] = (p, rung)
        if len(ahead) == 2:
            found.append(Turn(first, second, ahead[1.0][1], ahead[-1.0][1]))
    return found
