"""How often the intervals of `harness ladder` hold the speed-ups that ladders were drawn with, as a Markdown table.

    python scripts/bench_ladder.py                  about two minutes
    python scripts/bench_ladder.py --draws 200

The baseline's loss falls by one power of the data (`law`), fast at first (`fast`, as lm_grammar's does), or hardly,
then fast, then slowly (`late`, as at width 32). The first table is without chance: how far speed-ups are off by the
curve that goes through the baseline's amounts, those of the rungs alone, and those half-way and beyond too. In the
second a seed is worth 7% more or less data to all submissions alike, a run 7% or 14% on top.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable

import numpy as np

from harness.search.scale_ladder import Ladder, between, curve, speed_ups, turns

RATIOS, STEPS = (1.0, 2.0, 4.0, 8.0), (150, 300, 600, 1200)
CURVE = tuple(round(150 * ratio) for ratio in between(RATIOS))


def law(steps: np.ndarray) -> np.ndarray:
    """Return one power law, to 0.5."""
    return 0.5 + 8.0 * steps**-0.6


def fast(steps: np.ndarray) -> np.ndarray:
    """Return a loss that falls fast at first."""
    return 0.476 + 0.13 * (steps / 150) ** -0.55 + 0.6 * (steps / 150) ** -2.17


def late(steps: np.ndarray) -> np.ndarray:
    """Return a loss that hardly falls, then fast, then slowly."""
    return 0.55 + 0.09 * (steps / 600) ** -0.6 + 1.15 / (1.0 + (steps / 250) ** 4)


def off(loss: Callable[[np.ndarray], np.ndarray], amounts: tuple[int, ...], step: int) -> str:
    """Return the worst error on a rung over speed-ups of 1.1 to 1.4, as text."""
    x = np.log(np.array(amounts, float))
    made = curve(x.tolist(), loss(np.array(amounts, float)).tolist())
    assert made is not None
    at = np.linspace(x[0], x[-1] + math.log(4.0), 20_000)
    values, worst = made(at), 0.0
    for speed in (1.1, 1.2, 1.3, 1.4):
        wanted = float(loss(np.array([speed * step]))[0])
        found = math.exp(float(np.interp(-wanted, -values, at, right=math.inf))) / step / speed - 1.0
        worst = max(worst, found, key=abs)
    return f"{worst:+.1%}" if math.isfinite(worst) else "no end"


def drawn(
    rng: np.random.Generator,
    loss: Callable[[np.ndarray], np.ndarray],
    planted: dict[str, float],
    seeds: int,
    noise: float,
    widths: tuple[int, ...] = (32,),
) -> Ladder:
    """Return a ladder with chance."""
    shared = rng.normal(0.0, 0.07, (len(widths), 1, seeds))
    finals = {}
    for name, speed in planted.items():
        steps = STEPS if finals else CURVE  # the baseline first
        chance = shared + rng.normal(0.0, noise, (len(widths), len(steps), seeds))
        values = loss(np.array(steps, float)[None, :, None] * speed * np.exp(chance))
        finals[name] = tuple(tuple(map(tuple, of)) for of in values.tolist())
    names = tuple(f"w{width}" for width in widths)
    return Ladder("drawn", "loss", "min", tuple(planted), names, widths, RATIOS, STEPS, CURVE, finals)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2_000, help="of each row (default %(default)s)")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    heads = [f"{ratio:g} x data" for ratio in RATIOS]
    print(f"| curve | the baseline's amounts | {' | '.join(heads)} |\n|{'---|' * 6}")
    for loss in (law, fast, late):
        for what, amounts in (("of the rungs", STEPS), ("half-way and beyond too", CURVE)):
            print(f"| {loss.__name__} | {what} | {' | '.join(off(loss, amounts, step) for step in STEPS)} |")
    print()
    print(f"| curve | speed-up | seeds | noise of a run | {' | '.join(heads)} | mean over rungs | half-width there |")
    print("|" + "---|" * (len(heads) + 6))
    for loss, planted, seeds, noise in (
        (law, 1.4, 3, 0.07), (law, 1.1, 3, 0.07), (law, 1.1, 3, 0.14), (law, 1.4, 5, 0.07), (law, 0.8, 5, 0.07),
        (fast, 1.4, 3, 0.07), (fast, 1.1, 3, 0.07), (fast, 1.4, 5, 0.07), (fast, 1.1, 5, 0.07),
        (late, 1.4, 3, 0.07), (late, 1.1, 3, 0.07), (late, 1.4, 5, 0.07), (late, 1.1, 5, 0.07),
    ):  # fmt: skip
        held, widths, beyond = [], [], []
        for _ in range(args.draws):
            found = speed_ups(drawn(rng, loss, {"base": 1.0, "it": planted}, seeds, noise))
            held.append([(one.low or 0.0) <= planted <= (one.high or math.inf) for one in found])
            beyond.append([one.extrapolated for one in found])
            widths.append(
                math.log(found[-1].high / found[-1].low) / 2 if found[-1].low and found[-1].high else math.nan
            )
        shares = [f"{share:.0%}{' ~' if far > 0.5 else ''}"
                  for share, far in zip(np.mean(held, 0), np.mean(beyond, 0), strict=True)]  # fmt: skip
        row = [loss.__name__, planted, seeds, f"{noise:.0%}", *shares, f"{np.nanmedian(widths):.0%}"]
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    print()
    for seeds in (3, 5):
        alike = dict.fromkeys(("base", "one", "other"), 1.0)
        flagged = [len(turns(drawn(rng, law, alike, seeds, 0.07, (1, 2, 3, 4)))) for _ in range(args.draws)]
        print(f"{seeds} seeds, 16 rungs: {sum(flagged) / 3 / args.draws:.1%} of pairs that are alike are flagged")
    return 0


if __name__ == "__main__":
    sys.exit(main())
