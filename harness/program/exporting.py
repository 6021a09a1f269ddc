"""What the exporter exports: functions of flat lists of arrays, traced on shapes alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from harness.api import Algorithm, PyTree, TaskView, TrainState
from harness.errors import SubmissionError, WorkloadError
from harness.machine.flags import Device
from harness.program.arguments import Build, settle
from harness.program.build import build_algorithm, task_view, yardstick
from harness.program.discovery import Folder
from harness.program.loss import WorkloadLoss, cost_of
from harness.program.pure import check_pure
from harness.program.requests import PLATFORMS, Job
from harness.program.trace import blamed, check_arrays, check_fields, check_same, strong, take_step
from harness.program.workload import Shapes, Workload

Write = Callable[[str, bytes], None]

_settled: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {}  # by submission, point and kind of task
_pure = set[str]()  # by submission and kind of task

KEY = jax.ShapeDtypeStruct((2,), jnp.uint32)
COUNT = jax.ShapeDtypeStruct((), jnp.int32)
CUDNN = [
    export.DisabledSafetyCheck.custom_call(f"__cudnn$fmha{name}")
    for name in ("Softmax", "ScaleBiasSoftmax", "SoftmaxBackward", "ScaleBiasSoftmaxBackward")
]
"""Attention by cuDNN, which jax.export cannot promise anything of."""
STATIC = ("batch_sizes", "candidates", "recalibration_batches")
"""What of an algorithm is part of its contract, and so no function of an argument."""


def export_workload(workload: Workload, platform: Device, write: Write) -> dict[str, Any]:
    """Export init, batch, loss, evaluate and the yardstick; return what to declare."""
    start = time.perf_counter()
    shapes = stated(workload)
    size = workload.info.batch_size
    params, model_state = jax.eval_shape(workload.init, jax.random.key(0))
    algorithm = yardstick()
    trees = {
        "params": params,
        "model_state": model_state,
        "opt_state": jax.eval_shape(algorithm.init, params, jax.random.key(0)),
    }
    index = jax.ShapeDtypeStruct((size,), jnp.int32)
    batch = _batch(workload, shapes, size)

    def save(name: str, function: Callable[..., Any], *args: Any) -> None:
        write(name, exported(function, platform, *args))

    save("init", lambda key: _flat(workload.init(jax.random.wrap_key_data(key))), KEY)
    save(
        "batch",
        lambda train, index, key: dict(workload.batch(train, index, jax.random.wrap_key_data(key))),
        shapes["train"],
        index,
        KEY,
    )
    variables = [jax.tree.leaves(params), jax.tree.leaves(model_state)]
    for split in ("validation_slice", "validation", "test"):

        def evaluate(params_: Any, model_state_: Any, arrays: Any) -> Any:
            return workload.evaluate(_tree(trees, "params", params_), _tree(trees, "model_state", model_state_), arrays)

        save(f"evaluate_{split}", evaluate, *variables, shapes[split])

    def forward(params_: Any, model_state_: Any, batch: Any, key: Any) -> Any:
        variables = _tree(trees, "params", params_), _tree(trees, "model_state", model_state_)
        return WorkloadLoss(workload).value(*variables, batch, jax.random.wrap_key_data(key))[0]

    save("loss", forward, *variables, batch, KEY)
    save("yardstick_init", lambda p: _flat(algorithm.init(_tree(trees, "params", p), jax.random.key(0))), variables[0])
    step = flat_step(workload, lambda _: algorithm, trees, size, Path("yardstick"))
    save("yardstick_step", lambda *args: step(*args, ()), *_state(trees), batch, KEY)
    return {
        "export_s": time.perf_counter() - start,
        "leaves": {name: leaves(name, tree) for name, tree in trees.items()} | {"batch": leaves("batch", batch)},
        "choices": dict(workload.choices),
    }


def export_submission(
    workload: Workload, source: Folder, job: Job, platform: Device, write: Write, build: Build | None = None
) -> dict[str, Any]:
    """Export `init_opt`, a step for each batch size and `eval_variables`; return what to declare.

    `build` stands in for the folder's own, imported. Hyperparameters that can be are arguments. Raises SubmissionError
    where the submission breaks its contract.
    """
    start = time.perf_counter()
    assert job.hyperparameters is not None
    task = task_view(workload, job.budget_steps, job.declared_steps, platform)

    def imported(task: TaskView, point: Mapping[str, Any]) -> Algorithm:
        return build_algorithm(source, task, point)

    build = build or imported
    arguments, reasons = job.arguments, dict[str, str]()
    algorithm = build(task, job.hyperparameters)  # whatever is wrong with it is told first
    alike = task.loss_kind, task.has_model_state, platform, dict(workload.loss_options)
    if repr((source.path, alike)) not in _pure or build is not imported:
        check_fields(algorithm, source.path)
        shapes, size = stated(workload), workload.info.batch_size * algorithm.candidates
        given = _batch(workload, shapes, size), _batches(workload, shapes, algorithm.recalibration_batches)
        check_pure(workload, algorithm, *given, source.path)
        _pure.add(repr((source.path, alike)))
    if arguments is None:
        seen = repr((source.path, job.hyperparameters, job.ends, alike))
        if seen not in _settled or build is not imported:
            _settled[seen] = settle(build, task, workload, job.hyperparameters, job.ends)
        arguments, reasons = _settled[seen]
    settled = time.perf_counter()
    try:
        declared = _export_at(workload, source, job, task, build, arguments, platform, write)
    except SubmissionError as error:
        if not arguments or job.arguments is not None:
            raise
        reasons = dict.fromkeys(arguments, str(error))
        declared = _export_at(workload, source, job, task, build, (), platform, write)
    seconds = {"export_s": time.perf_counter() - settled, "settle_s": settled - start}
    return declared | seconds | {"constants": reasons}


def _export_at(
    workload: Workload, source: Folder, job: Job, task: TaskView, build: Build, arguments: tuple[str, ...],
    platform: Device, write: Write,
) -> dict[str, Any]:  # fmt: skip
    """Export with these hyperparameters as arguments, all others as constants."""
    shapes, path = stated(workload), source.path
    assert job.hyperparameters is not None
    point = job.hyperparameters
    algorithm = build(task, point)
    check_fields(algorithm, path)

    def at(values: Sequence[Any]) -> Algorithm:
        built = build(task, point | dict(zip(arguments, values, strict=True)))
        if any(getattr(built, name) != getattr(algorithm, name) for name in STATIC):
            raise SubmissionError("batch sizes, candidates and recalibration batches depend on an argument")
        return built

    params, model_state = jax.eval_shape(workload.init, jax.random.key(0))
    trees: dict[str, PyTree] = {"params": params, "model_state": model_state}
    values = [jax.ShapeDtypeStruct((), jnp.float32) for _ in arguments]

    def init_opt(params_: Any, key: Any, values: Any) -> Any:
        key = jax.random.fold_in(jax.random.wrap_key_data(key), 0xFFFFFFFF)
        return strong(at(values).init(_tree(trees, "params", params_), key))

    flat_params = jax.tree.leaves(params)
    with blamed(path, "init"):
        trees["opt_state"] = jax.eval_shape(init_opt, flat_params, KEY, values)
        check_arrays(trees["opt_state"], path)
        flat = lambda params_, key, values: _flat(init_opt(params_, key, values))  # noqa: E731
        write("init_opt", exported(flat, platform, flat_params, KEY, values))
    costs, metrics = {}, set[str]()
    for size in sorted({workload.info.batch_size, *algorithm.batch_sizes}):
        batch = _batch(workload, shapes, size * algorithm.candidates)
        step = flat_step(workload, at, trees, size, path)
        with blamed(path, "step"):
            given = *_state(trees), batch, KEY, values
            costs[size] = asdict(cost_of(jax.make_jaxpr(step)(*given)))
            metrics |= set(jax.eval_shape(step, *given)[3])
            write(f"step_{size}", exported(step, platform, *given))
    if algorithm.eval_variables is not None:
        with blamed(path, "eval_variables"):
            function = flat_eval_variables(workload, at, trees, path)
            given = *_state(trees), _batches(workload, shapes, algorithm.recalibration_batches), KEY, values
            if cost_of(jax.make_jaxpr(function)(*given)).gradient_calls:  # the deriver counts what this may not see
                raise SubmissionError("eval_variables takes a gradient; it may only run the loss forward")
            write("eval_variables", exported(function, platform, *given))
    return {
        "leaves": {"opt_state": leaves("opt_state", trees["opt_state"])},
        "cost": costs,
        "metrics": sorted(metrics),
        "batch_sizes": sorted({workload.info.batch_size, *algorithm.batch_sizes}),
        "candidates": algorithm.candidates,
        "recalibration_batches": algorithm.recalibration_batches,
        "control": algorithm.control is not None,
        "arguments": list(arguments),
    }


def exported(function: Callable[..., Any], platform: Device, *args: Any) -> bytes:
    """Return the serialised StableHLO of a function on these shapes."""
    try:
        made = export.export(jax.jit(function), platforms=[PLATFORMS[platform]], disabled_checks=CUDNN)(*args)
        return bytes(made.serialize())
    except NotImplementedError as error:
        if "host_callbacks" not in str(error):
            raise
        raise SubmissionError(
            "a callback to the host (jax.debug.print, jax.pure_callback) cannot be part of a program; return what you "
            "want to see as a metric"
        ) from None


def flat_step(
    workload: Workload, at: Callable[[Any], Algorithm], trees: Mapping[str, PyTree], size: int, source: Path
) -> Callable[..., Any]:
    """Return one training step on lists of arrays: its batch is drawn already, and the harness counts.

    `at` returns the algorithm at the values of the arguments.
    """
    loss = WorkloadLoss(workload)

    def step(
        params: Any, opt_state: Any, model_state: Any, step: Any, examples: Any, batch: Any, key: Any, values: Any
    ) -> Any:
        state = _train_state(trees, params, opt_state, model_state, step, examples)
        new, metrics = take_step(loss, at(values), state, batch, jax.random.wrap_key_data(key), size, source)
        return _flat(new.params), _flat(new.opt_state), _flat(new.model_state), metrics

    return step


def flat_eval_variables(
    workload: Workload, at: Callable[[Any], Algorithm], trees: Mapping[str, PyTree], source: Path
) -> Callable[..., Any]:
    """Return `eval_variables` on lists of arrays."""
    loss = WorkloadLoss(workload, gradients=False)

    def eval_variables(
        params: Any, opt_state: Any, model_state: Any, step: Any, examples: Any, batches: Any, key: Any, values: Any
    ) -> Any:
        state = _train_state(trees, params, opt_state, model_state, step, examples)
        function = at(values).eval_variables
        assert function is not None
        given = strong(function(loss, state, batches or None, jax.random.wrap_key_data(key)))
        if not isinstance(given, tuple) or len(given) != 2:
            raise SubmissionError("eval_variables() must return (params, model_state)")
        before = {"params": state.params, "model_state": state.model_state}
        check_same(before, dict(zip(before, given, strict=True)), "eval_variables", source)
        return tuple(map(_flat, given))

    return eval_variables


def stated(workload: Workload) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """Return the stated shapes of every split. Raises WorkloadError where the workload states none."""
    if workload.shapes is None:
        raise WorkloadError(
            f"{workload.info.name}: Workload.shapes is None; state the shapes of the splits, so that programs can be "
            "made where the data are not"
        )
    given: Shapes = workload.shapes
    return {
        split: {name: jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)) for name, (shape, dtype) in arrays.items()}
        for split, arrays in given.items()
    }


def leaves(name: str, tree: PyTree) -> list[dict[str, Any]]:
    """Return name, shape and dtype of each array of a tree."""
    return [
        {"name": name + jax.tree_util.keystr(path), "shape": list(leaf.shape), "dtype": str(leaf.dtype)}
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _batch(workload: Workload, shapes: Mapping[str, Any], size: int) -> dict[str, jax.ShapeDtypeStruct]:
    index = jax.ShapeDtypeStruct((size,), jnp.int32)

    def draw(train: Any, index: Any, key: Any) -> Any:
        return dict(workload.batch(train, index, jax.random.wrap_key_data(key))) | {"index": index}

    drawn: dict[str, jax.ShapeDtypeStruct] = jax.eval_shape(draw, shapes["train"], index, KEY)
    return drawn


def _batches(workload: Workload, shapes: Mapping[str, Any], count: int) -> dict[str, jax.ShapeDtypeStruct]:
    one = _batch(workload, shapes, workload.info.batch_size) if count else {}
    return {name: jax.ShapeDtypeStruct((count, *array.shape), array.dtype) for name, array in one.items()}


def _state(trees: Mapping[str, PyTree]) -> list[Any]:
    return [*(jax.tree.leaves(trees[name]) for name in ("params", "opt_state", "model_state")), COUNT, COUNT]


def _flat(tree: PyTree) -> list[jax.Array]:
    return jax.tree.leaves(strong(tree))


def _tree(shapes: Mapping[str, PyTree], name: str, arrays: Sequence[Any]) -> PyTree:
    return jax.tree.unflatten(jax.tree.structure(shapes[name]), arrays)


def _train_state(
    shapes: Mapping[str, PyTree], params: Any, opt_state: Any, model_state: Any, *counts: Any
) -> TrainState:
    flat = {"params": params, "opt_state": opt_state, "model_state": model_state}
    return TrainState(*(_tree(shapes, name, arrays) for name, arrays in flat.items()), *counts)
