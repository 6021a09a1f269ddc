"""What the loop promises of the device, run in this process on the toy workload."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import jax
import numpy as np
import pytest

from harness.errors import MachineError, RunFolderError, of_machine
from harness.program import store
from harness.record import run_folder
from harness.record.result import Status
from harness.trial import checkpoints, controller, evaluated, loop, resume, setup, yardstick
from harness.trial.clock import Ledger
from harness.trial.programs import MAX_CHUNK_STEPS, Step
from harness.trial.stopping import LEAST_SAFETY_S, SAFETY, Ending, out_of_memory

ROOT = Path(__file__).resolve().parents[3]


def run(path, interrupted=lambda: False, **fields):
    spec, options = run_folder.read_spec(path)
    spec = dataclasses.replace(spec, **fields)
    with run_folder.hold(path) as folder:
        return loop.run_trial(spec, options, folder, Ledger(), interrupted)


def test_nothing_goes_between_host_and_device_within_a_chunk(make_trial, monkeypatch):
    path = make_trial("quadratic", "adamw", max_steps=5)
    compile_programs = setup.compile_programs
    armed = []

    def leaking(*args, **kwargs):
        programs = compile_programs(*args, **kwargs)

        def compiled(state, *rest, own=programs.steps[32].compiled):
            if armed:  # as a host that looks at, or feeds, each step would
                jax.block_until_ready(jax.numpy.add(state.step, np.int32(0)))
            return own(state, *rest)

        return dataclasses.replace(programs, steps={32: dataclasses.replace(programs.steps[32], compiled=compiled)})

    size = run_folder.read_spec(path)[0].batch_size
    assert size == 32
    monkeypatch.setattr(setup, "compile_programs", leaking)
    assert run(path).status == Status.HORIZON_REACHED
    begin = loop.begin

    def arm(*args, **kwargs):
        armed.append(True)
        return begin(*args, **kwargs)

    monkeypatch.setattr(loop, "begin", arm)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        run(make_trial("quadratic", "adamw", max_steps=6))


def test_a_card_is_looked_at_once_a_chunk_and_recorded(make_trial, monkeypatch):
    looks = []

    class Card:
        def look(self):
            looks.append(1)
            return setup.nvml.Look(1800, 600.0, 60, ("power brake",), 0)

        def describe(self):
            return {"name": "made up"}

    monkeypatch.setattr(setup.nvml, "card", lambda: Card())
    path = make_trial("quadratic", "adamw", max_steps=5)
    assert run(path).card is None, "on a CPU"
    assert not looks
    path = make_trial("quadratic", "adamw", max_steps=6)
    monkeypatch.setattr(setup.backend, "fingerprint", dict)
    card = run(path, device="gpu").card
    assert card["looks"] == len(looks) == len([e for e in run_folder.read_events(path) if e["event"] == "chunk"])
    assert card["slowed"] == {"power brake": 1.0}
    assert "slowed down (power brake)" in card["warnings"][0]


def test_what_fails_after_the_end_changes_no_status(make_trial, monkeypatch):
    def fail(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nand more")

    path = make_trial("quadratic", "adamw", max_steps=5)
    monkeypatch.setattr(loop, "full_splits", fail)
    result = run(path)
    assert (result.status, result.steps, result.validation) == (Status.HORIZON_REACHED, 5, None)
    assert result.reason.startswith("max_steps=5 done; the full splits could not be evaluated: ")
    assert result.reason.endswith("RESOURCE_EXHAUSTED: Out of memory")
    assert result.final_hash


def test_a_controller_that_ends_and_is_asked_again_is_told_of(make_trial, monkeypatch):
    """Else a `control` that answers by chance could end itself until it likes what it drew."""
    path, undisturbed = (make_trial("quadratic", ROOT / "tests/algorithms/batch_ramp", max_steps=n) for n in (40, 41))
    ask = controller.Controller.ask

    def ended(self, progress):
        if progress.step:
            raise MachineError("the process of `control` ended by SIGKILL")
        return ask(self, progress)

    with monkeypatch.context() as patch:
        patch.setattr(controller.Controller, "ask", ended)
        with pytest.raises(MachineError, match="SIGKILL"):
            run(path)
    assert loop.ASKED_AGAIN in run(path).flagged
    assert loop.ASKED_AGAIN not in run(undisturbed).flagged


def test_what_was_evaluated_is_kept(make_trial):
    path = make_trial("quadratic", "adamw", max_steps=5)
    result = run(path)
    contract = store.read(run_folder.read_spec(path)[0].program).manifest.contract
    params, model_state = evaluated.load(path / evaluated.FILE, contract)
    assert [array.shape for array in (*params, *model_state)] == [
        leaf.shape for leaf in (*contract.params, *contract.model_state)
    ]
    assert evaluated.digest(contract, [*params, *model_state]) == result.evaluated
    (event,) = [e for e in run_folder.read_events(path) if e["event"] == "evaluated"]
    assert (event["sha256"], event["step"]) == (result.evaluated, 5)
    assert result.ledger["checkpoint"].wall_s > 0
    assert [file.name for file in path.iterdir() if file.name.startswith(".")] == []
    others = dataclasses.replace(contract, params=contract.params[:-1])
    with pytest.raises(RunFolderError, match=r"evaluated.npz holds \d+ arrays, the program has \d+"):
        evaluated.load(path / evaluated.FILE, others)


@pytest.mark.parametrize("where", ["full_splits", "keep"])
def test_a_machine_that_fails_at_the_end_leaves_no_record_and_the_trial_goes_on(make_trial, monkeypatch, where):
    """Or its record would lack what it was evaluated on for good."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    path = make_trial("quadratic", "adamw", max_steps=5)
    with monkeypatch.context() as patch:
        patch.setattr(loop, where, full) if where == "full_splits" else patch.setattr(evaluated.np, "savez", full)
        with pytest.raises(MachineError, match="No space left on device; free some space there, then type the same"):
            run(path)
    assert [file.name for file in path.iterdir() if "evaluated" in file.name] == []
    assert run_folder.read_trial(path).status == Status.INTERRUPTED
    result = run(path)
    assert (result.status, result.reason) == (Status.HORIZON_REACHED, "max_steps=5 done")
    assert result.evaluated
    assert result.validation["loss"] > 0


class Seconds:
    """A clock that only steps move: the program's, each by `own(step number)`, and the yardstick's, each by one."""

    def __init__(self, monkeypatch, own=lambda number: 1.0):
        self.now, self.steps, self.yardstick_steps = 0.0, 0, 0
        compile_programs, compile_yardstick = setup.compile_programs, yardstick.compile_yardstick

        def program(*args, **kwargs):
            programs = compile_programs(*args, **kwargs)

            def timed(*given, compiled=programs.steps[32].compiled):
                self.steps += 1
                self.now += own(self.steps)
                return compiled(*given)

            return dataclasses.replace(programs, steps={32: dataclasses.replace(programs.steps[32], compiled=timed)})

        def ours(*args, **kwargs):
            begin, step = compile_yardstick(*args, **kwargs)

            def timed(*given):
                self.yardstick_steps += 1
                self.now += 1.0
                return step.compiled(*given)

            return begin, dataclasses.replace(step, compiled=timed)

        monkeypatch.setattr(setup, "compile_programs", program)
        monkeypatch.setattr(yardstick, "compile_yardstick", ours)
        monkeypatch.setattr(yardstick.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(yardstick, "is_done", lambda metrics: True)  # time passes when a call is made

    def run(self, path, *, hopeless_s=None, interrupted=lambda: False, **fields):
        spec, options = run_folder.read_spec(path)
        options = dataclasses.replace(options, hopeless_s=hopeless_s)
        with run_folder.hold(path) as folder:
            ledger = Ledger(now=lambda: self.now, cpu_now=lambda: self.now)
            return loop.run_trial(dataclasses.replace(spec, **fields), options, folder, ledger, interrupted)


@pytest.mark.parametrize("every", [4, 50, 200])
def test_what_is_done_on_every_kth_step_is_charged_in_full(make_trial, monkeypatch, every):
    warm_up = 2  # calls before the trial begins
    clock = Seconds(monkeypatch, lambda number: 1.0 + (20.0 if (number - warm_up) % every == 0 else 0.0))
    result = clock.run(make_trial("quadratic", "adamw", hp={"learning_rate": 1e-5}), max_steps=400, budget_steps=10**6)
    assert result.steps == 400
    assert result.calibration.step_ratio == {32: pytest.approx(1 + 20 / every)}
    assert result.calibration.baseline_step_s == pytest.approx(1.0)
    assert result.ledger["train"].wall_s == pytest.approx(400 * (1 + 20 / every))


def test_the_yardstick_runs_throughout_and_takes_its_share(make_trial, monkeypatch):
    clock = Seconds(monkeypatch)
    path = make_trial("quadratic", "adamw", hp={"learning_rate": 1e-5})
    result = clock.run(path, max_steps=2000, budget_steps=10**6)
    assert result.calibration.step_ratio == {32: pytest.approx(1.0)}
    assert result.calibration.pairs > 10
    assert 0.05 < result.ledger["yardstick"].wall_s / result.ledger["train"].wall_s < 0.1
    assert result.ledger["yardstick"].wall_s == clock.yardstick_steps


def test_a_machine_that_slows_down_half_way_slows_both(make_trial, monkeypatch):
    clock = Seconds(monkeypatch)
    slower = lambda seconds: seconds * (3.0 if clock.steps > 1000 else 1.0)  # noqa: E731
    real = clock.__class__

    class Slowing(real):
        def __setattr__(self, name, value):
            if name == "now" and hasattr(self, "now"):
                value = self.now + slower(value - self.now)
            object.__setattr__(self, name, value)

    clock.__class__ = Slowing
    result = clock.run(make_trial("quadratic", "adamw", hp={"learning_rate": 1e-5}), max_steps=2000, budget_steps=10**6)
    assert result.ledger["train"].wall_s == pytest.approx(1000 * 1 + 1000 * 3, rel=0.01)
    assert result.calibration.step_ratio == {32: pytest.approx(1.0, rel=0.03)}


SLOW = {"learning_rate": 1e-5}
WAYS = {
    Status.TARGET_REACHED: ("adamw", {"learning_rate": 0.05}, {}),
    Status.HORIZON_REACHED: ("adamw", SLOW, {"stop": "horizon"}),
    Status.BUDGET_EXHAUSTED: ("adamw", SLOW, {}),
    Status.STOPPED: ("adamw", SLOW, {"control": 60}),
    Status.DIVERGED: (ROOT / "tests/faults/returns_nan", None, {}),
    Status.HOPELESS: ("adamw", SLOW, {"hopeless_s": 0.02}),
    Status.INTERRUPTED: ("adamw", SLOW, {"interrupted": 3}),
}
"""Every way in which the loop itself ends a trial: the submission, its point, and what brings it about."""


@pytest.mark.parametrize("budget_steps", [3, 2000])
@pytest.mark.parametrize("status", WAYS)
def test_no_trial_goes_past_its_budget_by_more_than_a_chunk(make_trial, monkeypatch, status, budget_steps):
    name, point, fields = WAYS[status]
    fields = dict(fields)
    asked = fields.pop("control", None)
    if asked is not None:
        stopped = Ending(Status.STOPPED, "asked to")
        monkeypatch.setattr(loop, "control", lambda _, training: stopped if training.host.step >= asked else None)
    looks = iter(range(99_999))
    after = fields.pop("interrupted", 99_999)
    clock = Seconds(monkeypatch, lambda number: 3.0)  # three times as slow as the baseline
    given = {"hopeless_s": fields.pop("hopeless_s", None), "interrupted": lambda: next(looks) >= after}
    path = make_trial("quadratic", name, hp=point, budget_steps=budget_steps, **fields)
    result = clock.run(path, **given)
    events = run_folder.read_events(path)
    (budget,) = [e for e in events if e["event"] == "budget"]
    chunks = [e for e in events if e["event"] == "chunk"]
    before = chunks[:-1]
    if fields.get("stop") == "horizon":  # it has no budget but its steps, and this
        assert sum(e["seconds"] for e in before) < max(SAFETY * budget_steps, LEAST_SAFETY_S)
    else:
        assert all(e["spent"][budget["clock"]] < budget["seconds"] for e in before)
    assert all(e["seconds"] <= 3.0 * MAX_CHUNK_STEPS for e in chunks)
    if budget_steps == 2000:
        assert result.status == status
    elif status is not Status.DIVERGED:  # which may come in the first chunk
        assert result.status == Status.BUDGET_EXHAUSTED


def test_a_trial_that_memory_is_too_small_for_runs_without_the_yardstick_beside(make_trial, monkeypatch):
    start, starts = yardstick.Yardstick.start, []

    def full(self, *given):
        starts.append(True)
        if len(starts) == 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 10 bytes")
        return start(self, *given)

    monkeypatch.setattr(yardstick.Yardstick, "start", full)
    path = make_trial("quadratic", "adamw", max_steps=30)
    result = run(path)
    assert (result.status, result.steps) == (Status.HORIZON_REACHED, 30)
    assert result.calibration.baseline_source == "alone"
    assert result.calibration.pairs == resume.ALONE_RUNS
    assert loop.ALONE in result.flagged
    chunk = next(e for e in run_folder.read_events(path) if e["event"] == "chunk")
    assert chunk["scored"]["calibrated"] is None
    assert chunk["scored"]["wall"] < result.wall_s


def test_a_checkpoint_that_cannot_be_written_is_not_the_submissions_memory(make_trial, monkeypatch):
    """orbax tells of a full disk in the words of memory that does not suffice, when it saves and when it is closed."""
    calls = []

    class Full:
        latest = None

        def save(self, *_, **__):
            calls.append("save")
            raise ValueError("RESOURCE_EXHAUSTED: Error writing 'd/abc' [os_error_code='28'] No space left\nand more")

        def close(self):
            calls.append("close")
            raise ValueError("RESOURCE_EXHAUSTED: as before")

    def opened(self):
        self._opened = Full()
        return self._opened

    monkeypatch.setattr(checkpoints.Checkpoints, "_checkpointer", property(opened))
    path = make_trial("quadratic", "adamw", max_steps=300, checkpoint_s=0.0)
    with pytest.raises(MachineError, match=r"the checkpoint of step \d+ cannot be written \(.*No space left\); free"):
        run(path)
    assert calls == ["save", "close"], "it is not tried once more without the yardstick"


@pytest.mark.parametrize("lost", [None, "checkpoint", "chunk", "measurement"])
def test_a_checkpoint_that_is_damaged_or_ahead_of_the_log_is_not_gone_on_from(make_trial, tmp_path, lost):
    """What led to a checkpoint stands in the log, or the record of the trial would lack it."""
    fields = {"stop": "horizon", "max_steps": 60, "checkpoint_s": 0.0, "budget_steps": 10**6}
    whole = run(make_trial("quadratic", "adamw", **fields, out=tmp_path / "whole"))
    path = make_trial("quadratic", "adamw", **fields, out=tmp_path / "cut")
    looks = itertools.count(1)
    assert run(path, interrupted=lambda: next(looks) > 3).status == Status.INTERRUPTED
    if lost == "checkpoint":
        for file in (path / "checkpoints").rglob("d/*"):
            file.write_bytes(file.read_bytes()[:-9])
    elif lost is not None:  # the last line of its kind, and all after it
        lines = (path / "log.jsonl").read_bytes().splitlines(keepends=True)
        last = max(n for n, line in enumerate(lines) if f'"event": "{lost}"'.encode() in line)
        (path / "log.jsonl").write_bytes(b"".join(lines[:last]))
    again = run(path)
    events = run_folder.read_events(path)
    steps = [loss for e in events if e["event"] == "chunk" for loss in e["metrics"]["loss"]]
    (attempt,) = [e for e in events if e["event"] == "attempt"][-1:]
    assert (attempt["resume_step"] == 0) == (lost is not None)
    assert [e["why"] for e in events if e.get("phase") == "anew"] or lost is None
    assert (again.final_hash, len(steps)) == (whole.final_hash, 60)


def test_a_log_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    folder = run_folder.RunFolder(tmp_path)
    with pytest.raises(OSError, match="No space left") as caught:
        folder.append("phase", phase="train")
    assert not out_of_memory(caught.value)
    assert str(of_machine(caught.value)).startswith(f"{tmp_path}/log.jsonl: No space left on device; free some space")
    folder.close()


def test_memory_that_never_suffices_is_told(make_trial, monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 10 bytes")

    monkeypatch.setattr(yardstick.Yardstick, "start", full)
    with pytest.raises(jax.errors.JaxRuntimeError, match="allocating 10 bytes"):
        run(make_trial("quadratic", "adamw", max_steps=30))


def test_an_order_serves_as_far_as_it_reaches(make_trial, monkeypatch):
    """And the bits are those of an order that is drawn for each chunk."""
    drawn = []
    order_of, order = loop.order_of, Step.order
    monkeypatch.setattr(Step, "order", lambda *given: drawn.append(1) or order(*given))
    path = make_trial("quadratic", "adamw", max_steps=240)
    served = run(path)
    once = len(drawn)

    def each(setup, training, calls):
        training.drawn = None
        return order_of(setup, training, calls)

    monkeypatch.setattr(loop, "order_of", each)
    anew = run(path)
    assert len(drawn) - once > once, "fewer than half were drawn"
    assert (anew.steps, anew.final_hash) == (served.steps, served.final_hash) == (240, served.final_hash)
