"""Compile a trial's programs beforehand, untimed, so that the autotuner's choices are in the harness's cache.

    python -m harness.trial.priming RUN_FOLDER

trains nothing and writes nothing to the run folder. The worker starts it for a trial on a GPU whose programs were not
compiled on this machine before; a mark in the cache says that they were.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.errors import MachineError
from harness.machine import children, flags, hardware
from harness.program import discovery
from harness.program.manifest import WAYS
from harness.record import run_folder
from harness.record.spec import Options, TrialSpec, short_hash
from harness.trial import EXIT_MACHINE


def prime(spec: TrialSpec, folder: Path) -> bool:
    """See to it that the programs of the trial in `folder` were compiled once; return whether this took a process.

    What goes wrong in it is left for the trial itself to meet and to tell.
    """
    mark = flags.autotune_cache() / "primed" / key(spec)
    if spec.device != "gpu" or mark.exists():
        return False
    command = children.command("harness.trial.priming", str(folder))
    if subprocess.run(command, env=children.environment(), stdin=subprocess.DEVNULL, check=False).returncode == 0:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    return True


def key(spec: TrialSpec) -> str:
    """Return a short hash of what the compiled programs depend on."""
    programs: list[Any] = [spec.workload_program, spec.program, spec.deterministic]
    programs += [spec.devices, spec.sharding] if spec.devices > 1 else []
    card = hardware.gpu_names() if spec.device == "gpu" else spec.device
    return short_hash([hardware.machine(), card, hardware.packages(), *programs])


def compile_all(spec: TrialSpec, options: Options) -> None:
    """Compile what the trial will: its programs, the yardstick, evaluation of the full splits. Nothing is run."""
    import jax
    import jax.numpy as jnp

    from harness.trial import feeding
    from harness.trial.mesh import layout_of
    from harness.trial.programs import compile_programs, compile_yardstick, shapes_of
    from harness.trial.setup import check_sources, program_of

    home = discovery.Folder("workloads", spec.workload, Path(options.workload_path))
    check_sources(spec, home)
    data = discovery.load_data(home, spec.variant)
    own, submission = program_of(spec, "workload"), program_of(spec, "submission")
    splits: dict[str, Any] = {
        split: {name: jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)) for name, (shape, dtype) in arrays.items()}
        for split, arrays in data.shapes.items()
    }
    layout = layout_of(spec.devices, spec.sharding)
    data, train = feeding.handed(data, submission.manifest.contract, data.info.dispatch_steps.get(spec.device, 1))
    splits, train = layout.shapes((splits, train)) if layout else (splits, train)
    state = shapes_of(submission.manifest.contract, layout=layout)
    for way in WAYS:  # the trial tries out on the card which it takes
        if own.manifest.has(way) and submission.manifest.has(way) and (layout is None or way == "xla"):
            slice_ = splits["validation_slice"]
            programs = compile_programs(
                data, own, submission, train, slice_, platform=spec.device, way=way, layout=layout
            )
            compile_yardstick(own, data, train, platform=spec.device, way=way, layout=layout)
            for name, evaluate in programs.full.items():
                evaluate.lower(state.params, state.model_state, splits[name]).compile()


def main(argv: list[str]) -> int:
    """Compile the programs of the trial in the run folder argv[0]."""
    spec, options = run_folder.read_spec(Path(argv[0]))
    flags.apply(spec.device, deterministic=spec.deterministic, devices=spec.devices, autotune="update")
    from harness.machine import backend  # and with it jax, now that its flags are set

    backend.configure_jax(spec.device, compile_cache=not spec.score_compile)
    try:
        backend.require(spec.device)
    except MachineError as error:
        print(error, file=sys.stderr, flush=True)
        return EXIT_MACHINE
    compile_all(spec, options)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
