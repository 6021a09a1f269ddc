"""Does `harness ladder` recover speed-ups that are known? Train submissions that waste data, and compare.

    python scripts/planted_ladder.py --out runs-planted                 lm_grammar, widths 32 and 64: about 20 minutes
    python scripts/planted_ladder.py --out runs-planted --widths 64     the words of `harness ladder` go on
    python scripts/planted_ladder.py --dry-run

The baseline is AdamW that takes no step on 2 of each 7 batches, its schedule as long as the steps that it takes. So
AdamW needs 5/7 of the data: a speed-up of 1.4. One that takes no step on 3 of each 14 batches needs 10/11 of the
baseline's: 1.1. Exit code 1 where the interval of the mean over all rungs does not hold what was planted. Of the
intervals of single rungs one in twenty need not: those are counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from harness.campaign import scale_ladder
from harness.cli import main as cli
from harness.report.page.scale_ladder import read
from harness.search.scale_ladder import speed_ups

WASTES = '''"""AdamW that takes no step on some of each {of} batches: a data efficiency that is known."""

import jax
import jax.numpy as jnp
import optax

from harness.api import ParamKind
from harness.optim.schedules import warmup_linear

DEFAULTS = {{"learning_rate": 0.00894, "weight_decay": 0.0128}}
TAKEN, OF = {taken}, {of}
DECAYED = {{ParamKind.MATRIX, ParamKind.CONV, ParamKind.HEAD, ParamKind.EMBEDDING}}


def build(task, hp):
    steps = round(task.step_hint * TAKEN / OF)
    adamw = optax.adamw(
        warmup_linear(hp["learning_rate"], steps, 0.05), b1=0.9, b2=0.98, eps=1e-8, weight_decay=hp["weight_decay"],
        mask=jax.tree.map(lambda info: info.kind in DECAYED, task.param_info),
    )

    def init(params):
        return jnp.zeros([], jnp.int32), adamw.init(params)

    def update(updates, state, params=None):
        count, own = state
        taken = lambda _: adamw.update(updates, own, params)
        wasted = lambda _: (jax.tree.map(jnp.zeros_like, updates), own)
        updates, own = jax.lax.cond(count % OF < TAKEN, taken, wasted, None)
        return updates, (count + 1, own)

    return optax.GradientTransformation(init, update)
'''
PLANTED = {"adamw": 1.4, "wastes_3_of_14": 1.1}


def main(argv: list[str] | None = None) -> int:
    """Run the ladder and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs-planted"), help="run folders (default %(default)s)")
    parser.add_argument("--workload", default="lm_grammar", help="whose ladder (default %(default)s)")
    args, words = parser.parse_known_args(argv)
    if not any(word.startswith("--widths") for word in words) and args.workload == "lm_grammar":
        words += ["--widths", "32,64"]
    folder = args.out / "planted"
    folder.mkdir(parents=True, exist_ok=True)
    for wasted, of in ((2, 7), (3, 14)):
        (folder / f"wastes_{wasted}_of_{of}.py").write_text(WASTES.format(taken=of - wasted, of=of))
    command = ["ladder", "adamw", str(folder / "wastes_3_of_14.py"), "--baseline", str(folder / "wastes_2_of_7.py")]
    code = cli.main([*command, f"workload={args.workload}", f"out={args.out}", "device=cpu", *words])
    if code or "--dry-run" in words:
        return code
    found = speed_ups(read(scale_ladder.file_of(args.out, args.workload)))
    missed = False
    print()
    for name, planted in PLANTED.items():
        of = [one for one in found if one.submission == name]
        held = [(one.low or 0.0) <= planted <= (one.high or float("inf")) for one in of]
        rungs = [h for h, one in zip(held, of, strict=True) if one.ratio is not None]
        value, low, high = of[-1].value, of[-1].low, of[-1].high
        told = {"planted": planted, "found": value, "low": low, "high": high, "rungs": len(rungs), "hold": sum(rungs)}
        print(name, json.dumps(told))
        missed = missed or not held[-1]
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
