"""What a trial needs before its first step: data on the device, the algorithm, every program compiled and warm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax

from harness.api import Algorithm
from harness.errors import SubmissionError
from harness.machine import backend, nvml
from harness.program import discovery, seeds
from harness.program.build import build_algorithm, task_view
from harness.program.trace import Arrays, Keys
from harness.program.workload import Splits, Workload
from harness.record.run_folder import RunFolder
from harness.record.spec import Options, TrialSpec
from harness.trial.checkpoints import Checkpoints
from harness.trial.clock import Ledger
from harness.trial.programs import Programs, compile_programs


@dataclass(frozen=True)
class Setup:
    """All that stays the same while a trial runs.

    Attributes:
      spec, options, folder, ledger: what the worker handed over.
      home, source: the folders of workload and submission.
      workload, splits: loaded; the arrays of `splits` are on the host.
      train, validation_slice: on the device.
      algorithm, programs: what the submission built, and everything compiled.
      keys: of the trial's random streams; `warmup_keys` are those of states that are thrown away.
      checkpoints: of the run folder.
      watch: looks at the card.
      fingerprint: of machine, versions and sources, for the record.
    """

    spec: TrialSpec
    options: Options
    folder: RunFolder
    ledger: Ledger
    home: discovery.Folder
    source: discovery.Folder
    workload: Workload
    splits: Splits
    train: Arrays
    validation_slice: Arrays
    algorithm: Algorithm
    programs: Programs
    keys: Keys
    warmup_keys: Keys
    checkpoints: Checkpoints
    watch: nvml.Watch
    fingerprint: Mapping[str, Any]


def set_up(spec: TrialSpec, options: Options, folder: RunFolder, ledger: Ledger) -> Setup:
    """Load, build, compile and warm up. Raises SubmissionError where the submission breaks its contract."""
    # Load the workload and put its arrays on the device.
    folder.append("phase", phase="setup")
    hashes = {"workload": spec.workload_hash, "submission": spec.submission_hash}
    fingerprint = backend.fingerprint() | {"hashes": hashes}
    home = discovery.Folder("workloads", spec.workload, Path(options.workload_path))
    source = discovery.Folder("submissions", spec.submission, Path(options.submission_path))
    check_sources(spec, home, source)
    workload: Workload = discovery.load_workload(home, spec.variant)
    splits: Splits = workload.splits()
    train, validation_slice = jax.device_put((dict(splits.train), dict(splits.validation_slice)))
    fingerprint["choices"] = dict(workload.choices)
    watch = nvml.Watch(nvml.card() if spec.device == "gpu" else None)
    keys = Keys(*(stream_of(spec, name) for name in ("init", "data", "algorithm", "evaluation")))
    jax.block_until_ready((train, validation_slice))

    # Let the submission build its algorithm.
    folder.append("phase", phase="build")
    with ledger.span("build"):
        task = task_view(workload, spec.budget_steps, spec.steps, spec.device)
        algorithm = build_algorithm(source, task, spec.hyperparameters)
    check_batch_sizes(algorithm, spec, source.path)

    # Compile everything for its real shapes, and warm it up on states that are thrown away.
    folder.append("phase", phase="compile")
    with ledger.span("compile"):
        programs = compile_programs(
            workload, algorithm, keys, train, validation_slice, platform=spec.device, source=source.path
        )
    costs = {size: asdict(cost) for size, cost in programs.cost.items()}
    folder.append("phase", phase="warmup", compile_s=programs.compile_s, cost=costs)
    warmup_keys = keys._replace(data=stream_of(spec, "warmup"))
    with ledger.span("warmup"):
        warm_up(programs, warmup_keys, train, validation_slice)
        checkpoints = Checkpoints(folder.checkpoints)
    return Setup(
        spec, options, folder, ledger, home, source, workload, splits, train, validation_slice, algorithm, programs,
        keys, warmup_keys, checkpoints, watch, fingerprint,
    )  # fmt: skip


def check_sources(spec: TrialSpec, *folders: discovery.Folder) -> None:
    """Refuse to run sources other than those the spec was made for."""
    for folder, planned in zip(folders, (spec.workload_hash, spec.submission_hash), strict=True):
        if folder.source_hash != planned:
            raise SubmissionError(f"{folder.path}: its files have changed since the trial was planned; plan it anew")


def check_batch_sizes(algorithm: Algorithm, spec: TrialSpec, source: Path) -> None:
    """Refuse other batch sizes where the rules fix it."""
    if not spec.free_batch_size and set(algorithm.batch_sizes) - {spec.batch_size}:
        raise SubmissionError(
            f"{source}/submission.py: the rules '{spec.rules}' fix the batch size at {spec.batch_size}"
        )


def stream_of(spec: TrialSpec, name: seeds.Stream) -> jax.Array:
    """Return the key of one of this trial's streams."""
    return seeds.stream(spec.seed, spec.study, spec.trial, name, tuning=spec.tuning)


def warm_up(programs: Programs, keys: Keys, train: Arrays, validation_slice: Arrays) -> None:
    """Run the programs that calibration does not, on a state that is thrown away."""
    state = programs.init(keys)
    variables = (state.params, state.model_state)
    if programs.eval_variables is not None:
        variables = programs.eval_variables(state, keys, train)
    jax.block_until_ready((programs.evaluate(*variables, validation_slice), programs.finite(state.params)))
    for step in programs.steps.values():
        for _ in range(2):
            state, metrics = step(state, keys, train)
        jax.block_until_ready((state, metrics))
