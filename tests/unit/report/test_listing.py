"""`harness list` and `harness show`: everything that is found, the broken with their reason, whole in a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.errors import ConfigError
from harness.program import discovery
from harness.report import listing, showing

SUBMISSION_YAML = """\
name: {name}
description: {description}
authors: [Somebody]
licence: MIT
tuning: external
defaults: {{learning_rate: 0.01, b1: 0.9, decay: true}}
space:
  learning_rate: {{min: 0.001, max: 0.1, scaling: log}}
  b1: {{values: [0.9, 0.95]}}
"""

WORKLOAD = """\
from harness.api import LossKind
from harness.program.workload import WorkloadInfo, read_target

INFO = WorkloadInfo(
    name="toy", description="a toy of two numbers", metric="accuracy", mode="max", target=read_target(__file__),
    batch_size=4, step_hint=200, num_train_examples=16, loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY, scored=False,
)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_PATH", raising=False)
    return tmp_path


def add_submission(root: Path, name: str, *, yaml: str | None = None, code: str = "def build(task, hp): ...\n") -> Path:
    folder = root / "submissions" / name
    folder.mkdir(parents=True)
    (folder / "submission.py").write_text(code)
    (folder / "submission.yaml").write_text(yaml or SUBMISSION_YAML.format(name=name, description="mine " * 40))
    return folder


def add_workload(root: Path, code: str = WORKLOAD, name: str = "toy") -> Path:
    folder = root / "workloads" / name
    folder.mkdir(parents=True)
    (folder / "workload.py").write_text(code)
    return folder


def test_list_has_all_that_is_found(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, toy = add_submission(here, "mine"), add_workload(here)
    listing.print_list(listing.listed())
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert str(mine) in lines["mine"]
    assert ("mine " * 40).strip() in lines["mine"]  # not cut at any width
    assert str(toy) in lines["toy"]
    assert "no target" in lines["toy"]
    assert "(a toy, not scored)" in lines["toy"]
    assert "provisional" not in lines["quadratic"], "a toy's target is of no ruleset"
    assert "lm_grammar" in lines["demo"]
    assert "1 x 1" in lines["quick"]
    for name in (*discovery.find_all("submissions"), *discovery.find_all("workloads")):
        assert name in lines
    assert str(discovery.find("submissions", "adamw").path) not in out  # bundled ones show no path
    assert all(line == line.rstrip() for line in out.splitlines())


def test_broken_folders_are_listed_with_their_reason(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_submission(here, "bad_yaml", yaml="name: bad_yaml\n")
    add_submission(here, "bad_name", yaml=SUBMISSION_YAML.format(name="other", description="x"))
    bad_code = add_submission(here, "bad_code", code="x = 1\ndef build(:\n")
    add_workload(here, "raise RuntimeError('no such luck')\n", "bad_workload")
    listing.print_list(listing.listed())
    out = capsys.readouterr().out
    assert "bad_yaml is broken" in out
    assert "the field 'description' is missing" in out
    assert "bad_name is broken" in out
    assert "make them equal" in out
    assert f"bad_code is broken: {bad_code}/submission.py:2: SyntaxError" in out
    assert "bad_workload is broken" in out
    assert "no such luck" in out


def test_a_broken_configuration_file_is_listed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "configs" / "suite").mkdir(parents=True)
    (here / "configs" / "suite" / "mine.yaml").write_text("# My own.\nname: mine\nworkloads: [toy, other]\n")
    (here / "configs" / "suite" / "bad.yaml").write_text("workloads: [toy\n")
    (here / "configs" / "suite" / "worse.yaml").write_text("- toy\n")
    listing.print_list(listing.listed())
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert "toy, other" in lines["mine"]
    assert "My own." in lines["mine"]
    assert "configs/suite/mine.yaml" in lines["mine"]
    assert "broken:" in lines["bad"]
    assert "broken: expected a mapping" in lines["worse"]


def show(name: str) -> None:
    showing.print_all(showing.called(name))


def test_show_workload(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = add_workload(here)
    show("toy")
    out = capsys.readouterr().out
    assert "accuracy, larger is better" in out
    assert "python scripts/set_targets.py toy" in out
    (folder / "target.json").write_text(
        '{"value": 0.9, "version": 1, "steps_to_target": 150, "reference_step_s": 0.0125, '
        '"record": "results/toy", "spread": 0.01, "seeds": 10}'
    )
    (folder / "README.md").write_text("# toy\n")
    discover_again(folder)
    show("./workloads/toy")
    out = capsys.readouterr().out
    for text in (
        "at least 0.9, version 1",
        "300 baseline steps",
        "12.500 ms",
        "results/toy",
        str(folder / "README.md"),
    ):
        assert text in out
    assert "set_targets" not in out


def discover_again(folder: Path) -> None:
    """Forget the imported module, as another process would."""
    for name in [n for n in sys.modules if n.startswith("_found_") and n.endswith(("toy", "toy.workload"))]:
        del sys.modules[name]


def test_show_submission(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = add_submission(here, "mine")
    show("mine")
    out = capsys.readouterr().out
    for text in ("Somebody", "MIT", discovery.Folder("submissions", "mine", folder).source_hash, "0.001 to 0.1, log"):
        assert text in out
    assert "one of 0.9, 0.95" in out


@pytest.mark.parametrize(
    ("name", "text"),
    [("demo", "suite demo"), ("quick", "ruleset quick"), ("h200", "device h200"), ("slurm", "launcher slurm")],
)
def test_show_configuration(name: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    show(name)
    out = capsys.readouterr().out
    assert out.startswith(text)
    assert out.splitlines()[1].endswith(f"/{name}.yaml") and out.splitlines()[2].startswith("# ")


def test_a_suite_and_a_device_of_one_name_are_both_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show("gpu")
    out = capsys.readouterr().out
    assert out.startswith("suite gpu\n") and "\ndevice gpu\n" in out


def test_a_name_that_means_two_things_shows_both(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_submission(here, "toy")
    add_workload(here)
    show("toy")
    out = capsys.readouterr().out
    assert "workload toy\n" in out
    assert "submission toy\n" in out


def test_unknown_names_are_met_with_the_nearest_of_all(here: Path) -> None:
    with pytest.raises(ConfigError, match="unknown name 'adamv'; did you mean 'adamw'"):
        show("adamv")
    with pytest.raises(ConfigError, match="did you mean 'demo'"):
        show("dem")
    with pytest.raises(ConfigError, match=r"neither a workload\.py nor a submission\.py"):
        show("./nowhere")


def test_no_jax_is_imported() -> None:
    code = (
        "import sys; from harness.report import doctor, listing, showing; listing.print_list(listing.listed()); "
        "showing.print_all(showing.called('adamw')); assert 'jax' not in sys.modules"
    )
    found_here = os.environ | {"PYTHONPATH": str(Path(harness.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=found_here, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
