"""THE loop: one trial, from a spec to a result, top to bottom.

The device is waited for at both ends of every timed stretch. Whatever the harness does for the record (measurements,
logging, checkpoints) is off the scored clock; whatever the submission does is on it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict

import jax
import numpy as np

from harness.api import Control, Progress
from harness.errors import MachineError, SubmissionError, beneath
from harness.record import run_folder
from harness.record.result import Measurement, Result, Status
from harness.record.run_folder import RunFolder
from harness.record.spec import Options, TrialSpec
from harness.trial import evaluated
from harness.trial.chunks import chunk_dispatches, next_measured
from harness.trial.clock import Ledger
from harness.trial.host_state import EVAL_VARIABLES, count
from harness.trial.hosts import agreed, by_first, first, on_host, wait_for_all
from harness.trial.programs import Order, Variables, all_of
from harness.trial.resume import Training, begin, save
from harness.trial.setup import Kept, Setup, set_up
from harness.trial.stopping import LEAST_SAFETY_S, SAFETY, Ending, Spent, out_of_memory, stop_reason
from harness.trial.trial_result import make_result

MAX_UNREPORTED = 25
"""So many steps in a row without a finite loss end a trial. A method may skip a step that it cannot take; whether it
diverged is for its parameters to say.
"""

ALONE = "ran without the yardstick beside it, which was one thing too many for the memory: wall clock alone"
ASKED_AGAIN = (
    "its controller was ended from outside, or ended itself, and was asked again: it may have answered otherwise"
)


def run_trial(
    spec: TrialSpec,
    options: Options,
    folder: RunFolder,
    ledger: Ledger,
    interrupted: Callable[[], bool],
    attempt: int = 1,
    kept: Kept | None = None,
) -> Result:
    """Run one trial to its end, or to the next chunk end once `interrupted()`; return its result. What other trials of
    its program can use is taken from `kept`, and left there.

    Raises SubmissionError where a program is missing, and lets JAX's out-of-memory errors through.
    """
    kept = kept or Kept()
    for alone in (False, True):
        setup = set_up(spec, options, folder, ledger, kept)
        try:
            return train_to_end(setup, interrupted, attempt, alone=alone)
        except Exception as error:
            if alone or not out_of_memory(error):
                raise
            folder.append("phase", phase="without the yardstick", why=str(error).splitlines()[0])
        finally:
            setup.close()
        del setup  # and with it what lies on the device
        kept.prepared = None
        ledger.restore({})
    raise AssertionError("the second try returns or raises")


def train_to_end(setup: Setup, interrupted: Callable[[], bool], attempt: int, *, alone: bool = False) -> Result:
    """Train until there is a reason to end; the yardstick runs beside, unless `alone`."""
    spec, options, folder, ledger = setup.spec, setup.options, setup.folder, setup.ledger
    folder.append("phase", phase="init")
    training = begin(setup, alone=alone)
    host, timing = training.host, training.timing
    folder.append("attempt", attempt=attempt, resume_step=host.step, baseline=host.baseline, pid=os.getpid())
    folder.append("budget", seconds=timing.budget, clock=timing.budget_clock, baseline_steps=spec.budget_steps)
    folder.append("phase", phase="train")
    ledger.start("other")

    last_save = time.monotonic()
    ending = None
    while ending is None:
        ending = control(setup, training) or train(setup, training)
        if ending is not None:
            break
        if not alone:
            compare(setup, training)
        if host.examples >= next_measured(spec, host, setup.info.measurements):
            measure(setup, training)
        ending = stop_reason(spec, host, spent(setup, training), interrupted=interrupted())
        ending, late = decided(ending, time.monotonic() - last_save >= options.checkpoint_s)
        saving_due = ending is None and late
        if saving_due or (ending is not None and ending.status is Status.INTERRUPTED):
            save(setup, training)
            last_save = time.monotonic()
    return finish(setup, training, ending, attempt)


def decided(ending: Ending | None, late: bool) -> tuple[Ending | None, bool]:
    """Return what the first process says of how the trial ends, and whether its last checkpoint is too old."""
    told, late = agreed((None if ending is None else (ending.status, ending.reason), late))
    return None if told is None else Ending(Status(told[0]), told[1]), late


def control(setup: Setup, training: Training) -> Ending | None:
    """Ask the submission where a control call is due; follow its batch size, and end the trial where it asks to."""
    host, folder = training.host, setup.folder
    answer = ask_control(setup, training)
    if answer is None:
        return None
    folder.append("control", step=host.step, answer=answer)
    if answer.stop:
        return Ending(Status.STOPPED, f"the submission asked to stop at step {host.step}")
    host.batch_size = answer.batch_size or host.batch_size
    if host.batch_size not in setup.programs.steps:
        raise SubmissionError(
            f"{setup.options.submission_path}/submission.py: control asked for batch size {host.batch_size}; "
            f"batch_sizes has only {sorted(setup.programs.steps)}"
        )
    return None


def ask_control(setup: Setup, training: Training) -> Control | None:
    """Return the submission's answer: asked before the first step and after every 4% of the step hint, on the clock."""
    host, spec = training.host, setup.spec
    due = host.control_calls * spec.horizon * spec.batch_size // 25
    if not setup.controlled or host.examples < due:
        return None
    means = {name: total / host.metric_steps for name, total in host.metric_sums.items()}
    host.control_calls += 1
    host.metric_sums, host.metric_steps = {}, 0
    progress = Progress(step=host.step, examples=host.examples, metrics=means)
    try:
        with setup.ledger.span("control"):
            answer = by_first(lambda: setup.controller.ask(progress) if setup.controller else None)
            told = agreed(None if answer is None else asdict(answer))
            return None if told is None else Control(**told)
    except MachineError as error:
        setup.folder.append("controller", durable=True, ended=str(error))  # no step, so that no attempt supersedes it
        raise


def train(setup: Setup, training: Training) -> Ending | None:
    """Train for a chunk, up to the next measurement, control call, look at the clock or window of streamed data; end a
    trial that diverged.
    """
    spec, ledger, host, timing = setup.spec, setup.ledger, training.host, training.timing
    state, stacked, step = training.state, [], setup.programs.steps[host.batch_size]
    calls = chunk_dispatches(spec, host, setup.programs.dispatch_steps, setup.info.measurements)
    calls = setup.feed.calls(calls, host.examples, host.batch_size * setup.programs.dispatch_steps)
    arrays = setup.feed.at(setup.inputs.keys, host.examples)
    order = order_of(setup, training, calls)
    before = ledger.totals()["train"]
    with ledger.span("train"):
        with jax.transfer_guard("disallow"):
            for _ in range(calls):
                state, metrics = step(state, setup.inputs, arrays, order)
                stacked.append(metrics)
            setup.watch.look()  # while the device works off what is queued: at most a chunk
            jax.block_until_ready((state, stacked))
        wait_for_all()  # so that the clock is that of the slowest process
    training.state, training.variables = state, None
    finite = setup.programs.finite(state.params)  # read below: the device works it out while the host writes
    series = {name: np.concatenate([np.asarray(m[name]) for m in stacked]) for name in stacked[0]}
    train_s = ledger.totals()["train"].wall_s - before.wall_s
    count(host, series, train_s)
    setup.folder.append(
        "chunk", t=ledger.total().wall_s, step=host.step, examples=host.examples, batch_size=host.batch_size,
        seconds=(ledger.totals()["train"] - before).wall_s, metrics={k: v.tolist() for k, v in series.items()},
        scored=timing.scored(ledger, ledger.zero), spent=timing.spent(ledger),
    )  # fmt: skip
    if not finite:
        return Ending(Status.DIVERGED, f"NaN or infinity in the parameters at step {host.step}")
    if host.unreported >= MAX_UNREPORTED:
        return Ending(Status.DIVERGED, f"no finite loss in the {host.unreported} steps up to step {host.step}")
    return None


def order_of(setup: Setup, training: Training, calls: int) -> Order:
    """Return the order of a chunk's examples: what was drawn last, as far as it reaches."""
    host, size = training.host, training.host.batch_size
    if training.drawn is not None:
        of_size, reach, order = training.drawn
        if of_size == size and host.examples + calls * setup.programs.dispatch_steps * size <= reach:
            return order
    order = jax.block_until_ready(setup.programs.steps[size].order(training.state, setup.inputs))
    calls_drawn, steps, *_ = order.draws.examples.shape
    training.drawn = size, host.examples + calls_drawn * steps * size, order
    return order


def compare(setup: Setup, training: Training) -> None:
    """Run the yardstick where it is due."""
    yardstick, train_s = setup.prepared.yardstick, setup.ledger.totals()["train"].wall_s
    if agreed(bool(train_s >= yardstick.due_s)):
        with setup.ledger.span("yardstick"):
            training.host.baseline.enter(*yardstick.run(train_s))


def measure(setup: Setup, training: Training) -> None:
    """Evaluate the validation slice and enter the measurement."""
    spec, ledger, host = setup.spec, setup.ledger, training.host
    before = ledger.totals()["eval_variables"]
    training.variables = variables_of(setup, training)
    at = training.timing.scored(ledger, ledger.totals()["eval_variables"] - before)
    with ledger.span("eval"):
        values = jax.device_get(setup.programs.evaluate(*training.variables, setup.prepared.validation_slice))
    metrics: dict[str, float | None] = {name: float(value) for name, value in values.items()}
    met = spec.target is not None and setup.info.meets(metrics[spec.metric])
    measurement = Measurement(host.step, host.examples, metrics, at, met)
    host.measurements.append(measurement)
    setup.folder.append("measurement", durable=True, t=ledger.total().wall_s, **vars(measurement))


def variables_of(setup: Setup, training: Training) -> Variables:
    """Return what is to be evaluated; the submission's part of it is on the clock."""
    state = training.state
    if setup.programs.eval_variables is None:
        return state.params, state.model_state
    training.host.eval_variables_calls += 1
    arrays = setup.feed.recalibration(setup.inputs.keys, training.host.step)
    before = setup.ledger.totals()["eval_variables"].wall_s
    with setup.ledger.span("eval_variables"):
        variables = jax.block_until_ready(setup.programs.eval_variables(state, setup.inputs, arrays))
    seconds = setup.ledger.totals()["eval_variables"].wall_s - before
    training.host.baseline.spend(EVAL_VARIABLES, seconds, 1)
    return variables


def spent(setup: Setup, training: Training) -> Spent:
    """Return what the trial has spent so far."""
    ledger, timing = setup.ledger, training.timing
    limit = setup.options.hopeless_s
    return Spent(
        budget_s=getattr(timing.spent(ledger), timing.budget_clock),
        of_s=timing.budget,
        train_wall_s=ledger.totals()["train"].wall_s,
        safety_s=max(SAFETY * setup.spec.budget_steps * training.host.baseline.step_s, LEAST_SAFETY_S),
        hopeless_s=limit if timing.past(limit, ledger) else None,
    )


def finish(setup: Setup, training: Training, ending: Ending, attempt: int) -> Result:
    """Evaluate the full splits once, for the record, and return the result. How the trial ended stands already: what
    fails here is told beside the reason, and changes no status. Raises MachineError where it is the machine that fails,
    so that the record is whole once the trial has gone on.
    """
    setup.prepared.yardstick.stop()
    full: dict[str, dict[str, float | None]] = {}
    reason, kept = ending.reason, None
    if ending.status not in (Status.INTERRUPTED, Status.DIVERGED, Status.HOPELESS):
        spent, budget_s = training.timing.spent(setup.ledger), training.timing.budget
        setup.folder.append(
            "decided", durable=True, step=training.host.step, status=ending.status, reason=ending.reason, spent=spent,
            budget_s=budget_s,
        )  # fmt: skip
        setup.folder.append("phase", phase="finish")
        try:
            training.variables = training.variables or variables_of(setup, training)
            full = full_splits(setup, training.variables)
            setup.folder.append("final", step=training.host.step, metrics=full)
            kept = keep(setup, training.host.step, training.variables)
        except Exception as error:
            if (trouble := beneath(error)) is not None:
                raise trouble from error
            what = "what was evaluated could not be saved" if full else "the full splits could not be evaluated"
            reason += f"; {what}: {type(error).__name__}: {error}".splitlines()[0]
    asked_again = any(e["event"] == "controller" for e in run_folder.read_events(setup.folder.path))
    flagged = [text for text, so in ((ALONE, training.timing.alone), (ASKED_AGAIN, asked_again)) if so]
    return make_result(
        setup.spec, ending.status, reason, training.host, training.timing, setup.ledger, state=training.state,
        cost=setup.cost, full=full, attempt=attempt, fingerprint=dict(setup.fingerprint),
        card=setup.watch.summary(), memory_bytes=setup.programs.memory_bytes,
        flagged=(*setup.prepared.submission.manifest.flagged, *flagged),
        evaluated=kept,
    )  # fmt: skip


def keep(setup: Setup, step: int, variables: Variables) -> str:
    """Save what was evaluated, so that others can evaluate it again; return its hash."""
    contract = setup.programs.contract
    with setup.ledger.span("checkpoint"):
        params, model_state = ([on_host(leaf) for leaf in part] for part in variables)
        if first():
            kept = evaluated.save(setup.folder.path, contract, params, model_state)
        else:
            kept = evaluated.digest(contract, [*params, *model_state])
    setup.folder.append("evaluated", step=step, sha256=kept)
    return kept


def full_splits(setup: Setup, variables: Variables) -> dict[str, dict[str, float | None]]:
    """Return the metrics of the whole validation and test splits."""
    prepared = setup.prepared
    full: dict[str, dict[str, float | None]] = {}
    splits = {name: dict(getattr(prepared.splits, name)) for name in ("validation", "test")}
    shapes = prepared.layout.shapes(splits) if prepared.layout else splits
    if not prepared.full:
        with setup.ledger.span("compile"):
            lowered = {name: prepared.programs.full[name].lower(*variables, shapes[name]) for name in splits}
            prepared.full, _ = all_of({name: lowered[name].compile for name in splits}, 2)
    for name, arrays in splits.items():
        with setup.ledger.span("eval"):
            values = jax.device_get(prepared.full[name](*variables, prepared.put(arrays)))
        full[name] = {metric: float(value) for metric, value in values.items()}
    return full
