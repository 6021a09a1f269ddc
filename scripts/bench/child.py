"""One row of scripts/bench_gpu.py for one workload, in a process of its own, which has the device's memory to itself.

    python scripts/bench/child.py ROW WORKLOAD VARIANT|- DEVICE '{"seconds": 2.0, ...}'

prints the row's values as JSON on its last line.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.machine import flags, lifetime
from harness.machine.flags import Device
from harness.program import discovery


def values(row: str, name: str, variant: str | None, device: Device, options: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a row."""
    folder = discovery.find("workloads", name)
    if row == "e":
        from bench import cold

        return cold.row(folder, variant, device)
    if row == "g":
        from bench import repeats

        return repeats.row(folder, variant, device, repeats=options["repeats"], steps=options["steps"])
    if row == "c":  # torch takes memory of the same card
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    flags.apply(device, deterministic=False, autotune="update")
    from harness.machine import backend  # and with it jax, now that its flags are set

    backend.configure_jax(device, compile_cache=True)
    if row == "a":
        from bench import steps

        return steps.step_row(folder, variant, seconds=options["seconds"], matrix=options["matrix"])
    if row == "b":  # and (f)
        import bench_loop

        return bench_loop.bench(folder, options["rounds"], variant)
    if row == "c":
        from bench import against_torch

        return against_torch.row(folder, variant, options["torch_python"], seconds=options["seconds"])
    if row == "d":
        from bench import steps

        return steps.submissions_row(folder, variant, device)
    raise ValueError(f"unknown row {row}")


if __name__ == "__main__":
    lifetime.end_with_parent()  # else it goes on, and spoils what is timed next
    row_, name_, variant_, device_, options_ = sys.argv[1:]
    found = values(row_, name_, None if variant_ == "-" else variant_, device_, json.loads(options_))  # type: ignore[arg-type]
    print(json.dumps(found), flush=True)
