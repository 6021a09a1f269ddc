"""How fast the suite `gpu` is on this card, against its ceiling, a bare loop and PyTorch; one command for everything.

    python scripts/bench_gpu.py                      on a GPU: about 8 minutes
    python scripts/bench_gpu.py --small              the same code at reduced size on a CPU, some minutes
    python scripts/bench_gpu.py --rows a c --workloads lm_books --again
    python scripts/bench_gpu.py --torch-python /opt/torch/bin/python      torch in an environment of its own

(a) the step: time, tokens or images per second, model FLOPs (workloads/families/flops.py), share of the bf16 ceiling
    that a large matrix product reaches in the same process on random numbers; one step a call and several, scanned
(b) the harness's loop against a bare jitted one, and (f) the share of evaluation in it (scripts/bench_loop.py)
(c) the same model, batch and AdamW in PyTorch, in turn (scripts/requirements-torch.txt)
(d) the step of every submission over AdamW's, in turn
(e) seconds of compiling: nothing cached; with the autotuner's choices; with everything cached
(g) five trials alike: the spread of the time to the target

Each row of each workload is a process of its own and a JSON line in results/DEVICE/bench.jsonl. What is there for the
same sources, device and versions is not measured again, so it can be stopped at any time and goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.journal import Journal
from bench.table import show

from harness.campaign.device import resolve_device
from harness.campaign.entries import folder_name
from harness.errors import HarnessError
from harness.machine.hardware import gpu_names
from harness.program import discovery
from harness.program.workload import SMALL as SMALL_FORM
from harness.record.spec import DeviceConfig

ROOT = Path(__file__).resolve().parent.parent
CHILD = Path(__file__).resolve().parent / "bench" / "child.py"
ROWS = ("a", "b", "c", "d", "e", "g")
WORKLOADS = ("lm_books", "resnet18_cifar10", "mae_small_cifar10")
FULL = {"seconds": 10.0, "matrix": 8192, "rounds": 25, "repeats": 5, "steps": 160}
TOLD = 40  # lines of what a child that failed said
SMALL = {"seconds": 1.0, "matrix": 256, "rounds": 3, "repeats": 2, "steps": 16}


def main() -> int:
    """Measure what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="the small forms, on a CPU, to try the code out")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, metavar="ROW", help="of a b c d e g")
    parser.add_argument("--workloads", nargs="+", default=WORKLOADS, metavar="NAME", help="default: the suite gpu")
    parser.add_argument("--out", type=Path, help="folder of the record (results/DEVICE; --small: runs/bench-small)")
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter that has torch (default: this one)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing after so many")
    parser.add_argument("--again", action="store_true", help="measure anew what is recorded")
    parser.add_argument(
        "--table", action="store_true", help="print the table of what is recorded, measure nothing: needs no GPU"
    )
    args = parser.parse_args()
    began = time.monotonic()
    if args.table:
        out = args.out or ROOT / ("runs/bench-small" if args.small else "results/h200")
        show(Journal.recorded(out / "bench.jsonl"), args.workloads)
        return 0
    device = "cpu" if args.small else resolve_device(DeviceConfig("gpu"))
    told = {"device": "cpu" if args.small else gpu_names().split(", ")[0], "jax": metadata.version("jax")}
    out = args.out or (ROOT / "runs/bench-small" if args.small else ROOT / "results" / folder_name(told["device"]))
    context: dict[str, Any] = {"small": args.small, **told}
    journal = Journal(out / "bench.jsonl", context)
    options = (SMALL if args.small else FULL) | {"torch_python": args.torch_python}
    failed = 0
    for row in args.rows:
        for workload in args.workloads:
            sources = discovery.find("workloads", workload).source_hash
            if not args.again and journal.find(row, workload, sources):
                continue
            if time.monotonic() - began > 60 * args.minutes:
                print("out of time; the same command goes on from here", file=sys.stderr)
                show(journal, args.workloads, args.rows)
                return 3
            start = time.monotonic()
            print(f"({row}) {workload} ...", file=sys.stderr, flush=True)
            try:
                values = measure(row, workload, args.small, device, options)
            except RuntimeError as error:  # of one row; the others go on
                print(f"({row}) {workload}: {error}", file=sys.stderr, flush=True)
                failed += 1
                continue
            journal.add(row, workload, sources, values, time.monotonic() - start)
    show(journal, args.workloads, args.rows)
    return min(failed, 1)


def measure(row: str, workload: str, small: bool, device: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return what a child process measures. Raises RuntimeError with the end of what it said where it fails."""
    held = discovery.workload_info(discovery.find("workloads", workload)).variants
    variant = SMALL_FORM if small and SMALL_FORM in held else "-"  # a toy is small as it is
    command = [sys.executable, str(CHILD), row, workload, variant, device, json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise RuntimeError("\n".join(lines[-TOLD:]) if lines else f"exit code {done.returncode}")
    values: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return values


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
