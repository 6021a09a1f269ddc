"""What the calibrated clock charges, beside what is true: a table.

    python scripts/bench_clock.py [PART ...] [--processes N] [--seconds S] [--workloads W ...]

Every figure of the clock is of whole trials, `harness run` in a process each, and is the ratio that their records hold.

- `periodic`: AdamW that takes more AdamW steps, and throws them away, on every 4th, 50th and 200th step. The truth is
  known from the plant: half a step more for each in the mean, times what a further step costs in the plant's loop. That
  is measured in turn with the plain one, with ten more on every step.
- `late`: the same with one more step on every step of the second half, when a clock that was set at the start is set;
  a loop of one step costs less a step than one of ten, and is measured in turn by itself.
- `itself`: the yardstick's own step as a submission, on all six CPU workloads; it should cost 1.
- `state`: a submission with a state four times that of AdamW, against its wall time measured in turn.
- `noise`: the yardstick's own step on one workload, on the machine as it is, and while another process burns a core.

The last columns are the scatter between processes, and the yardstick's share of the training time.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.machine.allocator import keep_memory
from harness.scoring import speeds

WORKLOADS = ("lm_grammar", "resnet_digits", "mae_digits", "lm_shakespeare", "resnet8_cifar10", "mae_tiny_cifar10")
ADAMW = "optax.adamw(hp['learning_rate'], weight_decay=0.01)"
PERIODIC = """
import jax
import jax.numpy as jnp
import optax

from harness.api import Algorithm
from harness.optim.optax_adapter import from_optax


def build(task, hp):
    base = from_optax(optax.adamw(hp["learning_rate"], weight_decay=0.01))

    def step(loss, state, batch, key):
        state = state._replace(opt_state=state.opt_state[0])
        new, metrics = base.step(loss, state, batch, key)

        def heavy():
            more = jax.lax.fori_loop(0, hp["more"], lambda _, state: base.step(loss, state, batch, key)[0], state)
            return jax.tree.leaves(more.params)[0].ravel()[0]

        due = (state.step >= hp["start"]) & (state.step % hp["every"] == 0)
        kept = jax.lax.cond(due, heavy, lambda: 0.0)
        return new._replace(opt_state=(new.opt_state, kept)), metrics

    def init(params, key):
        return base.init(params, key), jnp.float32(0)

    return Algorithm(init=init, step=step)
"""
LARGE = """
import jax
import jax.numpy as jnp
import optax

from harness.api import Algorithm
from harness.optim.optax_adapter import from_optax

COPIES = 8  # of the parameters, AdamW's two moments among them: four times its state


def build(task, hp):
    base = from_optax(optax.adamw(hp["learning_rate"], weight_decay=0.01))

    def init(params, key):
        return base.init(params, key), [jax.tree.map(jnp.zeros_like, params) for _ in range(COPIES - 2)]

    def step(loss, state, batch, key):
        new, metrics = base.step(loss, state._replace(opt_state=state.opt_state[0]), batch, key)
        averages = [
            jax.tree.map(lambda mean, p: mean + 0.5**k * (p - mean), tree, new.params)
            for k, tree in enumerate(state.opt_state[1], 1)
        ]
        return new._replace(opt_state=(new.opt_state, averages)), metrics

    return Algorithm(init=init, step=step)
"""
PLAIN = f"import optax\n\n\ndef build(task, hp):\n    return {ADAMW}\n"
BURN = "while True: pass"
MORE = 10  # further steps, on every step, of the plant that tells what one costs


@dataclass(frozen=True)
class Planted:
    """A submission of this script: its source and its defaults."""

    name: str
    source: str
    defaults: str = "{learning_rate: 1.0e-6}"

    def write(self, root: Path) -> Path:
        """Write its folder below `root`; return it."""
        folder = root / self.name
        folder.mkdir(exist_ok=True)
        (folder / "submission.py").write_text(self.source)
        (folder / "submission.yaml").write_text(
            f"name: {self.name}\ndescription: planted\nauthors: [the harness authors]\nlicence: Apache-2.0\n"
            f"tuning: self\ndefaults: {self.defaults}\n"
        )
        return folder


def periodic(every: int, more: int, start: int = 0) -> Planted:
    """AdamW with so many more steps on every so many, from one on."""
    name = f"late{start}" if start else f"every{every}"
    return Planted(name, PERIODIC, f"{{learning_rate: 1.0e-6, every: {every}, more: {more}, start: {start}}}")


ITSELF = Planted("itself", PLAIN)


@dataclass(frozen=True)
class Charged:
    """What a trial's record says: the step ratio, and the yardstick's share of the training time."""

    ratio: float
    share: float
    error: float


def trial(folder: Path, workload: str, steps: int, root: Path) -> Charged:
    """Run a trial of so many steps in a process of its own; it learns too slowly to end at the target."""
    out = Path(tempfile.mkdtemp(dir=root))
    words = (f"workload={workload}", f"max_steps={steps}", "rules.budget_factor=1000", f"out={out}")
    command = [sys.executable, "-m", "harness.cli", "run", str(folder), *words, "tensorboard=false"]
    done = subprocess.run(command, capture_output=True, text=True)
    results = list(out.rglob("result.json"))
    if not results:
        raise SystemExit(f"{' '.join(command)} left no result:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    result = json.loads(results[0].read_text())
    (ratio,) = result["calibration"]["step_ratio"].values()
    share = result["ledger"]["yardstick"]["wall_s"] / result["ledger"]["train"]["wall_s"]
    return Charged(ratio, share, result["calibration"]["step_ratio_error"] or 0.0)


def steps_for(workload: str, seconds: float) -> int:
    """Return how many of the workload's steps take so long on the reference machine."""
    from harness.program import discovery

    info = discovery.workload_info(discovery.find("workloads", workload))
    return max(200, round(seconds / info.target.reference_step_s / 200) * 200)


def truth(folders: list[Path], workload: str, block: int, rounds: int, processes: int) -> list[float]:
    """Return the seconds of each submission over those of the first, measured in turn; means over processes."""
    command = [sys.executable, __file__, "--in-turn", workload, str(block), str(rounds), *map(str, folders)]
    found: list[list[float]] = []
    for _ in range(processes):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return [statistics.mean(column) for column in zip(*found, strict=True)]


def programs_of(workload: str, folders: list[str]) -> tuple[list[list[Any]], Any]:
    """Return of each submission its compiled step, what it is handed and its first state; and the training arrays."""
    import jax
    import jax.numpy as jnp

    from harness.program import discovery, processes, seeds
    from harness.program.draws import Keys
    from harness.program.submission import read_info
    from harness.trial.programs import Inputs, compile_programs

    place = discovery.find("workloads", workload)
    data, own = discovery.load_data(place), processes.workload_program(place)
    splits = data.load()
    train, validation = jax.device_put((dict(splits.train), dict(splits.validation_slice)))
    keys = Keys(*(seeds.stream(0, 0, 0, "warmup") for _ in Keys._fields))
    made = []
    for folder in folders:
        source = discovery.find("submissions", folder)
        hp = dict(read_info(source).defaults)
        (program,) = processes.submission_programs(place, source, [hp], data.info.budget_steps)
        programs = compile_programs(data, own, program, train, validation, platform="cpu")
        given = Inputs(keys, tuple(jnp.float32(hp[name]) for name in programs.contract.arguments))
        made.append([programs.steps[data.info.batch_size], given, programs.init(given)])
    return made, train


def in_turn(workload: str, block: int, rounds: int, folders: list[str]) -> list[float]:
    """Train each submission for `block` steps at a time, in turn; the first round warms up."""
    import jax

    made, train = programs_of(workload, folders)
    steps, inputs, states = (list(column) for column in zip(*made, strict=True))
    seconds = [0.0] * len(folders)
    for number in range(rounds + 1):
        for i, (step, given) in enumerate(zip(steps, inputs, strict=True)):
            start = time.perf_counter()
            for _ in range(block // CHUNK):
                order = step.order(states[i], given)
                for _ in range(CHUNK):
                    states[i], _ = step(states[i], given, train, order)
                jax.block_until_ready(states[i])
            if number:
                seconds[i] += time.perf_counter() - start
    return [one / seconds[0] for one in seconds]


CHUNK = 50  # steps between two waits for the device


def pool(found: list[Charged]) -> tuple[float, float]:
    """Return the step ratio of a program and its scatter, pooled as scores pool them (harness/scoring/speeds.py)."""
    measured = [(1.0, one.error or None) for one in found]
    weights = [1.0 / (speeds.BETWEEN**2 + speeds.variance(one)) for one in ([pair] for pair in measured)]
    mean = sum(w * one.ratio for w, one in zip(weights, found, strict=True)) / sum(weights)
    squares = sum(w * (one.ratio / mean - 1.0) ** 2 for w, one in zip(weights, found, strict=True))
    return mean, math.sqrt(squares / sum(weights) * len(found) / (len(found) - 1)) if len(found) > 1 else 0.0


def row(name: str, workload: str, true: float | None, found: list[Charged]) -> None:
    """Print a row of the table."""
    pooled, scatter = pool(found)
    share = max(one.share for one in found)
    off = "" if true is None else f"{pooled / true - 1:+.1%}"
    shown = "" if true is None else f"{true:.3f}"
    print(
        f"| {name} | {workload} | {shown} | {pooled:.3f} | {off} | {scatter:.1%} | {len(found)} | {share:.1%} |",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="periodic, late, itself, state, noise (default: all)")
    parser.add_argument("--processes", type=int, default=3, help="trials behind each row (default: 3)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of training in a trial (default: 15)")
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), help="of the part `itself`")
    parser.add_argument("--in-turn", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.in_turn:
        workload, block, rounds, *folders = args.in_turn
        print(json.dumps(in_turn(workload, int(block), int(rounds), folders)))
        return
    parts = args.parts or ["periodic", "late", "itself", "state", "noise"]
    print(
        "| program | workload | truth | charged | off | scatter | processes | yardstick's share |\n" + "|---" * 8 + "|"
    )
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        itself, large = ITSELF.write(root), Planted("large", LARGE).write(root)

        def charged(folder: Path, workload: str, count: int = args.processes) -> list[Charged]:
            return [trial(folder, workload, steps_for(workload, args.seconds), root) for _ in range(count)]

        if "periodic" in parts:  # all of them half a step more in the mean
            known = truth([itself, periodic(1, MORE).write(root)], "lm_grammar", 50, 3, args.processes)
            further = (known[1] - 1) / MORE
            print(f"a further step in the plant's loop: {further:.3f} of a step", file=sys.stderr, flush=True)
            for every in (4, 50, 200):
                plant = periodic(every, every // 2)
                row(plant.name, "lm_grammar", 1 + further / 2, charged(plant.write(root), "lm_grammar"))
        if "late" in parts:
            known = truth([itself, periodic(1, 1).write(root)], "lm_grammar", 50, 3, args.processes)
            plant = periodic(1, 1, steps_for("lm_grammar", args.seconds) // 2)
            row(plant.name, "lm_grammar", (1 + known[1]) / 2, charged(plant.write(root), "lm_grammar"))
        if "itself" in parts:
            for workload in args.workloads:
                row("itself", workload, 1.0, charged(itself, workload))
        if "state" in parts:
            known = truth([itself, large], "lm_grammar", 200, 3, args.processes)
            row("large", "lm_grammar", known[1], charged(large, "lm_grammar"))
        if "noise" in parts:
            quiet = charged(itself, "lm_grammar", 5)
            row("itself, quiet", "lm_grammar", 1.0, quiet)
            burner = subprocess.Popen([sys.executable, "-c", BURN])
            try:
                time.sleep(1)
                busy = charged(itself, "lm_grammar", 5)
            finally:
                burner.kill()
            row("itself, one core busy", "lm_grammar", pool(quiet)[0], busy)


if __name__ == "__main__":
    keep_memory()
    main()
