"""THE loop: one trial, from a spec to a result, top to bottom.

The device is waited for at both ends of every timed stretch. Whatever the harness does for the record (measurements,
logging, checkpoints) is off the scored clock; whatever the submission does is on it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from harness import calibration_cache, discover, hardware, nvml, seeds, strict, submission
from harness.api import Algorithm, Control, ModelState, Params, Progress, TaskView, TrainState
from harness.book import Book, Timing, chunk_dispatches, count, make_result, next_measured
from harness.calibration import calibrate
from harness.checkpoints import Checkpoints
from harness.clock import Calibration, Ledger, Reading
from harness.errors import SubmissionError
from harness.programs import Arrays, Keys, Programs, compile_programs
from harness.records import Measurement, Result, RunFolder, Status
from harness.spec import Options, TrialSpec
from harness.workload import Splits, Workload

SAFETY = 10  # a trial is stopped at so many times its budget in wall seconds, whatever the ranking clock says


def run_trial(
    spec: TrialSpec,
    options: Options,
    folder: RunFolder,
    ledger: Ledger,
    interrupted: Callable[[], bool],
    attempt: int = 1,
) -> Result:
    """Run one trial to its end, or to the next chunk end once `interrupted()`; return its result.

    Raises SubmissionError where the submission breaks its contract, and lets JAX's out-of-memory errors through.
    """
    # Load the workload and put its arrays on the device.
    folder.append("phase", phase="setup")
    fingerprint = hardware.fingerprint() | {
        "hashes": {"workload": spec.workload_hash, "submission": spec.submission_hash}
    }
    home = discover.Folder("workloads", spec.workload, Path(options.workload_path))
    source = discover.Folder("submissions", spec.submission, Path(options.submission_path))
    check_sources(spec, home, source)
    workload: Workload = discover.load_workload(home, spec.variant)
    splits: Splits = workload.splits()
    train, validation_slice = jax.device_put((dict(splits.train), dict(splits.validation_slice)))
    fingerprint["choices"] = dict(workload.choices)
    watch = nvml.Watch(nvml.card() if spec.device == "gpu" else None)
    keys = Keys(*(stream_of(spec, name) for name in ("init", "data", "algorithm", "evaluation")))
    jax.block_until_ready((train, validation_slice))

    # Let the submission build its algorithm.
    folder.append("phase", phase="build")
    with ledger.span("build"):
        algorithm = submission.build(source, task_view(workload, spec.budget_steps, spec.steps), spec.hyperparameters)
    check_batch_sizes(algorithm, spec, source.path)

    # Compile everything for its real shapes, warm it up and calibrate on states that are thrown away.
    folder.append("phase", phase="compile")
    with ledger.span("compile"):
        programs = compile_programs(
            workload, algorithm, keys, train, validation_slice, platform=spec.device, source=source.path
        )
    folder.append(
        "phase", phase="warmup", compile_s=programs.compile_s, cost={k: asdict(v) for k, v in programs.cost.items()}
    )
    with ledger.span("warmup"):
        warmup = keys._replace(data=stream_of(spec, "warmup"))
        warm_up(programs, warmup, train, validation_slice)
        checkpoints = Checkpoints(folder.checkpoints)

    # Make the first state; where an earlier attempt left a checkpoint, go on from there with its clock.
    folder.append("phase", phase="init")
    with ledger.span("init"):
        state = jax.block_until_ready(programs.init(keys))
    saved = checkpoints.load(state)
    if saved is None:
        book = Book(batch_size=spec.batch_size)
        with ledger.span("warmup"):
            known = calibration_cache.cached_baseline_step_s(home, spec.device)
            measured = calibrate(workload, programs, warmup, train, platform=spec.device, baseline_step_s=known)
        timing = Timing(spec, measured)
    else:
        state, book, timing = take_up(saved, spec, ledger)
    folder.append("attempt", attempt=attempt, resume_step=book.step, calibration=timing.calibration, pid=os.getpid())
    folder.append("budget", seconds=timing.budget, clock=timing.budget_clock, baseline_steps=spec.budget_steps)
    folder.append("phase", phase="train")
    ledger.start("other")

    # Train: one chunk after another, each up to the next measurement, control or look at the clock.
    last_save = time.monotonic()
    variables = None
    status: Status | None = None
    reason = ""
    while status is None:
        answer = ask_control(algorithm, spec, book, source.path)
        if answer is not None:
            folder.append("control", step=book.step, answer=answer)
            if answer.stop:
                status, reason = Status.STOPPED, f"the submission asked to stop at step {book.step}"
                break
            book.batch_size = answer.batch_size or book.batch_size
            if book.batch_size not in programs.steps:
                raise SubmissionError(
                    f"{source.path}/submission.py: control asked for batch size {book.batch_size}; "
                    f"batch_sizes has only {sorted(programs.steps)}"
                )

        before = ledger.totals()["train"]
        with ledger.span("train"), jax.transfer_guard("disallow"):
            stacked, step = [], programs.steps[book.batch_size]
            order = step.order(state, keys)
            for _ in range(chunk_dispatches(spec, book, programs.dispatch_steps, workload.info.grid)):
                state, metrics = step(state, keys, train, order)
                stacked.append(metrics)
            watch.look()  # while the device works off what is queued: at most a chunk
            jax.block_until_ready((state, stacked))
        series = {name: np.concatenate([np.asarray(m[name]) for m in stacked]) for name in stacked[0]}
        count(book, series)
        variables = None
        folder.append(
            "chunk", t=ledger.total().wall_s, step=book.step, examples=book.examples, batch_size=book.batch_size,
            seconds=(ledger.totals()["train"] - before).wall_s, metrics={k: v.tolist() for k, v in series.items()},
            scored=timing.scored(ledger, book, ledger.zero, 0), spent=timing.spent(ledger, book),
        )  # fmt: skip
        if not (np.isfinite(series["loss"]).all() and programs.finite(state.params)):
            bad = int(np.argmin(np.isfinite(series["loss"])))
            at = book.step - len(series["loss"]) + bad + 1 if not np.isfinite(series["loss"]).all() else book.step
            status, reason = Status.DIVERGED, f"NaN or infinity in loss or parameters at step {at}"
            break

        if book.examples >= next_measured(spec, book, workload.info.grid):
            variables, measurement = measure(
                workload, programs, state, keys, (train, validation_slice), ledger, timing, book
            )
            book.measurements.append(measurement)
            folder.append("measurement", durable=True, t=ledger.total().wall_s, **vars(measurement))
            if measurement.met and spec.stop == "target":
                status, reason = Status.TARGET_REACHED, f"{spec.metric} met {spec.target} at step {book.step}"

        horizon = spec.horizon * spec.batch_size
        budget_spent = getattr(timing.spent(ledger, book), timing.budget_clock)
        safety = SAFETY * spec.budget_steps * timing.calibration.baseline_step_s
        if status is not None:
            break
        if spec.max_steps is not None and book.step >= spec.max_steps:
            status, reason = Status.HORIZON_REACHED, f"max_steps={spec.max_steps} done"
        elif spec.stop == "horizon" and book.examples >= horizon:
            status, reason = Status.HORIZON_REACHED, f"all {spec.horizon} steps of the horizon done"
        elif spec.stop == "target" and budget_spent >= timing.budget:
            status, reason = Status.BUDGET_EXHAUSTED, f"{budget_spent:.1f} s of {timing.budget:.1f} s spent"
        elif spec.stop == "target" and timing.past(options.hopeless_s, ledger, book):
            status = Status.HOPELESS
            reason = (
                f"another trial of its study reached the target in {options.hopeless_s:.4g} on the {spec.clock} clock"
            )
        elif ledger.totals()["train"].wall_s >= safety:
            status, reason = Status.BUDGET_EXHAUSTED, f"safety stop: {SAFETY} times the budget in wall time"
        elif interrupted():
            status, reason = Status.INTERRUPTED, f"saved at step {book.step}; run again to go on"
            save(checkpoints, state, book, timing, ledger, folder)
        elif time.monotonic() - last_save >= options.checkpoint_s:
            save(checkpoints, state, book, timing, ledger, folder)
            last_save = time.monotonic()

    # Evaluate the full splits once, for the record.
    full: dict[str, dict[str, float | None]] = {}
    if status not in (Status.INTERRUPTED, Status.DIVERGED, Status.HOPELESS):
        folder.append("phase", phase="finish")
        if variables is None:
            variables = variables_of(programs, state, keys, train, ledger)
        for name in ("validation", "test"):
            arrays = jax.device_put(dict(getattr(splits, name)))
            with ledger.span("compile"):
                evaluate = jax.jit(workload.evaluate).lower(*variables, arrays).compile()
            with ledger.span("eval"):
                full[name] = {k: float(v) for k, v in jax.device_get(evaluate(*variables, arrays)).items()}
        folder.append("final", step=book.step, metrics=full)
    checkpoints.close()
    return make_result(
        spec, status, reason, book, timing, ledger,
        state=state, cost=programs.cost, full=full, attempt=attempt, fingerprint=fingerprint, card=watch.summary(),
    )  # fmt: skip


def check_sources(spec: TrialSpec, *folders: discover.Folder) -> None:
    """Refuse to run sources other than those the spec was made for."""
    for folder, planned in zip(folders, (spec.workload_hash, spec.submission_hash), strict=True):
        if folder.source_hash != planned:
            raise SubmissionError(f"{folder.path}: its files have changed since the trial was planned; plan it anew")


def task_view(workload: Workload, budget_steps: int, declared_steps: int | None = None) -> TaskView:
    """Return what the submission may know; a declared length stands in for the step hint."""
    params, model_state = jax.eval_shape(workload.init, jax.random.key(0))
    return TaskView(
        params=params,
        param_info=workload.param_info,
        batch_size=workload.info.batch_size,
        step_hint=declared_steps or workload.info.step_hint,
        budget_steps=budget_steps,
        num_train_examples=workload.info.num_train_examples,
        loss_kind=workload.info.loss_kind,
        has_model_state=bool(jax.tree.leaves(model_state)),
    )


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


def take_up(
    saved: tuple[TrainState, dict[str, Any]], spec: TrialSpec, ledger: Ledger
) -> tuple[TrainState, Book, Timing]:
    """Return state, book and timing as the checkpoint holds them; the ledger goes on from its totals."""
    state, data = saved
    book = strict.read(
        Book,
        data["book"] | {"steps_by_size": {int(k): n for k, n in data["book"]["steps_by_size"].items()}},
        "checkpoint",
    )
    ratios = {int(k): r for k, r in data["calibration"]["step_ratio"].items()}
    calibration = strict.read(Calibration, data["calibration"] | {"step_ratio": ratios}, "checkpoint")
    ledger.restore({name: strict.read(Reading, value, "checkpoint") for name, value in data["ledger"].items()})
    return state, book, Timing(spec, calibration)


def save(
    checkpoints: Checkpoints, state: TrainState, book: Book, timing: Timing, ledger: Ledger, folder: RunFolder
) -> None:
    """Write a checkpoint, off the scored clock. The time it takes itself is lost if the process is killed later."""
    with ledger.span("checkpoint"):
        totals = ledger.totals()
        held = {"book": book, "calibration": timing.calibration, "ledger": totals}
        checkpoints.save(book.step, state, strict.to_plain(held))
    folder.append("checkpoint", durable=True, t=sum(r.wall_s for r in totals.values()), step=book.step)


def ask_control(algorithm: Algorithm, spec: TrialSpec, book: Book, source: Path) -> Control | None:
    """Return the submission's answer where a control call is due: before the first step and after every 4% of the
    step hint.
    """
    due = book.control_calls * spec.horizon * spec.batch_size // 25
    if algorithm.control is None or book.examples < due:
        return None
    means = {name: total / book.metric_steps for name, total in book.metric_sums.items()}
    book.control_calls += 1
    book.metric_sums, book.metric_steps = {}, 0
    try:
        return algorithm.control(Progress(step=book.step, examples=book.examples, metrics=means))
    except Exception as error:
        raise SubmissionError(discover.blame(source, f"control at step {book.step}", error)) from error


def variables_of(
    programs: Programs, state: TrainState, keys: Keys, train: Arrays, ledger: Ledger
) -> tuple[Params, ModelState]:
    """Return what is to be evaluated; the submission's part of it is on the clock."""
    if programs.eval_variables is None:
        return state.params, state.model_state
    with ledger.span("eval_variables"):
        return jax.block_until_ready(programs.eval_variables(state, keys, train))


def measure(
    workload: Workload, programs: Programs, state: TrainState, keys: Keys, arrays: tuple[Arrays, Arrays],
    ledger: Ledger, timing: Timing, book: Book,
) -> tuple[tuple[Params, ModelState], Measurement]:  # fmt: skip
    """Evaluate the validation slice; return what was evaluated and the measurement."""
    before = ledger.totals()["eval_variables"]
    train, validation_slice = arrays
    variables = variables_of(programs, state, keys, train, ledger)
    calls = int(programs.eval_variables is not None)
    book.eval_variables_calls += calls
    at = timing.scored(ledger, book, ledger.totals()["eval_variables"] - before, calls)
    with ledger.span("eval"):
        values = jax.device_get(programs.evaluate(*variables, validation_slice))
    metrics: dict[str, float | None] = {k: float(v) for k, v in values.items()}
    spec = timing.spec
    met = spec.target is not None and workload.info.meets(metrics[spec.metric])
    return variables, Measurement(book.step, book.examples, metrics, at, met)
