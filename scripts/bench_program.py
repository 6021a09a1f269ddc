"""Measure what it costs that a submission is a program: its export, and its step beside the same one traced in place.

    python scripts/bench_program.py                                  the six workloads for a CPU, AdamW and Muon
    python scripts/bench_program.py lm_grammar --submissions adamw normuon --rounds 20
    python scripts/bench_program.py --trials 4                       what a further seed or point costs a worker

For each pair, in turn within one process: a few steps traced in place, a few of the program in the store. `ratio` is
the median over rounds of in place / exported, at least 0.98 where the program costs nothing; `bits` tells whether both
end in the same state. `export s` is what tracing and lowering take after imports, `settle s` what finding out which
hyperparameters can be arguments takes, once a submission and process, `cold s` all of it with an empty
store (processes and imports included; the first row of a workload holds its own program too), `cached s` a look-up.

With `--trials` a worker runs a list of so many trials of one program, which differ in seed and learning rate: seconds
of the first one that are neither training nor evaluation, and the most that a further one takes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from harness.api import TrainState
from harness.campaign.config import compose
from harness.campaign.plan import make_plan, make_ready
from harness.data import store
from harness.machine.allocator import keep_memory
from harness.program import discovery, processes, seeds, submission
from harness.program.build import build_algorithm, task_view
from harness.program.draws import Draw, Keys, draw_step, take_batch
from harness.program.store import Program
from harness.program.trace import init_function, step_function
from harness.record import run_folder
from harness.report.tables import print_table

WORKLOADS = ("lm_grammar", "resnet_digits", "mae_digits", "lm_shakespeare", "resnet8_cifar10", "mae_tiny_cifar10")
HEAD = (
    "workload",
    "submission",
    ">KiB",
    ">export s",
    ">settle s",
    ">cold s",
    ">cached s",
    ">in place ms",
    ">exported ms",
    ">ratio",
    "bits",
)
FURTHER = ("workload", "submission", ">first s", ">further s")
BLOCK_S = 0.4  # of steps between two turns


def main() -> int:
    """Print a row for each pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=WORKLOADS)
    parser.add_argument("--submissions", nargs="+", default=["adamw", "muon"])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--trials", type=int, metavar="N")
    args = parser.parse_args()
    if args.trials:
        print_table(FURTHER, [further(w, name, args.trials) for w in args.workloads for name in args.submissions])
        return 0
    rows = []
    os.environ.setdefault("HARNESS_DATA", str(store.root()))
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HARNESS_CACHE"] = cache
        for workload in args.workloads:
            for name in args.submissions:
                rows.append(row(workload, name, args.rounds))
                print(" ".join(rows[-1]), flush=True)
    print_table(HEAD, rows)
    return 0


def row(workload: str, name: str, rounds: int) -> list[str]:
    """Return the figures of one submission on one workload."""
    place, source = discovery.find("workloads", workload), discovery.find("submissions", name)
    info = submission.read_info(source)
    budget = discovery.workload_info(place).budget_steps

    def made() -> tuple[Program, float]:
        start = time.perf_counter()
        (program,) = processes.submission_programs(place, source, [info.defaults], budget)
        return program, time.perf_counter() - start

    program, cold_s = made()
    cached_s = made()[1]
    in_place, exported, same = compared(place, source, dict(info.defaults), program, rounds)
    ratio = statistics.median(a / b for a, b in zip(in_place, exported, strict=True))
    size = sum(map(len, program.functions.values())) / 1024
    declared = program.manifest.declared
    numbers = [size, declared["export_s"], declared["settle_s"], cold_s, cached_s]
    numbers += [1e3 * statistics.median(in_place), 1e3 * statistics.median(exported), ratio]
    forms = (".0f", ".2f", ".2f", ".1f", ".3f", ".2f", ".2f", ".3f")
    return [workload, name, *(format(n, f) for n, f in zip(numbers, forms, strict=True)), "same" if same else "OTHER"]


def further(workload: str, name: str, count: int) -> list[str]:
    """Return what trials of one program cost beside training and evaluation: the first, and the dearest after it."""
    info = submission.read_info(discovery.find("submissions", name))
    low, high = processes.ends_of(info)["learning_rate"]
    with tempfile.TemporaryDirectory() as out:
        paths = []
        for number in range(count):
            lr = f"hp.learning_rate={low * (high / low) ** (number / count):.3g}"
            run = compose([f"workload={workload}", "device=cpu", "max_steps=50", f"seed={number}", lr, f"out={out}"])
            (trial,) = make_plan(run, [name]).trials
            paths.append(make_ready(trial))
        subprocess.run([sys.executable, "-m", "harness.trial.worker", *map(str, paths)], check=True)
        results = [run_folder.read_trial(path).result for path in paths]
    rest = [r.wall_s - sum(r.ledger[span].wall_s for span in ("train", "eval")) for r in results if r is not None]
    return [workload, name, f"{rest[0]:.1f}", f"{max(rest[1:]):.2f}"]


def compared(
    place: discovery.Folder, source: discovery.Folder, point: dict[str, Any], program: Program, rounds: int
) -> tuple[list[float], list[float], bool]:
    """Return seconds per step in place and exported, round by round, and whether they end in the same bits."""
    workload = discovery.load_workload(place)
    algorithm = build_algorithm(source, task_view(workload, workload.info.budget_steps), point)
    size = workload.info.batch_size
    keys = Keys(*(seeds.stream(0, 0, 0, name) for name in ("init", "data", "algorithm", "evaluation")))
    train = jax.device_put(dict(workload.splits().train))
    count, candidates = workload.info.num_train_examples, algorithm.candidates
    draw = jax.jit(lambda seen, step: draw_step(keys, seen, step, size, num_examples=count, candidates=candidates))
    values = [jax.numpy.float32(point[name]) for name in program.manifest.contract.arguments]
    traced = step_function(workload, algorithm, size)
    call = export.deserialize(bytearray(program.functions[f"step_{size}"])).call

    def in_place(state: TrainState, train: Any, draw: Draw) -> TrainState:
        return traced(state, keys, train, draw)[0]

    def exported(state: TrainState, train: Any, draw: Draw) -> TrainState:
        batch = take_batch(workload.batch, train, draw.examples, draw.batch_key)
        key = jax.random.key_data(draw.key)
        new = call(*state, batch, key, values)
        return TrainState(*new[:3], state.step + 1, state.examples + size)

    state = jax.jit(init_function(workload, algorithm))(keys)
    flat = TrainState(*(jax.tree.leaves(part) for part in state[:3]), *state[3:])
    sides = [
        Side(jax.jit(in_place, donate_argnums=0), jax.tree.map(jax.numpy.copy, state), train, draw),
        Side(jax.jit(exported, donate_argnums=0), jax.tree.map(jax.numpy.copy, flat), train, draw),
    ]
    for side in sides:
        side.run(3)
    steps = max(2, round(BLOCK_S / sides[0].run(2)))
    sides[1].run(2)
    times: list[list[float]] = [[], []]
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            times[which].append(sides[which].run(steps))
    return times[0], times[1], identical(*(side.state for side in sides))


class Side:
    """A step, and the state that it works on."""

    def __init__(self, step: Callable[..., TrainState], state: TrainState, train: Any, draw: Callable[..., Draw]):
        self._step, self.state, self._train, self._draw = step, state, train, draw

    def run(self, steps: int) -> float:
        """Return seconds per step over so many, drawing left out."""
        spent = 0.0
        for _ in range(steps):
            draw = jax.block_until_ready(self._draw(self.state.examples, self.state.step))
            start = time.perf_counter()
            self.state = jax.block_until_ready(self._step(self.state, self._train, draw))
            spent += time.perf_counter() - start
        return spent / steps


def identical(one: TrainState, other: TrainState) -> bool:
    """Whether two states hold the same bits."""
    pairs: Sequence[tuple[Any, Any]] = list(zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


if __name__ == "__main__":
    keep_memory()
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    sys.exit(main())
