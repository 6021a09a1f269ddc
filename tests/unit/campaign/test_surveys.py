"""`harness calibrate` and `harness sensitivity` as typed: what they run and record, what a second command keeps, and
what they refuse. A stand-in takes the place of the processes of a search.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import stand_ins

from harness.campaign import searches
from harness.cli import main as cli
from harness.search import targets
from harness.search.calibration import JUDGES

WORKLOAD = """
from harness.api import LossKind
from harness.program.workload import Target, WorkloadInfo
INFO = WorkloadInfo(
    name="{}", description="fake", metric="loss", mode="min", target=Target({}, 1, 300, 0.1), batch_size=8,
    step_hint=400, num_train_examples=64, loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
)
"""
SUBMISSION = """
name: {}
description: fake
authors: [a]
licence: MIT
tuning: external
defaults: {{lr: 0.1}}
"""
SPACE = "space: {lr: {min: 0.001, max: 1.0, scaling: log}}\n"
WHERE = ("workload=task,other", "device=cpu")


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch, no_exports) -> Path:
    """A working folder with three workloads, one without a target, and two submissions, one without a space."""
    for name, target in (("task", 0.5), ("other", 0.6), ("unset", None)):
        (tmp_path / "workloads" / name).mkdir(parents=True)
        (tmp_path / "workloads" / name / "workload.py").write_text(WORKLOAD.format(name, target))
    for name, space in (("first", SPACE), ("fixed", "")):
        (tmp_path / "submissions" / name).mkdir(parents=True)
        (tmp_path / "submissions" / name / "submission.py").write_text("")
        (tmp_path / "submissions" / name / "submission.yaml").write_text(SUBMISSION.format(name) + space)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stand_ins.Sweeps, "asked", [])
    return tmp_path


def asked() -> list[tuple[float, int]]:
    """(learning rate, study) of what the stand-in was asked for since the last look."""
    found = [(float(one.hyperparameters["lr"]), one.study) for one in stand_ins.Sweeps.asked]
    stand_ins.Sweeps.asked.clear()
    return found


def printed(capsys, *words: str) -> Any:
    capsys.readouterr()
    assert cli.main([*words, *WHERE, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_calibrate(capsys) -> None:
    found = printed(capsys, "calibrate", "first", "fixed", "--points", "4")
    first, fixed = found["submissions"]
    assert (first["points"], first["moved"], fixed["points"], fixed["moved"]) == (4, ["lr"], 1, [])
    assert [one["chosen_on"] for one in first["workloads"]] == [["other"], ["task"]]
    assert first["price"] == fixed["price"] == 1.0, "both workloads want the same point"
    assert fixed["workloads"][0]["left_out"]["steps"] == [288, 304, 304] and fixed["missed"] == []
    assert found["judges"] == list(JUDGES)
    assert {study for lr, study in asked() if lr == 0.1} == set(JUDGES), "the defaults choose nothing"
    runs, _ = targets.read_record(Path("runs/task/first/calibrate.jsonl"))
    assert {run.role for run in runs} == {"tuning"} and {run.seed for run in runs} == {0}


def test_what_is_recorded_is_not_run_again(capsys) -> None:
    before = printed(capsys, "calibrate", "first", "--points", "4")
    ran = asked()
    assert printed(capsys, "calibrate", "first", "--points", "4") == before and asked() == []
    printed(capsys, "calibrate", "first", "--points", "6")
    more = asked()
    assert more and {lr for lr, study in more if study == 0} - {lr for lr, _ in ran}
    assert printed(capsys, "calibrate", "first", "--points", "4") == before and asked() == [], "the old points are kept"


def test_a_hyperparameter_that_came_makes_the_old_runs_none(capsys) -> None:
    printed(capsys, "calibrate", "first", "--points", "2")
    ran = len(asked())
    file = Path("submissions/first/submission.yaml")
    file.write_text(file.read_text().replace("{lr: 0.1}", "{lr: 0.1, decay: 0.0}"))
    printed(capsys, "calibrate", "first", "--points", "2")
    assert len(asked()) == ran


def test_sensitivity(capsys) -> None:
    curves = printed(capsys, "sensitivity", "first", "--over", "lr", "--reach", "1")["curves"]
    task = curves[0]
    assert (task["workload"], task["values"], task["steps"]) == ("task", [0.05, 0.1, 0.2], 400)
    worse = 0.5 * 250 * 0.3010299957 / 400  # a factor of two away, log10(2) more steps are needed
    assert task["sensitivity"] == pytest.approx(2 / 3 * worse) and task["best"] == 0.1
    assert task["start"] == 10.0 and not task["at_the_end"]
    assert len(asked()) == 6
    printed(capsys, "sensitivity", "first", "--over", "lr", "--reach", "2", "studies=3")
    assert len(asked()) == 2 * (5 * 3 - 3), "what was there is kept"


def test_tables_say_what_they_show(capsys) -> None:
    assert cli.main(["calibrate", "first", *WHERE, "--points", "3"]) == 0
    out = capsys.readouterr().out
    assert "first: 3 points over lr, on task, other, at most about" in out
    assert "task / first lr=" in out and "(target met)" in out and "on all workloads: hp.lr=" in out
    assert cli.main(["sensitivity", "first", "--over", "lr", "--reach", "1", *WHERE]) == 0
    assert "loss after 400 steps" in capsys.readouterr().out
    assert cli.main(["calibrate", "first", *WHERE, "--dry-run", "out=elsewhere"]) == 0
    assert not Path("elsewhere").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("calibrate", *WHERE), "no submission named"),
        (("calibrate", "first", "workload=task", "device=cpu"), "expected 2 workloads or more"),
        (("calibrate", "first", "workload=task,unset"), "unset: no target is set to calibrate for"),
        (("calibrate", "first", *WHERE, "--points", "0"), "--points 0: expected a whole number above 0"),
        (("calibrate", "first", *WHERE, "hp.lrr=1.0"), "hp.lrr"),
        (("calibrate", "first", *WHERE, "seed=1"), "leave seed= out"),
        (("calibrate", "first", *WHERE, "variant=all"), "leave variant= out"),
        (("calibrate", "first", *WHERE, "launcher=slurm"), "as in sbatch --wrap='harness calibrate ...'"),
        (
            ("ladder", "first", *WHERE, "launcher=background"),
            "leave it out, and submit the command itself, as in nohup",
        ),
        (("anneal", "first", *WHERE), "first has no hyperparameter schedule, learning_rate"),
        (("anneal", *WHERE, "--fit", "cosin"), "unknown schedule 'cosin'; did you mean 'cosine'?"),
        (("anneal", *WHERE, "--predict", "wsd@0"), "NAME@LENGTH in step hints, as in wsd@1.5; got 'wsd@0'"),
        (("anneal", *WHERE, "--fit", "constant"), "cannot tell what falling gains"),
        (("anneal", *WHERE, "hp.horizon=1.0"), "schedules and lengths are given by --fit and --predict"),
        (("anneal", *WHERE, "max_steps=10"), "leave max_steps= out"),
        (("sensitivity", "first", *WHERE), "first: no hyperparameter 'learning_rate' to go through"),
        (("sensitivity", "first", *WHERE, "--over", "lr", "--reach", "0"), "--reach 0: expected a whole number"),
        (("sensitivity", "first", *WHERE, "--over", "lr", "hp.lr=0.0"), "factors of two go around a number above 0"),
        (("sensitivity", "first", *WHERE, "--over", "lr", "--centre", "step-law"), "a centre for learning_rate"),
    ],
)
def test_what_is_refused(capsys, words, said) -> None:
    assert cli.main(list(words)) == 2
    assert said in capsys.readouterr().err
    assert asked() == []


def test_a_record_that_is_damaged_or_held(capsys) -> None:
    file = Path("runs/task/first/calibrate.jsonl")
    with searches.held(file):
        assert cli.main(["calibrate", "first", *WHERE]) == 2
    assert "calibrate.jsonl is held by another process" in capsys.readouterr().err
    file.write_text('{"role": ')
    assert cli.main(["calibrate", "first", *WHERE]) == 2
    assert "calibrate.jsonl is damaged" in (err := capsys.readouterr().err) and "remove it" in err
