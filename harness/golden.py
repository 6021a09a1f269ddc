"""The first training losses of a workload under a fixed optimizer: what its code, data and libraries come to."""

from __future__ import annotations

import jax

from harness import seeds
from harness.calibration import baseline
from harness.programs import Keys, init_function, step_function
from harness.workload import Workload

STEPS = 20


def first_losses(workload: Workload, steps: int = STEPS) -> list[float]:
    """Return the training losses of the first steps of the harness's AdamW, on the streams of seed 0."""
    algorithm = baseline()
    train = jax.device_put(dict(workload.splits().train))
    keys = Keys(*(seeds.stream(0, 0, 0, name) for name in ("init", "data", "algorithm", "evaluation")))
    step = jax.jit(step_function(workload, algorithm, workload.info.batch_size), donate_argnums=0)
    state = jax.jit(init_function(workload, algorithm))(keys)
    losses = []
    for _ in range(steps):
        state, metrics = step(state, keys, train)
        losses.append(float(metrics["loss"]))
    return losses
