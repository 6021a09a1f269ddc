"""What keeping freed memory (`harness.machine.allocator.ALLOCATOR`) saves: AdamW's step with it and without, in turn.

    python scripts/bench_allocator.py [WORKLOAD ...] [--rounds N]

Each turn is a process of its own, since glibc reads the settings when a process starts; it times the harness's own
baseline step (`python -m harness.trial.yardstick`). Page faults are those of a training step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from harness.machine import hardware
from harness.program import discovery

DEFAULT = "glibc.malloc.mmap_threshold=131072"  # what it is anyway: a choice of the user's, so the harness makes none


def step_ms(folder: discovery.Folder, *, kept: bool) -> float:
    """Return milliseconds per step of the baseline, in a new process."""
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"} | {"JAX_PLATFORMS": "cpu"}
    if not kept:
        environment["GLIBC_TUNABLES"] = DEFAULT
    command = [sys.executable, "-m", "harness.trial.yardstick", str(folder.path), "cpu"]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return 1e3 * float(json.loads(done.stdout.splitlines()[-1])["baseline_step_s"])


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help="names or paths; default: all scored ones")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default 3)")
    args = parser.parse_args()
    found = discovery.find_all("workloads")
    names = args.workloads or [name for name, folder in found.items() if discovery.workload_info(folder).scored]
    machine = hardware.machine()
    print(f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, {time.strftime('%F')}")
    print("| workload | glibc's defaults, ms/step | kept, ms/step | ratio |\n|---|---|---|---|")
    for name in names:
        folder = discovery.find("workloads", name)
        turns = [(step_ms(folder, kept=False), step_ms(folder, kept=True)) for _ in range(args.rounds)]
        default, kept = (statistics.median(column) for column in zip(*turns, strict=True))
        ratio = statistics.median(without / own for without, own in turns)
        print(f"| {name} | {default:.1f} | {kept:.1f} | {ratio:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
