"""What the calibrated clock charges, beside what is true: a table.

    python scripts/bench_clock.py [PART ...] [--processes N] [--seconds S] [--workloads W ...]

Every figure of the clock is of whole trials, `harness run` in a process each, and is the ratio that their records hold.

- `periodic`: AdamW that does heavy work on every 4th, 50th and 200th step. The truth is known from the plant: its steps
  are timed one by one in a process apart, and what a heavy step takes longer than a light one, shared out over all, is
  what it costs beside its own light steps, which are AdamW's; the mean over as many processes.
- `itself`: the yardstick's own step as a submission, on all six CPU workloads; it should cost 1.
- `state`: a submission with a state four times that of AdamW, against its wall time measured in turn.
- `noise`: the yardstick's own step on one workload, on the machine as it is, and while another process burns a core.

The last columns are the scatter between processes, and the yardstick's share of the training time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.machine.allocator import keep_memory

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

    def heavy(x):
        return jax.lax.fori_loop(0, hp["products"], lambda _, x: jnp.tanh(x @ x), x)

    def step(loss, state, batch, key):
        new, metrics = base.step(loss, state._replace(opt_state=state.opt_state[0]), batch, key)
        x = jax.lax.cond(state.step % hp["every"] == 0, heavy, lambda x: x, state.opt_state[1])
        return new._replace(opt_state=(new.opt_state, x)), metrics

    def init(params, key):
        return base.init(params, key), jnp.eye(256) / 16

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


@dataclass(frozen=True)
class Planted:
    """A submission of this script: its source and its defaults."""

    name: str
    source: str
    defaults: str = "{learning_rate: 0.001}"

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


def periodic(every: int, products: int = 30) -> Planted:
    """AdamW with heavy work on every so many steps, `products` of two matrices a step in the mean."""
    values = f"learning_rate: 0.001, every: {every}, products: {products * every}"
    return Planted(f"every{every}", PERIODIC, f"{{{values}}}")


ITSELF = Planted("itself", PLAIN)


@dataclass(frozen=True)
class Charged:
    """What a trial's record says: the step ratio, and the yardstick's share of the training time."""

    ratio: float
    share: float
    error: float


def trial(folder: Path, workload: str, steps: int, root: Path) -> Charged:
    """Run a trial of so many steps in a process of its own."""
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


def of_plant(folder: Path, every: int, workload: str, steps: int, processes: int) -> float:
    """Return the mean cost of the plant's steps over that of its light ones; the mean over processes."""
    command = [sys.executable, __file__, "--one-by-one", workload, str(every), str(steps), str(folder)]
    found = []
    for _ in range(processes):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        found.append(float(done.stdout.splitlines()[-1]))
    return statistics.mean(found)


def one_by_one(workload: str, every: int, steps: int, folder: str) -> float:
    """Time so many steps of a plant, of which one in `every` is heavy; the first period warms up."""
    import jax

    ((step, given, state),), train = programs_of(workload, [folder])
    light_s = heavy_s = 0.0
    light = heavy = 0
    for number in range(every + steps):
        if number % CHUNK == 0:
            order = jax.block_until_ready(step.order(state, given))
        start = time.perf_counter()
        state, _ = step(state, given, train, order)
        jax.block_until_ready(state)
        seconds = time.perf_counter() - start
        if number < every:
            continue
        if number % every == 0:
            heavy, heavy_s = heavy + 1, heavy_s + seconds
        else:
            light, light_s = light + 1, light_s + seconds
    return 1.0 + (heavy_s / heavy / (light_s / light) - 1.0) / every


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


def row(name: str, workload: str, true: float | None, found: list[Charged]) -> None:
    """Print a row of the table."""
    ratios = [one.ratio for one in found]
    pooled = statistics.mean(ratios)
    scatter = statistics.stdev(ratios) / pooled if len(ratios) > 1 else 0.0
    share = max(one.share for one in found)
    off = "" if true is None else f"{pooled / true - 1:+.1%}"
    shown = "" if true is None else f"{true:.3f}"
    print(
        f"| {name} | {workload} | {shown} | {pooled:.3f} | {off} | {scatter:.1%} | {len(ratios)} | {share:.1%} |",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="periodic, itself, state, noise (default: all)")
    parser.add_argument("--processes", type=int, default=3, help="trials behind each row (default: 3)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of training in a trial (default: 15)")
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), help="of the part `itself`")
    parser.add_argument("--in-turn", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--one-by-one", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.in_turn:
        workload, block, rounds, *folders = args.in_turn
        print(json.dumps(in_turn(workload, int(block), int(rounds), folders)))
        return
    if args.one_by_one:
        workload, every, steps, folder = args.one_by_one
        print(one_by_one(workload, int(every), int(steps), folder))
        return
    parts = args.parts or ["periodic", "itself", "state", "noise"]
    print(
        "| program | workload | truth | charged | off | scatter | processes | yardstick's share |\n" + "|---" * 8 + "|"
    )
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        itself, large = ITSELF.write(root), Planted("large", LARGE).write(root)

        def charged(folder: Path, workload: str, count: int = args.processes) -> list[Charged]:
            return [trial(folder, workload, steps_for(workload, args.seconds), root) for _ in range(count)]

        if "periodic" in parts:
            for every in (4, 50, 200):
                plant = periodic(every).write(root)
                true = of_plant(plant, every, "lm_grammar", max(600, 6 * every), args.processes)
                row(plant.name, "lm_grammar", true, charged(plant, "lm_grammar"))
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
            row("itself, one core busy", "lm_grammar", statistics.mean(one.ratio for one in quiet), busy)


if __name__ == "__main__":
    keep_memory()
    main()
