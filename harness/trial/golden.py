"""The first training losses of a workload under a fixed optimizer: what its code, data and libraries come to.

`python -m harness.trial.golden WORKLOAD_FOLDER` prints them as one JSON line.
"""

from __future__ import annotations

import json
import sys

import jax

from harness.machine.allocator import keep_memory
from harness.program import discovery, seeds
from harness.program.build import yardstick
from harness.program.trace import Keys, init_function, step_function
from harness.program.workload import Workload

STEPS = 20


def first_losses(workload: Workload, steps: int = STEPS) -> list[float]:
    """Return the training losses of the first steps of the harness's AdamW, on the streams of seed 0."""
    algorithm = yardstick()
    train = jax.device_put(dict(workload.splits().train))
    keys = Keys(*(seeds.stream(0, 0, 0, name) for name in ("init", "data", "algorithm", "evaluation")))
    step = jax.jit(step_function(workload, algorithm, workload.info.batch_size), donate_argnums=0)
    state = jax.jit(init_function(workload, algorithm))(keys)
    losses = []
    for _ in range(steps):
        state, metrics = step(state, keys, train)
        losses.append(float(metrics["loss"]))
    return losses


def main(argv: list[str]) -> int:
    """Print the first losses of the workload in the folder argv[0]."""
    workload: Workload = discovery.load_workload(discovery.find("workloads", argv[0]))
    print(json.dumps(first_losses(workload)))
    return 0


if __name__ == "__main__":
    keep_memory()
    sys.exit(main(sys.argv[1:]))
