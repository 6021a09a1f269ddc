"""A submission's training step on a workload of one tree, compiled and written to a file by a process of that tree.

    PYTHONPATH=TREE python -P scripts/bench/compiled_step.py WORKLOAD_FOLDER SUBMISSION_FOLDER OUT

The file is a pickle of a dict:

    step, drawing               executables by jax.experimental.serialize_executable, each with the number of its arrays
                                in and out: flat, since classes of a tree may differ between commits
    state, values, train, keys  lists of numpy arrays: the state before the first step, the hyperparameters that are
                                arguments, the training arrays in the order of their names, the data of the random keys
    loss                        which of the step's outputs the losses are, float32[dispatch]
    dispatch, calls             steps in a call, calls that one drawn order of examples is enough for

This file runs with the modules of older commits as well, so it calls only what these have.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.machine import flags
from harness.program import discovery


def compiled(place: discovery.Folder, source: discovery.Folder) -> dict[str, Any]:
    """Return what the file holds."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.experimental import serialize_executable

    from harness.machine import backend
    from harness.program import processes, seeds, submission
    from harness.program.draws import Keys
    from harness.trial.programs import MAX_CHUNK_STEPS, Inputs, call_of, compile_step, init_function, shapes_of

    backend.configure_jax("cpu", compile_cache=False)
    data = discovery.load_data(place)
    own, point = processes.workload_program(place), submission.read_info(source).defaults
    (program,) = processes.submission_programs(place, source, [point], data.info.budget_steps)
    contract, size = program.manifest.contract, data.info.batch_size
    keys = Keys(*(seeds.stream(0, 0, 0, name) for name in ("init", "data", "algorithm", "evaluation")))
    inputs = Inputs(keys, tuple(jnp.float32(point[name]) for name in contract.arguments))
    train = dict(data.load().train)
    dispatch = data.info.dispatch_steps.get("cpu", 1)
    function = call_of(program, f"step_{size}")
    step = compile_step(function, data, contract, size, dispatch, shapes_of(contract), inputs, train)

    out_tree = step.compiled.out_tree
    metrics = jax.tree.unflatten(out_tree, range(out_tree.num_leaves))[1]
    metrics = metrics[0] if isinstance(metrics, tuple) else metrics  # trees before 2026-11-29 return them alone

    def flat(function: Any) -> tuple[bytes, int, int]:
        executable, takes, returns = serialize_executable.serialize(function)
        return executable, takes.num_leaves, returns.num_leaves

    def arrays(tree: Any) -> list[Any]:
        return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]

    return {
        "step": flat(step.compiled),
        "drawing": flat(step.drawing),
        "state": arrays(jax.jit(init_function(own, program))(inputs)),
        "values": arrays(inputs.hyperparameters),
        "train": arrays(train),
        "keys": [np.asarray(jax.random.key_data(key)) for key in keys],
        "loss": metrics["loss"],
        "dispatch": dispatch,
        "calls": -(-MAX_CHUNK_STEPS // dispatch),
    }


if __name__ == "__main__":
    workload_, submission_, out_ = sys.argv[1:]
    flags.apply("cpu", deterministic=False)
    try:
        found = compiled(discovery.find("workloads", workload_), discovery.find("submissions", submission_))
    except HarnessError as error:
        sys.exit(f"error: {error}")
    Path(out_).write_bytes(pickle.dumps(found))
