"""The AdamW step of the workloads for a CPU against PyTorch's, eager and by torch.compile, in turn in one run.

    python scripts/bench_torch.py --torch-python torch-env/bin/python        all six: about 6 minutes, 3 with --rounds 3
    python scripts/bench_torch.py lm_grammar resnet_digits --rounds 5 --torch-python torch-env/bin/python
    python scripts/bench_torch.py --table                                    what is recorded

Same model, batch size, threads and AdamW, in float32. The harness runs the program of its own AdamW as a trial does, so
that its step also draws and augments its batch; torch (fused AdamW) has its batches made beforehand. Each side is a
process that is idle in the others' turns. Both have the harness's settings of malloc (harness/machine/allocator.py),
which make torch faster as well; torch's OpenMP keeps its defaults, since OMP_WAIT_POLICY=passive makes it slower.

`losses` is the largest difference of the losses of the first steps, which both sides take from the same parameters on
the same batches. Model FLOPs are those of workloads/families/flops.py; the ceiling is the better of jax's and torch's
product of two matrices of random numbers, measured in each round.

Torch needs an environment (scripts/requirements-torch.txt) and torch.compile a C++ compiler. A JSON line for each
workload goes to results/torch.jsonl, the table into workloads/families/README.md; with --out only the record is
written, there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, HarnessError
from harness.machine import flags, hardware
from harness.machine.allocator import keep_memory
from harness.program import discovery

ROOT = Path(__file__).resolve().parent.parent
RECORD, PAGE = ROOT / "results/torch.jsonl", ROOT / "workloads/families/README.md"
BEGIN, END = "<!-- against torch: written by scripts/bench_torch.py -->", "<!-- end of against torch -->"
WORKLOADS = ("lm_grammar", "resnet_digits", "mae_digits", "lm_shakespeare", "resnet8_cifar10", "mae_tiny_cifar10")
SIDES = {"harness": "harness", "eager": "torch", "compiled": "torch.compile"}
TURN_S = 0.5  # seconds of steps in a turn
PAUSE_S = 0.05  # between two turns: a side's threads look for work some milliseconds longer
MATRIX = 2048
CHECKED = 8  # first steps whose losses are compared; the batches that torch's steps go round
TOLERANCE = 1e-4  # of these losses


def main() -> int:
    """Measure, record, show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=WORKLOADS)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each side (default: %(default)s)")
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter that has torch (default: this one)")
    parser.add_argument("--table", action="store_true", help="show what is recorded, measure nothing")
    parser.add_argument("--out", type=Path, default=RECORD, help="file of the record")
    args = parser.parse_args()
    folders = [discovery.find("workloads", name) for name in args.workloads]
    if not args.table:
        flags.apply("cpu", deterministic=False)
        from bench.against_torch import need_torch

        need_torch(args.torch_python)
        for folder in folders:
            print(f"{folder.name} ...", file=sys.stderr, flush=True)
            record = measure(folder, args.torch_python, args.rounds)
            args.out.parent.mkdir(parents=True, exist_ok=True)
            with args.out.open("a") as file:
                file.write(json.dumps(record) + "\n")
    text = table(newest(args.out))
    print(text)
    if not args.table and args.out == RECORD:
        PAGE.write_text(on_page(PAGE.read_text(), text))
    return 0


def measure(folder: discovery.Folder, python: str, rounds: int) -> dict[str, Any]:
    """Return the record of one workload: milliseconds per step of each side, turn by turn, and what they are held
    against.
    """
    import jax
    import jax.numpy as jnp
    from bench import against_torch
    from bench.steps import HarnessSteps, ceiling

    from harness.machine import backend

    backend.configure_jax("cpu", compile_cache=True)
    workload = discovery.load_workload(folder)
    train = jax.device_put(dict(workload.splits().train))
    own = HarnessSteps(folder, None, train, 1)
    arrays, losses = against_torch.beginning(own, workload, against_torch.model_of(folder), train, CHECKED)
    with tempfile.NamedTemporaryFile(suffix=".npz") as start, contextlib.ExitStack() as stack:
        import numpy as np

        np.savez(start, **arrays)
        start.flush()
        sides: dict[str, Any] = {"harness": own}
        for name in ("eager", "compiled"):
            job = against_torch.job(folder, start=start.name, compile=name == "compiled")
            sides[name] = against_torch.TorchSteps(python, job)
            stack.callback(sides[name].close)
            against_torch.same_size(workload, sides[name])
        apart = {name: max_difference(losses, sides[name].facts["losses"]) for name in ("eager", "compiled")}
        if max(apart.values()) > TOLERANCE:
            raise HarnessError(f"{folder.name}: torch's losses are not the harness's, they differ by {apart}")
        steps = {}
        for name, side in sides.items():
            side.run(3)
            steps[name] = max(2, round(TURN_S / side.run(2)))
        times: dict[str, list[float]] = {name: [] for name in sides}
        products: dict[str, list[float]] = {"jax": [], "torch": []}
        for _ in range(rounds):
            for name, side in sides.items():
                time.sleep(PAUSE_S)
                side.run(1)  # finds the caches as another side left them
                times[name].append(round(1e3 * side.run(steps[name]), 4))
            products["jax"].append(ceiling(MATRIX, 2.0, jnp.float32) / 1e9)
            products["torch"].append(sides["eager"].ceiling(MATRIX) / 1e9)
        facts = sides["compiled"].facts
    assert workload.flops is not None
    held = hardware.packages()
    return {
        "workload": folder.name,
        "sources": folder.source_hash,
        "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {name: hardware.machine()[name] for name in ("cpu", "cores", "os", "python")},
        "versions": {name: held[name] for name in ("jax", "jaxlib", "flax", "optax")} | {"torch": facts["torch"]},
        "threads": facts["threads"],
        "parameters": facts["parameters"],
        "batch_size": workload.info.batch_size,
        "gflop_per_step": workload.flops * workload.info.batch_size / 1e9,
        "losses_differ_by": max(apart.values()),
        "ms": times,
        "ceiling_gflop_per_s": {name: statistics.median(each) for name, each in products.items()},
    }


def max_difference(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the largest difference of two lists of numbers."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def newest(path: Path) -> list[dict[str, Any]]:
    """Return the newest record of each workload, of the machine and versions of the newest of all. Raises ConfigError
    where there is none.
    """
    lines = path.read_text().splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines if line.strip()]
    if not records:
        raise ConfigError(f"nothing is recorded in {path}; python scripts/bench_torch.py measures")
    alike = [r for r in records if all(r[name] == records[-1][name] for name in ("machine", "versions"))]
    found = {record["workload"]: record for record in alike}
    return [found[name] for name in sorted(found, key=lambda n: WORKLOADS.index(n) if n in WORKLOADS else -1)]


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return it as Markdown."""
    last = records[-1]
    about = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    days = sorted({record["utc"][:10] for record in records})
    lines = [
        f"{last['machine']['cpu']}, {last['machine']['cores']} cores, {last['threads']} threads; {about};",
        f"{' to '.join(dict.fromkeys((days[0], days[-1])))}. Medians: ms a step, GFLOP/s, share of the ceiling;",
        "torch's time over the harness's with the lowest and highest of the rounds, below 1 where torch is faster.",
        "",
        f"| workload | parameters | GFLOP | ceiling | {' | '.join(SIDES.values())} | torch / harness "
        "| torch.compile / harness | losses |",
        f"|{'---|' * 10}",
    ]
    for record in records:
        ms, flop, top = record["ms"], record["gflop_per_step"], max(record["ceiling_gflop_per_s"].values())
        middle = {name: statistics.median(ms[name]) for name in SIDES}
        cells = [record["workload"], f"{record['parameters']:,}", f"{flop:.3g}", f"{top:.0f}"]
        for each in middle.values():
            speed = 1e3 * flop / each
            cells.append(f"{each:.2f} ms, {speed:.0f}, {speed / top:.0%}")
        for name in ("eager", "compiled"):
            ratios = [other / own for own, other in zip(ms["harness"], ms[name], strict=True)]
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        cells.append(f"{record['losses_differ_by']:.0e}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def on_page(text: str, section: str) -> str:
    """Return a page with the section between its markers."""
    head, begin, rest = text.partition(BEGIN)
    return f"{head}{begin}\n{section}\n{END}{rest.partition(END)[2]}" if begin else text


if __name__ == "__main__":
    keep_memory()
    try:
        sys.exit(main())
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
