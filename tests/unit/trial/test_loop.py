"""What the loop promises of the device, run in this process on the toy workload."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from harness.record import run_folder
from harness.record.result import Status
from harness.trial import loop, resume, setup
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
    calibrate = resume.calibrate

    def arm(*args, **kwargs):
        found = calibrate(*args, **kwargs)
        armed.append(True)
        return found

    monkeypatch.setattr(resume, "calibrate", arm)
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
    monkeypatch.setattr(resume.step_times, "cached_baseline_step_s", lambda *_: None)
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
