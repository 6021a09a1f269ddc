"""Where a trial stands between two chunks, and how that goes into a checkpoint and comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from harness.api import TrainState
from harness.errors import ConfigError, MachineError, RunFolderError
from harness.machine import hardware
from harness.record import plain_data, run_folder
from harness.record.readings import Reading
from harness.trial.checkpoints import Arrays, DamagedError
from harness.trial.host_state import HostState
from harness.trial.programs import Order, Variables, named, unnamed, variables_function
from harness.trial.setup import Setup
from harness.trial.timing import Timing

ALONE_RUNS = 10  # of the yardstick, where it cannot run beside the trial


@dataclass
class Training:
    """Where a trial stands.

    Attributes:
      state: the arrays, on the device.
      host: what the host keeps beside them.
      timing: what the ledger is worth.
      variables: what was evaluated last, where `state` has not changed since.
      drawn: the order that was drawn last, the batch size that it is for, and the examples that it reaches to.
    """

    state: TrainState
    host: HostState
    timing: Timing
    variables: Variables | None = None
    drawn: tuple[int, int, Order] | None = None


def begin(setup: Setup, *, alone: bool = False) -> Training:
    """Make the first state, and start the yardstick; where an earlier attempt left a checkpoint, go on from it with its
    clock. One that is damaged, or ahead of the log, is removed, and the trial begins anew. With `alone` the yardstick
    runs before there is a state, and never beside it.
    """
    ledger, prepared = setup.ledger, setup.prepared
    host = HostState(batch_size=setup.spec.batch_size)
    if alone:
        with ledger.span("yardstick"):
            run_alone(setup, host)
    with ledger.span("init"):
        state = jax.block_until_ready(prepared.programs.init(setup.inputs))
    contract = prepared.programs.contract
    saved = load(setup, named(contract, state))
    if saved is not None:
        arrays, data = saved
        check_settings(data.get("settings"), hardware.settings(), str(setup.folder.path))
        state, host = unnamed(contract, arrays), taken_up(data)
        ledger.restore({name: plain_data.read(Reading, value, "checkpoint") for name, value in data["ledger"].items()})
    if not alone:
        with ledger.span("yardstick"):
            train_s = ledger.totals()["train"].wall_s
            host.baseline.begin(*prepared.yardstick.start(state.params, state.model_state, train_s))
    return Training(state, host, Timing(setup.spec, host, alone))


def load(setup: Setup, like: Arrays) -> tuple[dict[str, jax.Array], dict[str, Any]] | None:
    """Return what an earlier attempt saved; None where there is nothing to go on from."""
    try:
        saved = setup.checkpoints.load(like)
        if saved is not None:
            check_log(run_folder.read_events(setup.folder.path), taken_up(saved[1]))
    except DamagedError as error:
        setup.folder.append("phase", phase="anew", why=f"the checkpoint cannot be gone on from: {error}")
        setup.checkpoints.discard()
        return None
    return saved


def check_log(events: Sequence[Mapping[str, Any]], host: HostState) -> None:
    """Raise DamagedError where the log does not hold all that led to a checkpoint: lines of it are lost."""
    upto = [event for event in events if event.get("step", host.step + 1) <= host.step]
    steps = sum(len(event["metrics"]["loss"]) for event in upto if event["event"] == "chunk")
    measured = sum(event["event"] == "measurement" for event in upto)
    if (steps, measured) != (host.step, len(host.measurements)):
        held = f"{host.step} steps and {len(host.measurements)} measurements"
        raise DamagedError(f"it has {held}, the log {steps} and {measured} of them")


def run_alone(setup: Setup, host: HostState) -> None:
    """Run the yardstick for a while, and free it."""
    prepared, yardstick = setup.prepared, setup.prepared.yardstick
    init = jax.jit(variables_function(prepared.own, prepared.way[0]))  # where its key lies, be it on several devices
    yardstick.start(*init(setup.inputs.keys.init))
    for _ in range(ALONE_RUNS):
        host.baseline.enter(*yardstick.run(0.0))
    yardstick.stop()


def check_settings(saved: Mapping[str, Any] | None, now: Mapping[str, Any], where: str) -> None:
    """Raise RunFolderError naming the first setting in which a checkpoint is of another process than this one."""
    for name in sorted({*(saved or {}), *now}):
        was, is_ = (saved or {}).get(name), now.get(name)
        if was != is_:
            raise RunFolderError(
                f"{where}: cannot go on: {name} was {was!r} when the trial was saved and is {is_!r} now, which would "
                "mix bits; set it as it was, or remove the folder to run the trial anew"
            )


def taken_up(data: Mapping[str, Any]) -> HostState:
    """Return what the host kept as a checkpoint holds it: JSON has made its batch sizes strings.
    Raises DamagedError where another version of the harness saved it.
    """
    held = dict(data["host"])
    held["steps_by_size"] = {int(size): steps for size, steps in held["steps_by_size"].items()}
    try:
        return plain_data.read(HostState, held, "checkpoint")
    except ConfigError as error:
        raise DamagedError("another version of the harness saved it, with another clock") from error


def save(setup: Setup, training: Training) -> None:
    """Write a checkpoint, off the scored clock. The time it takes itself is lost if the process is killed later."""
    with setup.ledger.span("checkpoint"):
        totals = setup.ledger.totals()
        held = {"host": training.host, "ledger": totals, "settings": hardware.settings()}
        arrays = named(setup.programs.contract, training.state)
        try:
            setup.checkpoints.save(training.host.step, arrays, plain_data.to_plain(held))
        except Exception as error:  # tensorstore tells of a full disk in words of its own
            line = str(error).strip().partition("\n")[0]
            told = f"{setup.checkpoints.path}: the checkpoint of step {training.host.step} cannot be written ({line})"
            raise MachineError(f"{told}; free some space there, then type the same again to go on") from error
    t = sum(reading.wall_s for reading in totals.values())
    setup.folder.append("checkpoint", durable=True, t=t, step=training.host.step)
