"""Campaigns that tune: tuning trials, the point they choose, fresh seeds of it; stopped anywhere, gone on with, and
told in the scores. A small script stands in the worker's place: its time to the target follows from its point.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stand_ins

from harness.campaign import plan
from harness.campaign.config import compose
from harness.campaign.launch import local
from harness.campaign.tuned_point import choose
from harness.cli import main as cli
from harness.record import run_folder
from harness.record.result import Result, Status
from harness.record.run_folder import Trial
from harness.record.spec import TrialSpec
from harness.scoring import outcomes, score

ROOT = Path(__file__).resolve().parents[3]
WORKLOAD = """
from harness.api import LossKind
from harness.program.workload import Target, WorkloadInfo
INFO = WorkloadInfo(
    name="task", description="fake", metric="loss", mode="min", target=Target(0.5, 1, 300, 0.1), batch_size=8,
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
space: {{lr: {{min: 0.001, max: 1.0, scaling: log}}}}
"""
# The nearer lr is to 0.1, the sooner it is at the target; over 20 s it misses. `slow` waits, to be killed meanwhile.
WORKER = """
import math, sys, time
from pathlib import Path
from harness.record import run_folder
from harness.record.result import Result, Status
from harness.trial.worker import end_with_parent
end_with_parent()
path = Path(sys.argv[1])
spec, options = run_folder.read_spec(path)
seconds = 10.0 * abs(math.log10(spec.hyperparameters["lr"] / 0.1)) + 1.0 + spec.study / 10
hopeless = options.hopeless_s is not None and seconds > options.hopeless_s
met = seconds <= 20.0 and not hopeless
clocks = {"wall": seconds, "cpu": seconds, "calibrated": seconds, "energy": None}
with run_folder.hold(path) as folder:
    folder.append("attempt", attempt=1, resume_step=0)
    time.sleep(0.2 if spec.submission == "slow" else 0.0)
    folder.append("measurement", step=100, examples=800, metrics={"loss": 0.4 if met else 0.6}, scored=clocks, met=met)
    status = Status.TARGET_REACHED if met else Status.HOPELESS if hopeless else Status.BUDGET_EXHAUSTED
    folder.write_result(Result(status, "", spec.id, best=0.4 if met else 0.6, wall_s=1.0))
"""
DRIVER = """
import functools, sys
import stand_ins
stand_ins.install()
from harness.cli import main as cli
from harness.campaign.launch import local
local.run_trial = functools.partial(local.run_trial, command=(sys.executable, "worker.py"))
sys.exit(cli.main(sys.argv[1:]))
"""
WORDS = ("rules=tuned", "trials=3", "studies=2", "workload=task", "device=cpu", "tensorboard=false")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch, no_exports) -> Path:
    """A working folder with a workload, three submissions, and a script in the worker's place."""
    (tmp_path / "workloads" / "task").mkdir(parents=True)
    (tmp_path / "workloads" / "task" / "workload.py").write_text(WORKLOAD)
    for name in ("first", "second", "slow"):
        (tmp_path / "submissions" / name).mkdir(parents=True)
        (tmp_path / "submissions" / name / "submission.py").write_text("")
        (tmp_path / "submissions" / name / "submission.yaml").write_text(SUBMISSION.format(name))
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "driver.py").write_text(DRIVER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{Path(stand_ins.__file__).parent}")
    command = (sys.executable, str(tmp_path / "worker.py"))
    monkeypatch.setattr(local, "run_trial", functools.partial(local.run_trial, command=command))
    return tmp_path


def run(*words: str) -> int:
    return cli.main(["run", *WORDS, *words])


def read(out: str = "runs") -> list[Trial]:
    return [run_folder.read_trial(path) for path in run_folder.find_trials(Path(out))]


def files(out: str) -> dict[str, Any]:
    """What a campaign leaves that does not depend on when it was stopped."""
    specs = {str(p.relative_to(out)): json.loads(p.read_text())["spec"] for p in Path(out).rglob("spec.json")}
    plans = {str(p.relative_to(out)): json.loads(p.read_text()) for p in Path(out, "plans").iterdir()}
    return specs | plans


def test_tuning_trials_choose_and_fresh_seeds_count(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("first", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "5 of 5 trials to run" in out
    assert "waits for the tuning trials to choose its point" in out
    assert run("first") == 0
    out = capsys.readouterr().out
    tuning = sorted((t for t in read() if t.spec.tuning), key=lambda t: t.spec.trial)
    fresh = sorted((t for t in read() if not t.spec.tuning), key=lambda t: t.spec.study)
    assert [(t.spec.study, t.spec.trial, t.spec.studies, t.spec.trials) for t in tuning] == [
        (0, i, 1, 3) for i in range(3)
    ]
    assert [(t.spec.study, t.spec.trial, t.spec.studies, t.spec.trials) for t in fresh] == [
        (i, 0, 2, 1) for i in range(2)
    ]
    recorded = json.loads(next(Path("runs/plans").glob("first-tuned-*[0-9a-f].json")).read_text())
    assert [t.spec.hyperparameters for t in tuning] == recorded["studies"][0]
    best = min(tuning, key=lambda t: outcomes.outcome(t).time("calibrated"))
    assert all(t.spec.hyperparameters == best.spec.hyperparameters for t in fresh)
    (choice,) = json.loads(next(Path("runs/plans").glob("*.choices.json")).read_text())["choices"]
    assert (choice["winner"], len(choice["compared"])) == (best.spec.trial, 3)
    assert (
        choice["why"]
        == f"reached the target first, in {outcomes.outcome(best).time('calibrated'):.4g} on the calibrated clock"
    )
    found = score.score(read())
    assert [one.winner for one in found.choices] == [best.spec.trial]
    assert len(found.cells["first"]["task"]) == 2, "the fresh seeds are the studies"
    assert "points, chosen on tuning seeds" in out
    assert "left out: 3 trials run on tuning seeds" in out

    assert run("first") == 0
    assert "0 of 5 trials to run" in capsys.readouterr().out
    assert run("first", "studies=3") == 0
    assert "1 of 6 trials to run" in capsys.readouterr().out, "more seeds of the same point"
    assert score.score(read()).gaps == ()


def test_a_nonce_moves_the_scored_studies_alone(desk: Path) -> None:
    """Points and tuning trials are those of every other nonce: they are run once, and entered before one is drawn."""
    run("first")
    tuned = [t.spec for t in read() if t.spec.tuning]
    run("first", "seed=77")
    trials = [t.spec for t in read()]
    assert [spec for spec in trials if spec.tuning] == tuned
    assert {spec.seed for spec in tuned} == {0}
    assert sorted(spec.seed for spec in trials if not spec.tuning) == [0, 0, 77, 77]


def test_tuning_seeds_are_never_scored_ones(desk: Path) -> None:
    """What streams are drawn from differs (tests/unit/test_seeds.py has the keys), and no tuning trial is scored."""
    run("first")
    tuning, fresh = ([t for t in read() if t.spec.tuning == which] for which in (True, False))
    assert (len(tuning), len(fresh)) == (3, 2)
    cells = score.score(read()).cells["first"]["task"]
    assert {one.where for one in cells.values()} == {str(t.path) for t in fresh}
    assert score.score(tuning).cells == {}


def test_the_plan_is_recorded_before_the_first_trial(desk: Path, monkeypatch) -> None:
    seen: list[bool] = []

    def stop(*_: Any, **__: Any) -> None:
        seen.append(bool(list(Path("runs/plans").glob("first-tuned-*.json"))))
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "run_trial", stop)
    assert run("first") == 130
    assert seen == [True]


def test_killed_and_typed_again_it_ends_in_the_same(desk: Path) -> None:
    """kill -9 while a tuning trial or a fresh one runs; it leaves what an uninterrupted campaign leaves."""
    assert run("slow", "out=whole") == 0
    command = [sys.executable, "driver.py", "run", *WORDS, "slow", "out=killed"]
    finished: dict[Path, int] = {}
    for number in (1, 3, 4):
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(5000):  # looks, not seconds: the machine may be busy
            if len(list(Path("killed").glob("task/slow/*/log.jsonl"))) >= number:
                break
            assert running.poll() is None
            time.sleep(0.02)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        for path, when in finished.items():
            assert path.stat().st_mtime_ns == when, "a finished trial is not run again"
        finished = {path: path.stat().st_mtime_ns for path in Path("killed").glob("task/slow/*/result.json")}
    time.sleep(0.5)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert files("killed") == files("whole")
    assert {t.status for t in read("killed")} <= {Status.TARGET_REACHED, Status.HOPELESS, Status.BUDGET_EXHAUSTED}


def test_a_tuning_trial_that_crashed_does_not_hold_up_the_others(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (desk / "worker.py").read_text()
    broken = text.replace(
        "with run_folder.hold", "if spec.tuning and spec.trial == 1:\n    sys.exit('broke')\nwith run_folder.hold"
    )
    (desk / "worker.py").write_text(broken)
    assert run("first") == 1, "a trial failed"
    assert len(read()) == 5
    assert run("first", "retry=true") == 1, "it fails again, and the fresh seeds that are there stay"
    (desk / "worker.py").write_text(text)
    assert run("first", "retry=true") == 0
    assert {t.status for t in read()} <= {Status.TARGET_REACHED, Status.HOPELESS, Status.BUDGET_EXHAUSTED}


def test_a_garbled_tuning_result_is_named_and_chooses_nothing(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("first")
    damaged = next(Path("runs/task/first").glob("tuning0-trial1-*")) / "result.json"
    damaged.write_text("{")
    capsys.readouterr()
    assert run("first", "--dry-run") == 1
    assert capsys.readouterr().err.count(f"{damaged} cannot be read") == 1
    assert run("first") == 1
    err = capsys.readouterr().err
    assert "first on task: its tuning trials are not finished" in err


def test_score_tells_when_the_fresh_seeds_had_another_point(desk: Path) -> None:
    run("first")
    trials = read()
    swapped = [
        replace(t, spec=replace(t.spec, hyperparameters={"lr": 0.7})) if not t.spec.tuning else t for t in trials
    ]
    assert any("were run with another point than" in note for note in score.score(swapped).notes)
    without = [t for t in trials if not (t.spec.tuning and t.spec.trial == 0)]
    found = score.score(without)
    assert (found.choices, [n for n in found.notes if "tuning trials of" in n]) == (
        (), ["2 of 3 tuning trials of first on task are here and finished"],
    )  # fmt: skip


# ---- the choice


def tried(path: Path, number: int, time: float | None, best: float | None, mode: str = "min", **more: Any) -> Trial:
    spec = TrialSpec(
        schema=1, workload="w", workload_version=1, workload_hash="a", metric="loss", mode=mode, target=0.5,
        step_hint=600, batch_size=32, budget_steps=1000, reference_step_s=0.01, submission="s", submission_hash="s1",
        hyperparameters={"lr": number / 10}, rules="tuned", stop="target", clock="calibrated", score_compile=False,
        compile_cap_s=60.0, free_batch_size=True, study=0, trial=number, seed=0, tuning=True, device="cpu",
        deterministic=True,
    )  # fmt: skip
    status = more.get("status", Status.BUDGET_EXHAUSTED if time is None else Status.TARGET_REACHED)
    clocks = {"wall": 1.0, "cpu": 1.0, "calibrated": time, "energy": None}
    event = {
        "event": "measurement", "step": 9, "examples": 9, "metrics": {"loss": 0.5}, "scored": clocks, "met": True
    }  # fmt: skip
    return Trial(path, spec, status, "", [] if time is None else [event], Result(status, "", spec.id, best=best))


@pytest.mark.parametrize(
    ("mode", "given", "winner", "why"),
    [
        ("min", [(9.0, 0.1), (8.0, 0.4), (None, 0.01)], 1, "reached the target first, in 8 on the calibrated clock"),
        ("min", [(8.0, 0.4), (8.0, 0.1)], 0, "reached the target first, in 8 on the calibrated clock"),
        ("min", [(None, None), (None, 0.7), (None, 0.6)], 2, "none reached the target; best loss 0.6"),
        ("max", [(None, None), (None, 0.7), (None, 0.6)], 1, "none reached the target; best loss 0.7"),
        ("min", [(None, None), (None, None)], 0, "none reached the target or was measured; the first"),
    ],
)
def test_the_winner_by_hand(tmp_path: Path, mode: str, given: list[Any], winner: int, why: str) -> None:
    choice = choose([tried(tmp_path, i, *one, mode) for i, one in enumerate(given)])
    assert (choice.winner, choice.why, choice.point) == (winner, why, {"lr": winner / 10})
    assert [c.time for c in choice.compared] == [time for time, _ in given]


def test_a_failed_trial_wins_nothing(tmp_path: Path) -> None:
    crashed = tried(tmp_path, 0, 1.0, 0.1, status=Status.CRASHED)
    assert choose([crashed, tried(tmp_path, 1, None, 0.9)]).winner == 1


# ---- hopeless trials


def test_a_trial_is_told_the_time_of_its_rivals(desk: Path) -> None:
    """Of the same study, workload and submission; and it ends by it only where it is slower."""
    assert cli.main(["run", "first", *WORDS, "rules=external", "trials=4", "studies=2"]) == 0
    for study in (0, 1):
        trials = sorted((t for t in read() if t.spec.study == study), key=lambda t: t.spec.trial)
        best = None
        for trial in trials:
            _, options = run_folder.read_spec(trial.path)
            assert options.hopeless_s == best, "known from those that ran before it"
            now = outcomes.outcome(trial).time("calibrated") if trial.status == Status.TARGET_REACHED else None
            assert (trial.status == Status.HOPELESS) == (best is not None and now is None)
            best = min((t for t in (best, now) if t is not None), default=None)
    with_stop = score.score(read()).times["calibrated"]
    assert any("ended early, slower than another of the study" in note for note in score.score(read()).notes)
    assert any("might have been faster" in note for note in score.score(read(), clock="wall").notes)
    words = [
        "run",
        "first",
        *WORDS,
        "rules=external",
        "trials=4",
        "studies=2",
        "rules.stop_hopeless=false",
        "out=whole",
    ]
    assert cli.main(words) == 0
    assert not any(t.status == Status.HOPELESS for t in read("whole"))
    assert score.score(read("whole")).times["calibrated"] == with_stop, "no score changes"


def test_hopeless_without_its_rival_is_unfinished(desk: Path) -> None:
    words = ["rules=external", "trials=4", "studies=1"]
    assert cli.main(["run", "first", *WORDS, *words]) == 0
    (reached,) = [t for t in read() if t.status == Status.TARGET_REACHED][-1:]
    others = [t for t in read() if t.status != Status.TARGET_REACHED]
    assert any(t.status == Status.HOPELESS for t in others)
    (gap,) = score.score(others).gaps
    assert gap.trials == 4 - sum(t.status == Status.BUDGET_EXHAUSTED for t in others)
    for trial in read():
        if trial.status == Status.TARGET_REACHED:
            (trial.path / "result.json").unlink()
            (trial.path / "log.jsonl").unlink()
    made = plan.make_plan(compose([*WORDS, *words]), ["first"])
    assert {t.status for t in made.runnable} == {Status.PLANNED, Status.HOPELESS}
    assert all(t.again for t in made.runnable if t.status == Status.HOPELESS)
    assert reached.path in [t.path for t in made.runnable]


# ---- studies and trials that are to be there


def test_what_was_never_started_is_missing(desk: Path) -> None:
    assert run("first", "studies=4") == 0
    last = [t for t in read() if not (t.spec.study == 3 and not t.spec.tuning)]
    (gap,) = score.score(last).gaps
    assert (gap.studies, gap.trials, gap.studies_expected) == ((3,), 1, 4)
    old = [replace(t, spec=replace(t.spec, studies=None, trials=None)) for t in last]
    assert score.score(old).gaps == (), "older records do not say how many there are to be"
