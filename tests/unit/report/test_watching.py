"""What is shown of a campaign: the ladder, the line of bars, and `harness watch`."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import written_runs

from harness.campaign.plan import PlannedTrial
from harness.cli import main as cli
from harness.record import run_folder
from harness.record.readings import Scored
from harness.record.result import Measurement, Result, Status
from harness.record.run_folder import RunFolder
from harness.record.spec import Options
from harness.report import watching
from harness.report.campaign_ladder import Ladder
from harness.report.progress import sparkline

SPEC = replace(written_runs.SPEC, workload="w1", budget_steps=1600)


@contextmanager
def running(root: Path, submission: str) -> Iterator[RunFolder]:
    """A run folder as the worker of a trial holds it, measured once."""
    path = run_folder.prepare(root, replace(SPEC, submission=submission), Options("w", "s"))
    with run_folder.hold(path) as folder:
        folder.append("start", attempt=1)
        folder.append("attempt", attempt=1, resume_step=0)
        folder.append("phase", phase="train")
        measured = Measurement(400, 25600, {"loss": 0.75}, Scored(2.0, 3.0, 1.0, None), met=False)
        folder.append("measurement", **vars(measured))
        yield folder


def test_watch_ends_when_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path / "runs", "adamw") as folder:
        folder.write_result(Result(Status.TARGET_REACHED, "loss met 0.5", SPEC.id, steps=800))
    assert cli.main(["watch", str(tmp_path / "runs")]) == 0
    head, row, summary = capsys.readouterr().out.splitlines()
    assert head.split() == "workload submission seed study/trial status step validation target reason".split()
    assert row.split() == f"w1 adamw {SPEC.seed} 0/0 target_reached 400/1600 0.7500 0.5000 loss met 0.5".split()
    assert summary == "1 trial: 1 target_reached"


def test_watch_tells_of_what_goes_on_until_it_ends(tmp_path: Path) -> None:
    with running(tmp_path / "runs", "muon") as folder:
        command = [sys.executable, "-m", "harness.cli", "watch", str(tmp_path / "runs")]
        watcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert watcher.stdout is not None
        lines = [watcher.stdout.readline() for _ in range(3)]
        assert lines[1].split()[:5] == ["w1", "muon", str(SPEC.seed), "0/0", "running"]
        assert lines[2] == "1 trial: 1 running\n"
        measured = Measurement(600, 38400, {"loss": 0.4}, Scored(3.0, 4.0, 2.0, None), met=True)
        folder.append("measurement", **vars(measured))
        assert "step 600/1600" in (line := watcher.stdout.readline()) and "0.4000 (target 0.5000, met)" in line
        folder.write_result(Result(Status.TARGET_REACHED, "met", SPEC.id, steps=600))
    rest = watcher.communicate(timeout=60)[0]
    assert "w1 / muon 0/0: target_reached (met)" in rest and watcher.returncode == 0


def test_once_does_not_wait(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path / "runs", "muon"):
        assert cli.main(["watch", str(tmp_path / "runs"), "--once"]) == 0
    assert "1 trial: 1 running" in capsys.readouterr().out


def test_a_folder_that_is_damaged_hides_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path / "runs", "muon"):
        pass
    (tmp_path / "runs/odd").mkdir()
    (tmp_path / "runs/odd/spec.json").write_text(json.dumps({"spec": 1}))
    assert len(watching.follow([tmp_path / "runs"], once=True)) == 1
    told = capsys.readouterr()
    assert "1 trial: 1 interrupted" in told.out and "runs/odd" in told.err


def test_no_runs_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["watch", str(tmp_path)]) == 2
    assert f"no run folder at or below {tmp_path}" in capsys.readouterr().err


def test_the_ladder_counts(tmp_path: Path) -> None:
    trials = [
        PlannedTrial(
            replace(SPEC, study=n),
            Options("w", "s"),
            tmp_path,
            tmp_path / str(n),
            Status.PLANNED,
            again=False,
            expected_s=60.0,
        )
        for n in range(3)
    ]
    ladder = Ladder()
    ladder.expect(trials, trials)
    assert ladder.text == "0 of 3 trials done, 3 to come, about 3m00s"
    ladder.begin(trials[0])
    assert ladder.text == "0 of 3 trials done, 1 running, 2 to come, about 2m00s"
    ladder.end(trials[0])
    ladder.begin(trials[1])
    assert ladder.text == "1 of 3 trials done, 1 running, 1 to come, about 1m00s"
    ladder.end(trials[1], finished=False)
    assert ladder.text == "1 of 3 trials done, 2 to come, about 2m00s", "one that was interrupted comes again"


def test_a_workload_is_shown_once_all_submissions_have_run_the_first_study(tmp_path: Path) -> None:
    def planned(workload: str, submission: str, study: int) -> PlannedTrial:
        spec = replace(SPEC, workload=workload, submission=submission, study=study)
        path = tmp_path / spec.folder
        return PlannedTrial(spec, Options("w", "s"), tmp_path, path, Status.PLANNED, again=False, expected_s=None)

    names = [(w, s, n) for n in (0, 1) for w in ("w1", "w2") for s in ("a", "b")]
    asked = [planned(*name) for name in names]
    ladder = Ladder()
    ladder.expect(asked[1:], asked)  # the first ran before
    shown = []
    for trial, name in zip(asked[1:], names[1:], strict=True):
        ladder.begin(trial)
        assert ladder.end(trial, finished=False) == [], "it comes again"
        ladder.begin(trial)
        shown += [(name, ladder.end(trial))]
    assert [(name, found) for name, found in shown if found] == [(names[1], asked[:2]), (names[3], asked[2:4])]


@pytest.mark.parametrize(
    ("values", "target", "bars"),
    [
        ([], 0.5, ""),
        ([1.0], 0.5, ""),
        ([2.0, 1.0], None, "█▁"),
        ([4.0, 2.0], 0.5, "█▄"),
        ([3.0, math.nan, 1.0], None, "█▁"),
        ([1.0, 1.0], None, "▁▁"),
        (list(map(float, range(100))), None, 30),
    ],
)
def test_bars_show_how_far_the_target_is(values: list[float], target: float | None, bars: str | int) -> None:
    shown = sparkline(values, target)
    assert len(shown) == bars if isinstance(bars, int) else shown == bars
