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

from harness.machine import flags, hardware
from harness.program import discovery
from harness.record import run_folder
from harness.record.spec import Options, TrialSpec, short_hash
from harness.trial.step_times import machine_key


def prime(spec: TrialSpec, folder: Path) -> bool:
    """See to it that the programs of the trial in `folder` were compiled once; return whether this took a process.

    What goes wrong in it is left for the trial itself to meet and to tell.
    """
    mark = flags.autotune_cache() / "primed" / key(spec)
    if spec.device != "gpu" or mark.exists():
        return False
    command = [sys.executable, "-m", "harness.trial.priming", str(folder)]
    if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == 0:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    return True


def key(spec: TrialSpec) -> str:
    """Return a short hash of what the compiled programs depend on."""
    programs = (spec.workload_hash, spec.variant, spec.submission_hash, spec.hyperparameters, spec.deterministic)
    return short_hash([machine_key(spec.device), hardware.packages(), *programs])


def compile_all(spec: TrialSpec, options: Options) -> None:
    """Compile what the trial will: its programs, the baseline's step, evaluation of the full splits."""
    import jax

    from harness.program.build import build_algorithm, task_view
    from harness.program.trace import Keys
    from harness.trial.programs import compile_programs
    from harness.trial.setup import check_sources, stream_of
    from harness.trial.yardstick import compile_baseline

    home = discovery.Folder("workloads", spec.workload, Path(options.workload_path))
    source = discovery.Folder("submissions", spec.submission, Path(options.submission_path))
    check_sources(spec, home, source)
    workload = discovery.load_workload(home, spec.variant)
    splits = workload.splits()
    shapes: dict[str, Any] = {  # will do: nothing is run
        name: {k: jax.ShapeDtypeStruct(a.shape, a.dtype) for k, a in getattr(splits, name).items()}
        for name in ("train", "validation_slice", "validation", "test")
    }
    keys = Keys(*(stream_of(spec, name) for name in ("init", "data", "algorithm", "evaluation")))
    algorithm = build_algorithm(
        source, task_view(workload, spec.budget_steps, spec.steps, spec.device), spec.hyperparameters
    )
    programs = compile_programs(
        workload, algorithm, keys, shapes["train"], shapes["validation_slice"], platform=spec.device, source=source.path
    )
    compile_baseline(workload, programs.init, keys, shapes["train"], platform=spec.device)
    variables = jax.eval_shape(workload.init, keys.init)
    for name in ("validation", "test"):
        jax.jit(workload.evaluate).lower(*variables, shapes[name]).compile()


def main(argv: list[str]) -> int:
    """Compile the programs of the trial in the run folder argv[0]."""
    spec, options = run_folder.read_spec(Path(argv[0]))
    flags.apply(spec.device, deterministic=spec.deterministic, autotune="update")
    from harness.machine import backend  # and with it jax, now that its flags are set

    backend.configure_jax(spec.device, compile_cache=not spec.score_compile)
    compile_all(spec, options)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
