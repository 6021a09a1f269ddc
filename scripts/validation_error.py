"""How much chance the validation slice leaves in a metric, beside what seeds leave in it.

    python scripts/validation_error.py                       all workloads with a target
    python scripts/validation_error.py mae_digits --seeds 10
    python scripts/validation_error.py --table               print what is recorded
    python scripts/validation_error.py resnet_digits --copies 16    what more noisy copies of each image would do

Trains AdamW at the point that set the target, to the end of its schedule, on several seeds, and measures each example
of the slice by itself. Copies of one image under other masks or other noise count as one. Three figures, all in units
of the metric:

spread   standard deviation over seeds of the metric, which is what the target's margin is measured in
level    standard error of the metric as an estimate for all examples that there could be; it is common to all
         submissions, which meet the same slice, so it shifts a target and ranks nobody
between  standard error of what a seed differs by from the mean of the seeds: the part of the spread that another slice
         would draw anew, and so the chance in a comparison

Writes results/targets/validation.json and the table in workloads/families/README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from harness.errors import HarnessError
from harness.machine.allocator import keep_memory
from harness.program import discovery, seeds
from harness.program.build import build_algorithm, task_view
from harness.program.trace import Keys, init_function, step_function
from harness.program.workload import Workload
from harness.record.files import write_atomic
from harness.search import targets

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "results/targets/validation.json"
README = ROOT / "workloads/families/README.md"
WORKLOADS = ("lm_grammar", "resnet_digits", "mae_digits", "lm_shakespeare", "resnet8_cifar10", "mae_tiny_cifar10")
BEGIN, END = "<!-- validation: written by scripts/validation_error.py -->", "<!-- end of validation -->"
BATCH = 100  # examples measured at a time


def main() -> int:
    """Measure, record, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help="names (default: all with a target)")
    parser.add_argument("--seeds", type=int, default=10, help="of each (default %(default)s)")
    parser.add_argument("--copies", type=int, help="of each image of the slice, in place of its own; records nothing")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the table of what is recorded")
    args = parser.parse_args()
    if args.copies:
        for name in args.workloads or parser.error("--copies needs the name of a workload, as resnet_digits"):
            folder = discovery.find("workloads", name)
            discovery.load(folder).VIEWS = args.copies
            print(row(name, measured(folder, args.seeds)), flush=True)
        return 0
    held = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    try:
        for name in () if args.table else args.workloads or WORKLOADS:
            held[name] = measured(discovery.find("workloads", name), args.seeds)
            write_atomic(RECORD, {key: held[key] for key in WORKLOADS if key in held})
            print(row(name, held[name]), flush=True)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(table(held))
    head, begin, rest = README.read_text().partition(BEGIN)
    if begin and not args.table:
        README.write_text(f"{head}{BEGIN}\n{table(held)}\n{END}{rest.partition(END)[2]}")
    return 0


def measured(folder: discovery.Folder, count: int) -> dict[str, Any]:
    """Train `count` seeds and return the figures of one workload."""
    workload: Workload = discovery.load_workload(folder)
    info = workload.info
    runs, _ = targets.read_record(ROOT / info.target.record)
    _, point = targets.best_point(runs, info.mode, info.step_hint, targets.REFERENCE)
    source = discovery.find("submissions", targets.REFERENCE)
    algorithm = build_algorithm(source, task_view(workload, info.budget_steps), point)
    step = jax.jit(step_function(workload, algorithm, info.batch_size), donate_argnums=0)
    init = jax.jit(init_function(workload, algorithm))
    splits = workload.splits()
    train, held_out = jax.device_put((dict(splits.train), dict(splits.validation_slice)))
    views = getattr(discovery.load(folder), "VIEWS", 1)

    @jax.jit
    def each(params: Any, model_state: Any, examples: dict[str, jax.Array]) -> jax.Array:
        def alone(example: dict[str, jax.Array]) -> jax.Array:
            one = {name: array[None] for name, array in example.items()}
            return workload.evaluate(params, model_state, one)[info.metric]

        return jax.lax.map(alone, examples, batch_size=BATCH)

    values = []
    for study in range(count):
        keys = Keys(*(seeds.stream(0, study, 0, name) for name in ("init", "data", "algorithm", "evaluation")))
        state = init(keys)
        for _ in range(info.step_hint):
            state, _ = step(state, keys, train)
        of_example = np.asarray(each(state.params, state.model_state, held_out), np.float64)
        values.append(of_example.reshape(views, -1).mean(axis=0))
        print(f"  {folder.name} study {study}: {info.metric} {of_example.mean():.4f}", flush=True)
    return figures(np.array(values)) | {"views": views, "workload_hash": folder.source_hash}


def figures(values_SN: np.ndarray) -> dict[str, float]:
    """Return the figures of metrics by seed and example."""
    seeds_, examples = values_SN.shape
    apart_SN = values_SN - values_SN.mean(axis=0)
    apart_SN -= apart_SN.mean(axis=1, keepdims=True)
    variance = np.square(apart_SN).sum() / (seeds_ - 1) / (examples - 1)  # of an example, less what all share
    return {
        "seeds": seeds_,
        "examples": examples,
        "mean": float(values_SN.mean()),
        "spread": float(values_SN.mean(axis=1).std(ddof=1)),
        "level": float(values_SN.std(axis=1, ddof=1).mean() / np.sqrt(examples)),
        "between": float(np.sqrt(variance / examples)),
    }


def row(name: str, found: dict[str, Any]) -> str:
    """Return a row of the table."""
    copies = f" x {found['views']}" if found["views"] > 1 else ""
    figures_ = [f"{found[key]:.4f}" for key in ("mean", "spread", "level", "between")]
    cells = [name, f"{found['examples']}{copies}", found["seeds"], *figures_]
    return f"| {' | '.join(map(str, cells))} | {found['between'] / found['spread']:.2f} |"


def table(held: dict[str, Any]) -> str:
    """Return the table in Markdown."""
    head = "| workload | examples of the slice | seeds | mean | spread | level | between | between / spread |"
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *(row(n, held[n]) for n in WORKLOADS if n in held)])


if __name__ == "__main__":
    keep_memory()
    sys.exit(main())
