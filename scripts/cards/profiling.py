"""Where the time of AdamW's step goes: the operations that XLA runs for it, by the seconds they take.

    python -m cards.profiling WORKLOAD VARIANT|- gpu|cpu STEPS HLO_FILE

prints a JSON line: ms a step by the clock and as the sum of the operations, how many run a step, and the longest of
them. HLO_FILE gets the compiled step, gzipped, in which they are found by name.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from harness.machine import flags
from harness.machine.flags import Device
from harness.program import discovery

LONGEST = 25


def profiled(folder: discovery.Folder, variant: str | None, steps: int, hlo: Path) -> dict[str, Any]:
    """Return what is printed."""
    import jax
    from bench.steps import HarnessSteps, device

    data = discovery.load_data(folder, variant)
    train = jax.device_put(dict(data.load().train))
    runner = HarnessSteps(folder, variant, train, data.info.dispatch_steps.get(device(), 1))
    hlo.parent.mkdir(parents=True, exist_ok=True)
    hlo.write_bytes(gzip.compress(runner.step.compiled.as_text().encode()))
    calls = max(1, steps // runner.dispatch)
    step_ms = 1e3 * runner.run(calls)
    with tempfile.TemporaryDirectory() as place:
        with jax.profiler.trace(place):
            runner.run(calls)
        (file,) = Path(place).rglob("*.xplane.pb")
        found = operations(jax.profiler.ProfileData.from_file(str(file)))
    count = calls * runner.dispatch
    total = sum(ns for ns, _ in found.values())
    longest = sorted(found.items(), key=lambda item: -item[1][0])[:LONGEST]
    return {
        "workload": folder.name,
        "way": runner.way,
        "step_ms": step_ms,
        "operations_ms": total / count / 1e6,
        "operations_a_step": sum(times for _, times in found.values()) / count,
        "longest": [
            {"name": name, "ms": ns / count / 1e6, "share": ns / total, "times": times / count}
            for name, (ns, times) in longest
        ],
    }


def operations(profile: Any) -> dict[str, tuple[float, int]]:
    """Return the nanoseconds of each operation of XLA in a profile, and how many times it ran."""
    held: dict[str, list[float]] = defaultdict(list)
    for plane in profile.planes:
        on_card = plane.name.startswith("/device:GPU")  # where a kernel that is part of a graph has no operation's name
        for line in plane.lines:
            for event in line.events:
                name = dict(event.stats).get("hlo_op") or (event.name if on_card else None)
                if name:
                    held[str(name)].append(event.duration_ns)
    return {name: (sum(times), len(times)) for name, times in held.items()}


if __name__ == "__main__":
    name_, variant_, platform_, steps_, hlo_ = sys.argv[1:]
    platform: Device = "gpu" if platform_ == "gpu" else "cpu"
    flags.apply(platform, deterministic=False, autotune="update")
    from harness.machine import backend  # and with it jax, now that its flags are set

    backend.configure_jax(platform, compile_cache=True)
    kind = None if variant_ == "-" else variant_
    print(json.dumps(profiled(discovery.find("workloads", name_), kind, int(steps_), Path(hlo_))), flush=True)
