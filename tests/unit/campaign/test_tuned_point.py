"""Campaigns that tune: a search, the point it chooses, fresh seeds of it; stopped anywhere, gone on with, and told in
the scores. Small stand-ins take the places of workers and of the processes of a search: what they answer follows from
the point.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import stand_ins

from harness.campaign import plan, searches
from harness.campaign.config import compose
from harness.campaign.launch import jobs, local, submitting
from harness.cli import main as cli
from harness.errors import HarnessError
from harness.record import published, run_folder, search_record
from harness.record.result import Status
from harness.record.run_folder import Trial
from harness.record.search_record import SearchRecord
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
WORDS = ("rules=tuned", "trials=5", "studies=2", "workload=task", "device=cpu", "tensorboard=false")
RECORD = Path("runs/task/first/search.jsonl")


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
    monkeypatch.setattr(stand_ins.Sweeps, "asked", [])
    command = (sys.executable, str(tmp_path / "worker.py"))
    monkeypatch.setattr(local, "run_trial", functools.partial(local.run_trial, command=command))
    return tmp_path


def run(*words: str) -> int:
    return cli.main(["run", *WORDS, *words])


def read(out: str = "runs") -> list[Trial]:
    return [run_folder.read_trial(path) for path in run_folder.find_trials(Path(out))]


def recorded(file: Path = RECORD) -> SearchRecord:
    found = search_record.read(file)
    assert found is not None
    return found


def asked() -> list[tuple[float, int, int]]:
    """What the stand-in was asked for since the last look: learning rate, study, and how far."""
    found = [(float(one.hyperparameters["lr"]), one.study, one.until) for one in stand_ins.Sweeps.asked]
    stand_ins.Sweeps.asked.clear()
    return found


def files(out: str) -> dict[str, Any]:
    """What a campaign leaves that does not depend on when it was stopped."""
    specs = {str(p.relative_to(out)): json.loads(p.read_text())["spec"] for p in Path(out).rglob("spec.json")}
    plans = {str(p.relative_to(out)): json.loads(p.read_text()) for p in Path(out, "plans").iterdir()}
    found = {str(p.relative_to(out)): p.read_text() for p in Path(out).rglob("search.jsonl")}
    return specs | plans | found


def test_a_search_of_two_passes_chooses_and_fresh_seeds_count(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("first", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "search of 5 points  planned" in out
    assert "waits for the search to choose its point" in out
    # 5 points to 96, 3 to 192, 2 from there to 300 steps, and both on two more seeds: 2,184 steps of 0.1 s, and 8 s
    assert "1 search and 2 of 2 trials to run, about 5m02s" in out
    assert asked() == []
    assert run("first") == 0
    out = capsys.readouterr().out
    points = [point["lr"] for point in recorded().asked.points]
    near = sorted(points, key=lambda lr: abs(stand_ins.math.log10(lr / 0.1)))
    in_order = [lr for lr in points if lr in near[:2]]
    assert asked() == [
        *((lr, 0, 96) for lr in points),
        *((lr, 0, 192) for lr in points if lr in near[:3]),
        *((lr, study, 600) for lr in in_order for study in (0, 1, 2)),
    ], "all on one seed, halved, and the best two on two more"
    assert {t.spec.tuning for t in read()} == {False}, "no trial runs on a tuning seed"
    assert [(t.spec.study, t.spec.trial, t.spec.studies, t.spec.trials) for t in read()] == [(0, 0, 2, 1), (1, 0, 2, 1)]
    assert {t.spec.hyperparameters["lr"] for t in read()} == {near[0]}
    plans = json.loads(next(Path("runs/plans").glob("first-tuned-*[0-9a-f].json")).read_text())
    assert [point["lr"] for point in plans["studies"][0]] == points
    (choice,) = json.loads(next(Path("runs/plans").glob("*.choices.json")).read_text())["choices"]
    assert (choice["winner"], len(choice["compared"])) == (points.index(near[0]), 5)
    assert [one["status"] for one in choice["compared"]].count("ended at step 96") == 2
    assert out.count("tuning seed") >= 14, "a line for each run"
    assert "points, chosen on tuning seeds" in out
    found = score.score(read())
    assert [one.winner for one in found.choices] == [choice["winner"]]
    assert len(found.cells["first"]["task"]) == 2, "the fresh seeds are the studies"

    assert run("first") == 0
    assert "0 of 2 trials to run" in capsys.readouterr().out
    assert run("first", "studies=3") == 0
    assert "1 of 3 trials to run" in capsys.readouterr().out, "more seeds of the same point"
    assert asked() == [], "the search is not run again"
    assert score.score(read()).gaps == ()


def test_a_nonce_moves_the_scored_studies_alone(desk: Path) -> None:
    """Points and the search are those of every other nonce: they are run once, and entered before one is drawn."""
    run("first")
    record, runs = recorded(), asked()
    assert run("first", "seed=77") == 0
    assert recorded() == record
    assert (asked(), {one.seed for one in record.runs}, len(runs)) == ([], {0}, 14)
    assert sorted(t.spec.seed for t in read()) == [0, 0, 77, 77]


def test_with_two_points_nothing_is_halved_and_with_one_nothing_is_searched(desk: Path) -> None:
    assert run("first", "trials=2") == 0
    assert {until for _, _, until in asked()} == {600}
    assert len(read()) == 2
    assert run("second", "hp.lr=0.2") == 0
    assert asked() == []
    assert not Path("runs/task/second/search.jsonl").exists()
    assert {t.spec.hyperparameters["lr"] for t in read() if t.spec.submission == "second"} == {0.2}
    assert not any(choice.submission == "second" for choice in score.score(read()).choices)


def test_the_plan_is_recorded_before_the_first_run(desk: Path, monkeypatch) -> None:
    seen: list[bool] = []

    def stop(*_: Any, **__: Any) -> None:
        seen.append(bool(list(Path("runs/plans").glob("first-tuned-*.json"))))
        raise KeyboardInterrupt

    monkeypatch.setattr(searches, "run", stop)
    assert run("first") == 130
    assert seen == [True]


def test_stopped_in_the_middle_of_a_search_only_what_is_missing_is_run(desk: Path, monkeypatch) -> None:
    whole = run("first", "out=whole"), asked()
    answer = stand_ins.Sweeps.answer

    def stop(self: Any, request: Any) -> Any:
        if len(self.asked) == 10:
            raise KeyboardInterrupt
        return answer(self, request)

    monkeypatch.setattr(stand_ins.Sweeps, "answer", stop)
    assert run("first") == 130
    assert len(asked()) == 10
    assert sorted(run.steps[-1] for run in recorded().runs)[:2] == [96, 96], "nine came to an end and are kept"
    monkeypatch.setattr(stand_ins.Sweeps, "answer", answer)
    assert run("first") == whole[0]
    assert asked() == whole[1][9:]
    assert recorded() == recorded(Path("whole/task/first/search.jsonl"))
    assert files("runs") == files("whole"), "the same record, and the same choice"


def test_a_search_is_a_job_that_goes_on_and_its_trials_follow(
    desk: Path, signals: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In whatever folder it runs, whoever else is at the search."""
    whole, out = (run("first", "out=whole"), asked()), desk / "runs"
    engine = SimpleNamespace(check=lambda run: None, submit=lambda *_: "7", seen=lambda batches: {})
    monkeypatch.setitem(submitting.ENGINES, "background", engine)
    job = importlib.import_module("harness.campaign.launch.job")
    capsys.readouterr()
    assert run("first", "launcher=background") == 0
    assert "submitted 1 job (1 search and the trials that follow)" in capsys.readouterr().out
    (folder,) = jobs.folders(out)
    engine.seen = lambda batches: {(folder, 0): jobs.Seen("PENDING", True)}
    assert run("first", "launcher=background") == 0
    assert "nothing to submit" in capsys.readouterr().out
    assert asked() == [], "the job searches, and not the command"

    def done(code: int, state: str) -> None:
        assert job.run(folder / "jobs.json", 0) == code
        (standing,) = submitting.standings(out)
        assert (standing.state, standing.job.title) == (state, "task / first")

    engine.seen = lambda batches: {}
    (desk / "elsewhere").mkdir()
    monkeypatch.chdir(desk / "elsewhere")
    with searches.held(desk / RECORD):
        done(0, "failed")  # it is left to another, and nothing followed
    answer = stand_ins.Sweeps.answer

    def stop(self: Any, request: Any) -> Any:
        if len(self.asked) == 10:
            raise KeyboardInterrupt
        return answer(self, request)

    monkeypatch.setattr(stand_ins.Sweeps, "answer", stop)
    done(130, "failed")
    monkeypatch.setattr(stand_ins.Sweeps, "answer", answer)
    asked()
    done(0, "done")
    monkeypatch.chdir(desk)
    assert (whole[0], asked()) == (0, whole[1][9:]), "what was recorded is not run again"
    assert files("runs") == files("whole"), "the same record, the same choice, the same trials"
    assert len(read()) == 2 and {trial.status for trial in read()} == {Status.TARGET_REACHED}
    assert run("first", "launcher=background") == 0
    assert "nothing to submit" in capsys.readouterr().out


def test_killed_and_typed_again_it_ends_in_the_same(desk: Path) -> None:
    """kill -9 while the search or a fresh seed runs; it leaves what an uninterrupted campaign leaves."""
    assert run("slow", "out=whole") == 0
    command = [sys.executable, "driver.py", "run", *WORDS, "slow", "out=killed"]
    record = Path("killed/task/slow/search.jsonl")
    finished: dict[Path, int] = {}

    def runs() -> int:
        return len(record.read_text().splitlines()) - 1 if record.exists() else 0

    for enough in (
        lambda: runs() >= 2,
        lambda: runs() >= 6,
        lambda: any(Path("killed").glob("task/slow/*/log.jsonl")),
    ):
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(5000):  # looks, not seconds: the machine may be busy
            if enough():
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


def test_the_search_of_a_changed_submission_is_run_anew(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("first") == 0
    before, first = recorded(), asked()
    (desk / "submissions/first/submission.py").write_text("changed = True\n")
    assert run("first", "--dry-run") == 0
    assert "search of 5 points  planned" in capsys.readouterr().out
    assert run("first") == 0
    assert asked() == first
    assert {run.program for run in recorded().runs}.isdisjoint(run.program for run in before.runs)


def test_a_submission_that_cannot_be_searched_holds_up_none_of_the_others(desk: Path, monkeypatch, capsys) -> None:
    answer = stand_ins.Sweeps.answer

    def refuse(self: Any, request: Any) -> Any:
        if request.submission == "second":
            raise HarnessError("second: control needs whole trials")
        return answer(self, request)

    monkeypatch.setattr(stand_ins.Sweeps, "answer", refuse)
    assert run("first", "second") == 2
    captured = capsys.readouterr()
    assert "second: control needs whole trials" in captured.err
    assert "second on task: its search is not finished" in captured.err
    assert {t.spec.submission for t in read()} == {"first"}


def test_a_garbled_record_is_named_and_chooses_nothing(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("first")
    RECORD.write_text(RECORD.read_text() + "{")
    capsys.readouterr()
    assert run("first", "--dry-run") == 1
    assert f"{RECORD}: line 11 is damaged; remove the file to search anew" in capsys.readouterr().err
    RECORD.write_text("{}\n")
    assert run("first", "--dry-run") == 1
    assert "the line that says what was asked is missing" in capsys.readouterr().err


def test_two_processes_do_not_run_the_same_search(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RECORD.parent.mkdir(parents=True)
    with searches.held(RECORD):
        assert run("first") == 2
    assert "search.jsonl is held by another process; wait for it or stop it" in capsys.readouterr().err
    assert asked() == []


def test_a_smoke_test_has_a_search_of_its_own(desk: Path) -> None:
    assert run("first", "max_steps=120") == 0
    assert {until for _, _, until in asked()} == {96, 120}
    assert not RECORD.exists()
    assert recorded(RECORD.with_name("search-120.jsonl")).asked.budget_steps == 120
    assert score.score(read()).choices == ()


def test_a_plan_for_elsewhere_says_that_the_search_comes_first(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "first", *WORDS, "-o", "plan.json"]
    assert cli.main(words) == 0
    captured = capsys.readouterr()
    assert "1 searches come first" in captured.err
    assert "0 trials in plan.json" in captured.out
    run("first")
    capsys.readouterr()
    assert cli.main(words) == 0
    assert "2 trials in plan.json" in capsys.readouterr().out


def test_score_tells_when_the_search_is_not_that_of_the_fresh_seeds(desk: Path) -> None:
    run("first")
    trials = read()
    swapped = [replace(t, spec=replace(t.spec, hyperparameters={"lr": 0.7})) for t in trials]
    assert any("were run with another point than" in note for note in score.score(swapped).notes)
    other = [replace(t, spec=replace(t.spec, program="another")) for t in trials]
    found = score.score(other)
    assert found.choices == ()
    assert any("was of other programs than its fresh seeds" in note for note in found.notes)
    short = [replace(t, search=replace(t.search, runs=t.search.runs[:4])) for t in trials if t.search]
    found = score.score(short)
    assert found.choices == ()
    assert any("the search for the point of first on task is not finished" in note for note in found.notes)


def test_published_records_hold_the_search(desk: Path) -> None:
    run("first")
    file = desk / "pack.jsonl"
    published.write(file, read(), "mine")
    assert score.score(published.read(file)).choices == score.score(read()).choices != ()
    assert file.read_text().count('{"search":') == 1
    older = "".join(line for line in file.read_text().splitlines(keepends=True) if not line.startswith('{"search":'))
    file.write_text(older)
    assert [trial.search for trial in published.read(file)] == [None, None]
    assert score.score(published.read(file)).choices == ()


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
