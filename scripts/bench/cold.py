"""Row (e): seconds of compiling all programs of a trial of AdamW, in processes of their own.

    python scripts/bench/cold.py WORKLOAD VARIANT|- PLATFORM

prints the seconds as JSON; `row` starts it three times on one empty cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from harness.data import store
from harness.machine import flags
from harness.program import discovery


def row(folder: discovery.Folder, variant: str | None, platform: str) -> dict[str, Any]:
    """Return seconds with no cache at all; with the autotuner's choices alone; and with the compile cache as well."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"HARNESS_CACHE": cache, "HARNESS_DATA": str(store.root())}

        def run(how: str) -> float:
            command = [sys.executable, __file__, str(folder.path), variant or "-", platform, how]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"compiling failed: {done.stderr[-2000:]}")
            return float(json.loads(done.stdout.splitlines()[-1]))

        cold = run("cold")
        tuned = run("cold")
        run("cached")
        return {"cold_s": cold, "tuned_s": tuned, "cached_s": run("cached")}


def main(argv: list[str]) -> int:
    """Compile once and print the seconds."""
    path, variant, platform, how = argv
    device = "gpu" if platform == "gpu" else "cpu"
    flags.apply(device, deterministic=False, autotune="update")
    from harness.machine import backend  # and with it jax, now that its flags are set

    backend.configure_jax(device, compile_cache=how == "cached")
    import jax
    import jax.numpy as jnp

    from harness.program import processes, submission
    from harness.trial.programs import compile_programs

    found, source = discovery.find("workloads", path), discovery.find("submissions", "adamw")
    kind = None if variant == "-" else variant
    data = discovery.load_data(found, kind)
    own = processes.workload_program(found, kind, device)
    hp, budget_steps = submission.read_info(source).defaults, data.info.budget_steps
    (program,) = processes.submission_programs(found, source, [hp], budget_steps, variant=kind, platform=device)
    shapes = (
        {name: jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)) for name, (shape, dtype) in data.shapes[split].items()}
        for split in ("train", "validation_slice")
    )
    way = "cudnn" if own.manifest.has("cudnn") and program.manifest.has("cudnn") else "xla"
    start = time.perf_counter()
    compile_programs(data, own, program, *shapes, platform=device, way=way)
    print(json.dumps(time.perf_counter() - start))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
