"""`harness ladder` as typed: what it runs and records, what a second command keeps, and what it refuses. A stand-in
takes the place of the processes of a search.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import stand_ins

from harness.campaign import scale_ladder
from harness.cli import main as cli
from harness.program import discovery
from harness.search import targets

WORKLOAD = """
from types import SimpleNamespace
from harness.api import LossKind
from harness.program.workload import Target, WorkloadInfo
MODEL = SimpleNamespace(width={})
INFO = WorkloadInfo(
    name="{}", description="fake", metric="loss", mode="min", target=Target(None, 1, 300, 0.0), batch_size=8,
    step_hint=400, num_train_examples=64000, loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
)
"""
SUBMISSION = """
name: {}
description: fake
authors: [a]
licence: MIT
tuning: external
defaults: {{lr: {}, horizon: 1.5}}
"""
WHERE = ("workload=task", "device=cpu")


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch, no_exports) -> Path:
    """A ladder of two widths, a workload without a width, and submissions that need 250, 350 and 500 steps."""
    for name, width in (("task_w32", "32"), ("task", "8"), ("lone", "None")):
        (tmp_path / "workloads" / name).mkdir(parents=True)
        (tmp_path / "workloads" / name / "workload.py").write_text(WORKLOAD.format(width, name))
    for name, slow in (("best", 0.0), ("base", 0.4), ("slow", 1.0)):
        (tmp_path / "submissions" / name).mkdir(parents=True)
        (tmp_path / "submissions" / name / "submission.py").write_text("")
        (tmp_path / "submissions" / name / "submission.yaml").write_text(SUBMISSION.format(name, 0.1 * 10**slow))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stand_ins.Sweeps, "asked", [])
    return tmp_path


def printed(capsys, *words: str) -> Any:
    capsys.readouterr()
    assert cli.main(["ladder", *words, *WHERE, "--baseline", "base", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_ladder(capsys) -> None:
    found = printed(capsys, "best", "slow")
    assert [(one["workload"], one["width"], one["ratio"], one["steps"]) for one in found["rungs"][3:5]] == [
        ("task", 8, 8.0, 800), ("task_w32", 32, 1.0, 100)
    ]  # fmt: skip
    for name, needed in (("best", 250), ("slow", 500)):
        planted = (350 + 10) / (needed + 10)  # of seeds 0 to 2, each of which needs ten steps more
        of = [one for one in found["speed_ups"] + found["means"] if one["submission"] == name]
        assert [one["speed_up"] for one in of] == pytest.approx([planted] * len(of), rel=1e-3)
        assert len(of) == 8 + 3 and all(one["low"] <= planted * 1.001 and planted <= one["high"] * 1.001 for one in of)
    assert found["turns"] == [] and found["finals"]["best"][0][0] == pytest.approx([1.25, 1.30, 1.35])
    assert {one.hyperparameters["horizon"] for one in stand_ins.Sweeps.asked} == {1.0}
    assert len({one.program for one in stand_ins.Sweeps.asked}) == 2 * (8 + 4 + 4), "each is told its own length"
    of_base = [1131] * 3 + [800] * 3 + [566] * 3 + [400] * 3 + [283] * 3 + [200] * 3 + [141] * 3 + [100] * 3
    assert [one.until for one in stand_ins.Sweeps.asked[:24]] == of_base, "the longest first"
    runs, _ = targets.read_record(Path("runs/task_w32/best/ladder-200.jsonl"))
    assert [(run.role, run.study, run.steps[-1]) for run in runs] == [("tuning", study, 200) for study in range(3)]


def test_what_is_recorded_is_not_run_again(capsys) -> None:
    first = printed(capsys, "best")
    ran = len(stand_ins.Sweeps.asked)
    assert printed(capsys, "best") == first and len(stand_ins.Sweeps.asked) == ran == 2 * (8 + 4) * 3
    printed(capsys, "best", "--seeds", "4", "--widths", "8", "--ratios", "1,2,4")
    assert len(stand_ins.Sweeps.asked) == ran + 6 + 3, "a seed more, of six amounts and of three"


def test_tables_say_what_they_show(capsys) -> None:
    assert cli.main(["ladder", "best", *WHERE, "--baseline", "base", "--dry-run", "out=elsewhere"]) == 0
    assert not Path("elsewhere").exists()
    out = capsys.readouterr().out
    assert "ladder of task: widths 8, 32, 100, 200, 400, 800 steps, the baseline 100, 141, 200" in out
    assert cli.main(["ladder", "best", *WHERE, "--baseline", "base", "--seeds", "2", "--ratios", "1,40"]) == 0
    out = capsys.readouterr().out
    assert "task_w32 / best 4000 steps, tuning seed 1: loss" in out and "best over base on task, 2 seeds" in out
    assert "no intervals and no test of the order: they take 3 seeds" in out
    assert cli.main(["report", "runs", "--markdown"]) == 0
    assert "| best | 8 | 1 | 1.2750 | 1.39" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no submission named beside the baseline base"),
        (("base",), "no submission named beside the baseline base"),
        (("best", "workload=task,lone"), "expected one workload, as in workload=lm_books"),
        (("best", "workload=lone"), "its model has no width"),
        (("best", "workload=task_w32"), "that is a rung; name the workload whose ladder it is on"),
        (("best", "--widths", "8,9"), "--widths 9: task has 8, 32; a folder workloads/task_w9 beside it"),
        (("best", "--ratios", "1,x"), "--ratios 1,x: expected numbers above 0"),
        (("best", "--ratios", "2"), "--ratios: expected two or more"),
        (("best", "--ratios", "0.001,1"), "expected as many lengths, each of a step or more"),
        (("best", "--seeds", "0"), "--seeds 0: expected a whole number above 0"),
        (("best", "studies=3"), "their number is --seeds N; leave studies= out"),
        (("best", "max_steps=3"), "lengths follow from --ratios; leave max_steps= out"),
    ],
)
def test_what_is_refused(capsys, words, said) -> None:
    assert cli.main(["ladder", *WHERE, "--baseline", "base", *words]) == 2
    assert said in capsys.readouterr().err
    assert stand_ins.Sweeps.asked == []


def test_a_damaged_ladder_is_refused_by_the_page(capsys) -> None:
    printed(capsys, "best", "--widths", "8")
    file = Path("runs/ladders/task.json")
    file.write_text(file.read_text().replace('"widths"', '"width"'))
    assert cli.main(["report", "runs", "--markdown"]) == 2
    assert "runs/ladders/task.json is damaged" in capsys.readouterr().err


def test_a_submission_that_is_not_named_takes_no_hyperparameters(capsys) -> None:
    printed(capsys, "best", "hp.lr=0.2", "--widths", "8", "--ratios", "1,2")
    rates = {one.submission: one.hyperparameters["lr"] for one in stand_ins.Sweeps.asked}
    assert rates == {"best": 0.2, "base": pytest.approx(0.1 * 10**0.4)}


def test_rungs_that_come_with_the_harness_keep_the_size_of_a_head() -> None:
    found = {base: scale_ladder.rungs_of(discovery.find("workloads", base)) for base in ("lm_grammar", "lm_books")}
    assert {base: [rung.width for rung in of] for base, of in found.items()} == {
        "lm_grammar": [32, 64, 96, 128], "lm_books": [128, 256, 512, 768]
    }  # fmt: skip
    for base, of in found.items():
        models = [discovery.load(rung.folder).MODEL for rung in of]
        assert len({model.width / model.heads for model in models}) == 1
        own = discovery.workload_info(discovery.find("workloads", base))
        for rung in of:
            same = (
                "batch_size",
                "step_hint",
                "num_train_examples",
                "datasets",
                "metric",
                "measurements",
                "dispatch_steps",
                "floor",
                "loss_kind",
                "mode",
            )
            assert [getattr(rung.info, name) for name in same] == [getattr(own, name) for name in same]
            assert rung.info.name == rung.folder.name and scale_ladder.is_rung(rung.info.name) != (
                rung.info.name == base
            )
            assert rung.info.name == base or (not rung.info.scored and math.isnan(rung.info.target.value or math.nan))
