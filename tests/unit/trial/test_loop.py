"""What the loop promises of the device, run in this process on the toy workload."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from harness.record import run_folder
from harness.record.result import Status
from harness.trial import loop, resume, setup, yardstick
from harness.trial.clock import Ledger


def run(path, **fields):
    spec, options = run_folder.read_spec(path)
    spec = dataclasses.replace(spec, **fields)
    with run_folder.hold(path) as folder:
        return loop.run_trial(spec, options, folder, Ledger(), lambda: False)


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

    def run(self, path, **fields):
        spec, options = run_folder.read_spec(path)
        with run_folder.hold(path) as folder:
            ledger = Ledger(now=lambda: self.now, cpu_now=lambda: self.now)
            return loop.run_trial(dataclasses.replace(spec, **fields), options, folder, ledger, lambda: False)


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


def test_a_trial_that_memory_is_too_small_for_runs_without_the_yardstick_beside(make_trial, monkeypatch):
    start, starts = yardstick.Yardstick.start, []

    def full(self, params, model_state):
        starts.append(True)
        if len(starts) == 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 10 bytes")
        start(self, params, model_state)

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


def test_memory_that_never_suffices_is_told(make_trial, monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 10 bytes")

    monkeypatch.setattr(yardstick.Yardstick, "start", full)
    with pytest.raises(jax.errors.JaxRuntimeError, match="allocating 10 bytes"):
        run(make_trial("quadratic", "adamw", max_steps=30))
