"""As many trials at a time as there are GPUs, one on each; and plans in a file."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.campaign import __main__ as runner
from harness.campaign import config, plan, plan_file
from harness.campaign.launch import gpus
from harness.errors import ConfigError, HarnessError
from harness.machine import hardware
from harness.record import run_folder
from harness.record.result import Status
from harness.record.spec import DeviceConfig


def trials(count: int, device: str = "gpu", devices: int = 1):
    return [SimpleNamespace(name=i, spec=SimpleNamespace(device=device, devices=devices)) for i in range(count)]


def test_study_by_study_where_no_two_trials_share_a_process():
    def planned(device: str, **fields):
        spec = {"device": device, "max_steps": None, "score_compile": False} | fields
        return [
            SimpleNamespace(name=f"{name}{study}", spec=SimpleNamespace(**spec, study=study))
            for name in "ab"
            for study in range(3)
        ]

    def order(trials):
        return [trial.name for trial in gpus.in_order(trials)]

    assert order(planned("cpu")) == order(planned("gpu", score_compile=True)) == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert order(planned("gpu")) == order(planned("cpu", max_steps=9)) == ["a0", "a1", "a2", "b0", "b1", "b2"]


def test_two_gpus_run_two_trials_at_a_time_one_each():
    together = threading.Barrier(2, timeout=30)
    places = []

    def run(trial, slot):
        together.wait()  # passes only with two at a time
        places.append(slot.environment["CUDA_VISIBLE_DEVICES"])
        together.wait()
        assert slot.presses == []
        assert not slot.alone

    assert list(gpus.run_all(trials(4), run, ["2", "5"])) == []
    assert sorted(places) == ["2", "2", "5", "5"]
    assert set(places[:2]) == {"2", "5"}


@pytest.mark.parametrize("cards", [[], ["0"]])
def test_with_one_device_they_run_in_turn_in_this_thread(cards):
    order = []

    def run(trial, slot):
        assert threading.current_thread() is threading.main_thread()
        assert slot == gpus.Slot()
        order.append(trial.name)

    assert list(gpus.run_all(trials(3), run, cards)) == []
    assert order == [0, 1, 2]


def test_a_trial_over_several_gpus_has_as_many_to_itself():
    places = []
    run = lambda trial, slot: places.append(slot.environment["CUDA_VISIBLE_DEVICES"])  # noqa: E731
    assert list(gpus.run_all(trials(4, devices=2), run, list("01234"))) == []
    assert set(places) <= {"0,1", "2,3"}
    assert len(places) == 4
    (problem,) = gpus.run_all(trials(4, devices=8), run, list("01234"))
    assert str(problem) == "devices=8: this machine shows 5 GPUs; ask for as many at most"
    assert len(places) == 4


@pytest.mark.parametrize("cards", [["0"], ["0", "1"]])
def test_what_goes_wrong_with_one_stops_no_other(cards):
    done = []

    def run(trial, slot):
        if trial.name == 1:
            raise HarnessError("held")
        done.append(trial.name)

    assert [str(problem) for problem in gpus.run_all(trials(4), run, cards)] == ["held"]
    assert sorted(done) == [0, 2, 3]


def test_an_interrupt_ends_those_under_way_and_begins_no_other():
    begun = []

    def run(trial, slot):
        begun.append(trial.name)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(gpus.run_all(trials(8), run, ["0", "1"]))
    assert len(begun) <= 2


def test_the_gpus_are_those_that_are_visible(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, GPU-abc")
    assert hardware.visible_gpus() == ["1", "GPU-abc"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 0\necho 1\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert hardware.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("PATH", "")
    assert hardware.visible_gpus() == []
    asked = []
    monkeypatch.setattr(hardware, "visible_gpus", lambda: asked.append(1) or ["0", "1"])
    list(gpus.run_all(trials(2, "cpu"), lambda trial, slot: None))
    assert not asked, "trials on a CPU are for no GPU"


# ---- plans


@pytest.fixture
def planned(tmp_path, no_exports):
    run = config.compose(["workload=quadratic", "device=cpu", "max_steps=3", f"out={tmp_path / 'here'}"])
    return plan.make_plan(run, ["adamw", "nadamw"], elsewhere=True)


def test_a_plan_comes_back_with_the_folders_of_this_machine(planned, tmp_path):
    path = tmp_path / "plan.json"
    assert plan_file.write(path, planned.trials) == 2
    text = path.read_text()
    data = json.loads(text)
    for entry in data["trials"]:
        entry["options"] |= {"workload_path": "/elsewhere/quadratic", "submission_path": "/elsewhere/x"}
    path.write_text(json.dumps(data))
    read = plan_file.read(path, tmp_path / "there")
    assert [trial.spec for trial in read] == [trial.spec for trial in planned.trials]
    assert [trial.options for trial in read] == [trial.options for trial in planned.trials]
    assert all(trial.runnable and trial.root == tmp_path / "there" for trial in read)


def test_other_programs_and_other_files_are_refused(planned, tmp_path):
    path = tmp_path / "plan.json"
    plan_file.write(path, planned.trials)
    changed = json.loads(path.read_text())
    changed["trials"][0]["spec"]["submission_hash"] = "0123"  # a comment was edited: the program is the same
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    assert [trial.spec.id for trial in plan_file.read(tmp_path / "changed.json", tmp_path)] == [
        trial.spec.id for trial in planned.trials
    ]
    changed["trials"][0]["spec"]["program"] = "0123"
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    with pytest.raises(ConfigError, match=r"adamw on quadratic is exported as another program here than was planned"):
        plan_file.read(tmp_path / "changed.json", tmp_path)
    for text in ("{}", '{"a": 1}', "[1]", "{", '{"schema": 1, "trials": [3]}'):
        (tmp_path / "none.json").write_text(text)
        with pytest.raises(ConfigError, match=r"none.json is no plan of trials; make one with"):
            plan_file.read(tmp_path / "none.json", tmp_path)


def test_prepare_makes_the_run_folders_and_runs_nothing(planned, tmp_path, capsys):
    plan_file.write(tmp_path / "plan.json", planned.trials)
    assert runner.main([str(tmp_path / "plan.json"), "--out", str(tmp_path / "there"), "--prepare"]) == 0
    paths = capsys.readouterr().out.splitlines()
    assert [run_folder.read_spec(Path(path))[0] for path in paths] == [trial.spec for trial in planned.trials]
    assert {run_folder.read_trial(Path(path)).status for path in paths} == {Status.PLANNED}


def test_a_plan_for_elsewhere_names_its_device_and_needs_none_here(planned, monkeypatch):
    assert {trial.spec.device for trial in planned.trials} == {"cpu"}
    gpu = dataclasses.replace(planned.run, device=DeviceConfig("gpu", deterministic=False))
    monkeypatch.setattr(plan, "resolve_device", lambda _: pytest.fail("asked for a device of this machine"))
    specs = [trial.spec for trial in plan.make_plan(gpu, ["adamw"], elsewhere=True).trials]
    assert [(spec.device, spec.clock, spec.deterministic) for spec in specs] == [("gpu", "wall", False)]
    with pytest.raises(ConfigError, match="names its device"):
        plan.make_plan(dataclasses.replace(gpu, device=DeviceConfig("auto")), ["adamw"], elsewhere=True)
