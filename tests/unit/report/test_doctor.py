"""The doctor: what it finds, the exit code that follows from it, and the calibration it keeps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from harness.machine import hardware, load
from harness.machine.cache import cache_folder
from harness.program import confinement, discovery
from harness.record.spec import DeviceConfig, Rules, RunSpec, Suite
from harness.report import doctor

WORKLOAD = """\
from harness.api import LossKind
from harness.program.workload import WorkloadInfo, read_target

INFO = WorkloadInfo(
    name="{name}", description="a toy", metric="loss", mode="min", target=read_target(__file__), batch_size=4,
    step_hint=200, num_train_examples=16, loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY, datasets={datasets},
)
"""
TARGET = '{"value": 0.9, "version": %d, "steps_to_target": 150, "reference_step_s": 0.0125}'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_PATH", raising=False)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    monkeypatch.setattr(doctor, "_PROBE", "print('[\"cpu\"]')")  # jax itself takes seconds to start
    return tmp_path


def add_workload(root: Path, name: str, *, version: int | None = 1, datasets: tuple[str, ...] = ()) -> discovery.Folder:
    folder = root / "workloads" / name
    folder.mkdir(parents=True)
    (folder / "workload.py").write_text(WORKLOAD.format(name=name, datasets=datasets))
    if version is not None:
        (folder / "target.json").write_text(TARGET % version)
    return discovery.Folder("workloads", name, folder)


def spec(*workloads: str, **changes: Any) -> RunSpec:
    return RunSpec(Suite("mine", workloads), Rules("quick"), DeviceConfig("cpu"), **changes)


def test_a_busy_machine_is_noted(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_workload(here, "well")
    monkeypatch.setattr(load, "others", lambda: 0.9 * hardware.usable_cores())
    found = doctor.look(spec("well"), calibrate=False)
    (one,) = (one for one in found["machine"] if one.name == "load")
    assert one.state == "note" and "calibrated seconds allow for most of that" in one.hint
    assert doctor.exit_code(found) == 0 and one.hint in doctor.as_json(found)["to_do"][0]


def test_all_well(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_workload(here, "well")
    assert doctor.run(spec("well"), calibrate=False) == 0
    out = capsys.readouterr().out
    for text in (
        "python",
        "jaxlib",
        hardware.machine()["cpu"],
        "jax devices (cpu)",
        "GiB free",
        "at most 0.9, version 1",
    ):
        assert text in out
    assert "nothing to do" in out


def test_what_the_kernel_lacks_of_the_confinement_is_told(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_workload(here, "well")
    monkeypatch.setattr(confinement, "kernel", lambda: {"landlock": 7, "seccomp": True})
    assert doctor.run(spec("well"), calibrate=False) == 0
    assert "Landlock 7 and seccomp" in capsys.readouterr().out
    monkeypatch.setattr(confinement, "kernel", lambda: {"landlock": 0, "seccomp": True})
    assert doctor.run(spec("well"), calibrate=False) == 0, "a run needs none of it"
    out = " ".join(capsys.readouterr().out.split())
    assert "files are open" in out
    assert "confinement: harness/SECURITY.md says what a submission can do here" in out


def test_data_that_are_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_workload(here, "with_data", datasets=("digits",))
    assert doctor.run(spec("with_data"), calibrate=False) == 0
    assert "1,797 handwritten digits" in capsys.readouterr().out


def test_missing_data_are_exit_code_3_with_a_hint(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_workload(here, "with_data", datasets=("digits",))
    (here / "sklearn").mkdir()
    (here / "sklearn" / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(here), *sys.path])
    assert doctor.run(spec("with_data"), calibrate=False) == 3
    out = capsys.readouterr().out
    assert f"data set digits: {here}/sklearn/datasets/data/digits.csv.gz: the digits' file is missing" in out
    assert "install scikit-learn again" in out
    assert "sklearn" not in sys.modules


def test_data_to_get_name_the_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_workload(here, "with_data", datasets=("cifar10",))
    assert doctor.run(spec("with_data"), calibrate=False) == 3
    assert "get it with: harness data get cifar10" in capsys.readouterr().out


def test_a_data_set_that_nobody_knows(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_workload(here, "with_data", datasets=("nobodys",))
    assert doctor.run(spec("with_data"), calibrate=False) == 3
    assert "data set nobodys" in capsys.readouterr().out


def test_a_missing_target_says_how_to_set_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_workload(here, "fresh", version=None)
    assert doctor.run(spec("fresh"), calibrate=False) == 2
    assert "python scripts/set_targets.py fresh" in capsys.readouterr().out
    horizon = RunSpec(Suite("mine", ("fresh",)), Rules("quick", stop="horizon"), DeviceConfig("cpu"))
    assert doctor.run(horizon, calibrate=False) == 0


def test_a_provisional_target_is_noted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_workload(here, "early", version=0)
    assert doctor.run(spec("early"), calibrate=False) == 0
    assert "provisional" in capsys.readouterr().out


def test_a_workload_that_is_not_there_or_broken(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = add_workload(here, "broken", datasets=("imagenet",))
    (broken.path / "workload.py").write_text("INFO = 3\n")
    assert doctor.run(spec("broken", "absent"), calibrate=False) == 2
    out = capsys.readouterr().out
    assert "broken: " + str(broken.path) in out
    assert "unknown workload 'absent'" in out


def test_a_broken_submission_is_told_and_stops_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_workload(here, "well")
    (here / "submissions" / "bad").mkdir(parents=True)
    (here / "submissions" / "bad" / "submission.py").write_text("def build(:\n")
    assert doctor.run(spec("well"), calibrate=False) == 0
    out = capsys.readouterr().out
    assert "a broken submission" in out
    assert "submission.yaml is missing" in out


def test_a_missing_package_is_broken(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_workload(here, "well")
    versions = hardware.packages() | {"optax": None, "training-harness": None}
    monkeypatch.setattr(hardware, "packages", lambda: versions)
    assert doctor.run(spec("well"), calibrate=False) == 2
    out = capsys.readouterr().out
    assert "optax: install it" in out
    assert "run from its sources" in out


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        ("import time; time.sleep(60)", "no answer within 1 s"),
        ("raise RuntimeError('no driver')", "RuntimeError: no driver"),
        ("print('hello')", "it printed no JSON"),
    ],
)
def test_devices_that_do_not_answer(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, probe: str, said: str
) -> None:
    add_workload(here, "well")
    monkeypatch.setattr(doctor, "_PROBE", probe)
    monkeypatch.setattr(doctor, "_PROBE_S", 1.0 if "sleep" in probe else 60.0)
    assert doctor.run(spec("well"), calibrate=False) == 2
    assert said in capsys.readouterr().out


def test_a_gpu_that_was_asked_for_and_is_not_there(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_workload(here, "well")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    run = RunSpec(Suite("mine", ("well",)), Rules("quick"), DeviceConfig("gpu"))
    assert doctor.run(run, calibrate=False) == 2
    assert "a GPU was asked for, but" in capsys.readouterr().out


# ---- the baseline's step


def test_calibrate_shows_what_the_subprocess_measured(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = add_workload(here, "well")
    asked = []

    def answer(command: list[str], environment: dict[str, str], timeout_s: float) -> Any:
        if "harness.trial.yardstick" not in command:
            return ["cpu"]
        asked.append((command[-2:], environment["JAX_PLATFORMS"]))
        return {"workload": "well", "baseline_step_s": 0.0125}

    monkeypatch.setattr(doctor, "_ask", answer)
    assert doctor.run(spec("well"), calibrate=True) == 0
    assert asked == [([str(folder.path), "cpu"], "cpu")]
    assert "12.500 ms per step" in capsys.readouterr().out
    assert doctor.run(spec("well"), calibrate=False) == 0
    assert "ms per step" not in capsys.readouterr().out


@pytest.mark.parametrize("answer", ["no answer within 1800 s", {"workload": "well"}, {"baseline_step_s": -1.0}, [1]])
def test_a_measurement_that_fails_is_told(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    add_workload(here, "well")
    monkeypatch.setattr(doctor, "_ask", lambda command, *_: answer if "harness.trial.yardstick" in command else ["cpu"])
    assert doctor.run(spec("well"), calibrate=True) == 2
    assert "the measurement failed" in capsys.readouterr().out


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("HARNESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "training-harness"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "training-harness"
