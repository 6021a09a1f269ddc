"""What a trial needs before its first step: data on the device, its programs compiled and warm.

All but keys and hyperparameters serves other seeds and points too: a worker with several trials of one program keeps
it (`Kept`).
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from harness.data import store as data_store
from harness.errors import SubmissionError, WorkloadError
from harness.machine import backend, hardware, nvml
from harness.machine.devices import check_divisible
from harness.program import discovery, seeds, store
from harness.program.draws import Arrays, Keys
from harness.program.identity import check_identity
from harness.program.manifest import Manifest, Way
from harness.program.requests import Job
from harness.program.streaming import StreamedData
from harness.program.workload import Data, Splits, WorkloadInfo
from harness.record.run_folder import RunFolder
from harness.record.spec import Options, TrialSpec
from harness.trial import feeding
from harness.trial.checkpoints import Checkpoints
from harness.trial.clock import Ledger
from harness.trial.controller import Controller
from harness.trial.feeding import Whole
from harness.trial.hosts import by_first, meet
from harness.trial.mesh import Layout, layout_of
from harness.trial.programs import Inputs, Programs, compile_programs
from harness.trial.ways import choose_way
from harness.trial.yardstick import Yardstick, make_yardstick


@dataclass
class Prepared:
    """A program on its data, compiled and warm: what trials of other seeds and points of it have in common.

    Attributes:
      home: the workload's folder.
      own, submission: the programs as the store holds them.
      data, splits: loaded; the arrays of `splits` are on the host.
      feed: hands each chunk the training arrays, or what it needs of them.
      validation_slice: on the device.
      programs: everything compiled.
      way: of attention, and why; the reason is empty where there is one way alone.
      yardstick: the harness's own step, to run beside.
      layout: of the arrays over several devices; None on one.
      full: evaluation of the full splits, compiled once the first trial ends.
    """

    home: discovery.Folder
    own: store.Program
    submission: store.Program
    data: Data
    splits: Splits
    feed: Whole
    validation_slice: Arrays
    programs: Programs
    yardstick: Yardstick
    layout: Layout | None = None
    way: tuple[Way, str] = ("xla", "")
    full: dict[str, Callable[..., dict[str, jax.Array]]] = field(default_factory=dict)

    def put(self, tree: Any) -> Any:
        """Return arrays of the host on the device, or whole on each of several."""
        return put(tree, self.layout)


@dataclass
class Kept:
    """What a process keeps from one trial to the next: the newest program."""

    key: tuple[Any, ...] = ()
    prepared: Prepared | None = None


@dataclass(frozen=True)
class Setup:
    """All that stays the same while a trial runs.

    Attributes:
      spec, options, folder, ledger: what the worker handed over.
      prepared: what other trials of the program share.
      inputs: keys and hyperparameters.
      checkpoints: of the run folder.
      controller: answers control calls; None where the submission takes none, or another process has it.
      watch: looks at the card.
      fingerprint: of machine, versions and sources, for the record.
      cost: of a step, by batch size, for the record.
    """

    spec: TrialSpec
    options: Options
    folder: RunFolder
    ledger: Ledger
    prepared: Prepared
    inputs: Inputs
    checkpoints: Checkpoints
    controller: Controller | None
    watch: nvml.Watch
    fingerprint: Mapping[str, Any]
    cost: Mapping[str, dict[str, float | bool]]

    @property
    def programs(self) -> Programs:
        """Everything compiled."""
        return self.prepared.programs

    @property
    def info(self) -> WorkloadInfo:
        """The workload's specification."""
        return self.prepared.data.info

    @property
    def controlled(self) -> bool:
        """Whether the submission takes control calls."""
        return bool(self.programs.contract.control)

    @property
    def feed(self) -> Whole:
        """Hands each chunk the training arrays."""
        return self.prepared.feed

    def close(self) -> None:
        """End what runs beside the trial."""
        self.feed.close()
        self.checkpoints.close()
        if self.controller is not None:
            self.controller.close()


def set_up(spec: TrialSpec, options: Options, folder: RunFolder, ledger: Ledger, kept: Kept) -> Setup:
    """Load, compile and warm up what `kept` does not hold yet. Raises SubmissionError where a program is missing."""
    folder.append("phase", phase="setup")
    keys = Keys(*(stream_of(spec, name) for name in ("init", "data", "algorithm", "evaluation")))
    watch = nvml.Watch(nvml.card() if spec.device == "gpu" else None)
    prepared = prepare(spec, options, folder, ledger, kept)
    own, submission = prepared.own.manifest, prepared.submission.manifest
    values = (spec.hyperparameters[name] for name in submission.contract.arguments)
    inputs = Inputs(keys, tuple(jax.device_put(jnp.float32(value)) for value in values))
    inputs = prepared.layout.put(inputs) if prepared.layout else inputs
    cost = cost_of(own, submission)
    folder.append("phase", phase="warmup", compile_s=prepared.programs.compile_s, cost=cost)
    source = Path(options.submission_path)
    fingerprint = backend.fingerprint() | {
        "git": hardware.git(source),
        "submission_git": hardware.committed(source),
        "hashes": {"workload": spec.workload_hash, "submission": spec.submission_hash},
        "exported_by": submission.sources.get("versions", {}) | submission.sources.get("requires", {}),
        "confinement": submission.sources.get("confinement", {}),
        "choices": choices_of(prepared),
    }
    fingerprint |= images_of(prepared.data.info)
    with ledger.span("warmup"):
        checkpoints = Checkpoints(folder.checkpoints)
    job = Job("", options.workload_path, spec.variant, spec.device, spec.hyperparameters, spec.budget_steps, spec.steps)
    controller = by_first(lambda: Controller(source, job, submission)) if submission.contract.control else None
    return Setup(spec, options, folder, ledger, prepared, inputs, checkpoints, controller, watch, fingerprint, cost)


def put(tree: Any, layout: Layout | None) -> Any:
    """Return arrays of the host on the device, or whole on each of several."""
    return layout.put(tree) if layout else jax.device_put(tree)


def choices_of(prepared: Prepared) -> dict[str, str]:
    """Return what was chosen for this device, for the record."""
    way, why = prepared.way
    declared = dict(prepared.own.manifest.declared.get("choices", {}))
    return {name: f"{way}: {why}" if why and "HARNESS_ATTENTION" in said else said for name, said in declared.items()}


def images_of(info: WorkloadInfo) -> dict[str, Any]:
    """Return which folders of images a workload reads, for the record, and what decodes them."""
    held = {name: identity for name in info.datasets if (identity := data_store.identity(name))}
    return {"images": held | {"pillow": importlib.metadata.version("pillow")}} if held else {}


def prepare(spec: TrialSpec, options: Options, folder: RunFolder, ledger: Ledger, kept: Kept) -> Prepared:
    """Return the trial's program, compiled and warm; the newest is kept."""
    key = (spec.workload_hash, spec.variant, spec.workload_program, spec.program, spec.devices, spec.sharding)
    if kept.prepared is not None and kept.key == key and not spec.score_compile:
        return kept.prepared
    kept.prepared = None  # frees its arrays
    own, submission = (program_of(spec, kind) for kind in ("workload", "submission"))
    check_batch_sizes(submission, spec)
    sizes, whose = submission.manifest.contract.batch_sizes, f"{spec.submission} on {spec.workload}"
    check_divisible(sizes, spec.devices, whose, SubmissionError)
    layout = layout_of(spec.devices, spec.sharding)
    home = discovery.Folder("workloads", spec.workload, Path(options.workload_path))
    check_sources(spec, home)
    data: Data = discovery.load_data(home, spec.variant)
    splits: Splits = data.load()
    if layout is not None and isinstance(data, StreamedData):
        raise WorkloadError(f"{spec.workload} streams its training data, which is for one device; set devices=1")
    dispatch, there = data.info.dispatch_steps.get(spec.device, 1), functools.partial(put, layout=layout)
    data, feed = feeding.feed(data, splits, submission.manifest.contract, dispatch, there)
    train, validation_slice = feed.train, there(dict(splits.validation_slice))
    jax.block_until_ready((train, validation_slice))

    # Compile everything for its real shapes, and warm it up on states that are thrown away.
    folder.append("phase", phase="compile")
    keys = Keys(*[stream_of(spec, "warmup")] * len(Keys._fields))
    with ledger.span("warmup"):
        keys = layout.put(keys) if layout else keys
        way, why = choose_way(own, submission, data, train, keys, platform=spec.device, devices=spec.devices)
    make = functools.partial(make_yardstick, own, data, train, keys, platform=spec.device, way=way, layout=layout)
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(make) if spec.device == "cpu" and not spec.score_compile else None
        with ledger.span("compile"):
            programs = compile_programs(
                data, own, submission, train, validation_slice, platform=spec.device, way=way, layout=layout,
                threads=1 if spec.score_compile else 2,
            )  # fmt: skip
        with ledger.span("warmup"):
            yardstick = beside.result() if beside else make()
    prepared = Prepared(
        home, own, submission, data, splits, feed, validation_slice, programs, yardstick, layout, (way, why)
    )
    with ledger.span("warmup"):
        meet()  # some compile longer than others
        values = tuple(jnp.float32(spec.hyperparameters[name]) for name in submission.manifest.contract.arguments)
        warm_up(prepared, Inputs(keys, layout.put(values) if layout else values))
    kept.key, kept.prepared = key, prepared
    return prepared


def program_of(spec: TrialSpec, kind: str) -> store.Program:
    """Return the program that the trial is planned for. Raises SubmissionError where the store lacks it."""
    name = spec.workload_program if kind == "workload" else spec.program
    found = None if name is None else store.read(name)
    if found is None:
        raise SubmissionError(
            f"{spec.submission} on {spec.workload}: the {kind}'s program {name} is not in {store.root()}; plan the "
            "trial anew, which exports it"
        )
    check_identity(found)
    return found


def check_sources(spec: TrialSpec, home: discovery.Folder) -> None:
    """Refuse to train on the data of other workload sources than those that the trial was planned with."""
    if home.source_hash != spec.workload_hash:
        raise SubmissionError(f"{home.path}: its files have changed since the trial was planned; plan it anew")


def check_batch_sizes(submission: store.Program, spec: TrialSpec) -> None:
    """Refuse other batch sizes where the rules fix it."""
    if not spec.free_batch_size and set(submission.manifest.contract.batch_sizes) - {spec.batch_size}:
        raise SubmissionError(f"{spec.submission}: the rules '{spec.rules}' fix the batch size at {spec.batch_size}")


def cost_of(own: Manifest, submission: Manifest) -> dict[str, dict[str, float | bool]]:
    """Return what a step costs, by batch size: the exporter's count of gradients and examples, and the operations of
    its matrix products over those of the yardstick on as many examples (`Facts.products`), which nobody declares.
    """
    found = {}
    for size in submission.contract.batch_sizes:
        gradient = own.functions["yardstick_step"].products * size / own.contract.batch[0].shape[0]
        products = submission.functions[f"step_{size}"].products / gradient if gradient else 1.0
        found[str(size)] = dict(submission.declared.get("cost", {}).get(str(size), {})) | {"products": products}
    return found


def stream_of(spec: TrialSpec, name: seeds.Stream) -> jax.Array:
    """Return the key of one of this trial's streams."""
    return seeds.stream(spec.seed, spec.study, spec.trial, name, tuning=spec.tuning)


def warm_up(prepared: Prepared, inputs: Inputs) -> None:
    """Run the programs on a state that is thrown away."""
    programs, train = prepared.programs, prepared.feed.train
    state = programs.init(inputs)
    variables = (state.params, state.model_state)
    if programs.eval_variables is not None:
        variables = programs.eval_variables(state, inputs, train)
    jax.block_until_ready((programs.evaluate(*variables, prepared.validation_slice), programs.finite(state.params)))
    for step in programs.steps.values():
        for _ in range(2):
            state, metrics = step(state, inputs, train)
        jax.block_until_ready((state, metrics))
