"""Compile everything that the trial of a run folder will, and try nothing out but attention: its programs, the
yardstick, the evaluation of the full splits, by the way of attention that the trial takes.

    python -m cards.compile_one RUN_FOLDER update|read WAY|-

What is compiled goes to the compile cache, where the trial finds it; with `update` what the autotuner chooses goes to
its cache. With `-` the way is tried out on the device, else nothing runs there. Prints a JSON line: seconds, way.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from harness.machine import flags, lifetime
from harness.program import discovery
from harness.program.draws import Keys
from harness.program.manifest import Way
from harness.record import run_folder
from harness.record.spec import Options, TrialSpec


def compiled(spec: TrialSpec, options: Options, way: Way | None) -> dict[str, Any]:
    """Return what is printed."""
    import jax
    import jax.numpy as jnp

    from harness.trial.programs import compile_programs, compile_yardstick, shapes_of
    from harness.trial.setup import program_of, stream_of
    from harness.trial.ways import choose_way

    data = discovery.load_data(discovery.Folder("workloads", spec.workload, Path(options.workload_path)), spec.variant)
    own, submission = program_of(spec, "workload"), program_of(spec, "submission")
    if way is None:
        keys = Keys(*[stream_of(spec, "warmup")] * len(Keys._fields))
        train = jax.device_put(dict(data.load().train))
        way, _ = choose_way(own, submission, data, train, keys, platform=spec.device)
    arrays: dict[str, Any] = {
        split: {name: jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)) for name, (shape, dtype) in held.items()}
        for split, held in data.shapes.items()
    }
    shapes = arrays["train"], arrays["validation_slice"]
    programs = compile_programs(data, own, submission, *shapes, platform=spec.device, way=way)
    compile_yardstick(own, data, arrays["train"], platform=spec.device, way=way)
    state = shapes_of(submission.manifest.contract)
    for split, evaluate in programs.full.items():
        evaluate.lower(state.params, state.model_state, arrays[split]).compile()
    return {"way": way}


if __name__ == "__main__":
    lifetime.end_with_parent()
    start = time.perf_counter()
    folder_, mode_, way_ = sys.argv[1:]
    spec_, options_ = run_folder.read_spec(Path(folder_))
    flags.apply(spec_.device, deterministic=spec_.deterministic, autotune="update" if mode_ == "update" else "read")
    from harness.machine import backend  # and with it jax, now that its flags are set

    backend.configure_jax(spec_.device, compile_cache=True)
    found = compiled(spec_, options_, None if way_ == "-" else way_)  # type: ignore[arg-type]
    print(json.dumps(found | {"seconds": round(time.perf_counter() - start, 2)}), flush=True)
