"""A submission in one process with its data, for its author's eyes: prints appear, errors keep their traceback.

    python -m harness.program.debug SUBMISSION WORKLOAD

builds at the defaults and trains for STEPS steps, jitted, as no trial does: nothing here is exported, confined, checked
or scored, and state that Python keeps goes unnoticed; the last line says so. `harness check NAME --debug` starts it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from harness.errors import HarnessError
from harness.program import discovery

STEPS = 20


def main(argv: list[str]) -> int:
    """Train; return 0, or 1 where the submission breaks its contract."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    submission, workload = (Path(path) for path in argv)
    try:
        train(discovery.Folder("submissions", submission.name, submission), workload)
    except HarnessError as error:
        if error.__cause__ is not None:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def train(source: discovery.Folder, place: Path) -> None:
    """Build and step, and print each step's metrics."""
    import jax

    from harness.program import seeds
    from harness.program.build import build_algorithm, task_view
    from harness.program.draws import Keys
    from harness.program.submission import read_info
    from harness.program.trace import init_function, step_function

    workload = discovery.load_workload(discovery.Folder("workloads", place.name, place))
    task = task_view(workload, workload.info.budget_steps)
    algorithm = build_algorithm(source, task, read_info(source).defaults)
    if algorithm.control is not None:
        print("`control` is not called here", flush=True)
    keys = Keys(*(seeds.stream(0, 0, 0, name) for name in ("init", "data", "algorithm", "evaluation")))
    data = jax.device_put(dict(workload.splits().train))
    state = jax.jit(init_function(workload, algorithm))(keys)
    step = jax.jit(step_function(workload, algorithm, workload.info.batch_size, source.path))
    for number in range(1, STEPS + 1):
        state, metrics = step(state, keys, data)
        jax.effects_barrier()
        told = "  ".join(f"{name} {float(value):.6g}" for name, value in metrics.items())
        print(f"step {number}: {told}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
