"""`harness run` and `harness score` as typed, in real processes: from a dropped-in folder to a scored table."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.campaign.tuned_point import choose
from harness.record import run_folder, search_record
from harness.record.result import Status

ROOT = Path(__file__).resolve().parent.parent.parent
HARNESS = [sys.executable, "-m", "harness.cli"]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder of the user's own, with one submission in ./submissions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    add_submission(tmp_path, "mine", ROOT / "tests/algorithms/polyak")
    return tmp_path


def add_submission(desk: Path, name: str, source: Path) -> None:
    folder = desk / "submissions" / name
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
    text = (folder / "submission.yaml").read_text()
    (folder / "submission.yaml").write_text(text.replace(f"name: {source.name}", f"name: {name}"))


def harness(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HARNESS, *words], capture_output=True, text=True, check=False, timeout=600)


def test_from_a_folder_to_a_table(desk):
    faults = [str(ROOT / "tests/faults" / name) for name in ("syntax_error", "returns_nan")]
    words = ("run", "mine", *faults, "workload=quadratic", "rules.budget_factor=1000")
    first = harness(*words)
    assert first.returncode == 1, first.stderr
    assert "2 of 2 trials to run" in first.stdout, "the one that is no program has none"
    assert "target_reached" in first.stdout
    assert "diverged" in first.stdout
    assert "submission.py:4: SyntaxError" in first.stderr
    assert not (desk / "runs/quadratic/syntax_error").exists()
    assert "\x1b" not in first.stdout, "no control characters where stdout is no terminal"
    (mine,) = (desk / "runs/quadratic/mine").iterdir()
    assert {"spec.json", "log.jsonl", "result.json", "worker.log", "tensorboard"} <= {p.name for p in mine.iterdir()}

    finished = (mine / "result.json").stat().st_mtime_ns
    again = harness(*words)
    assert "0 of 2 trials to run" in again.stdout
    assert again.returncode == 1, "the broken one still counts"
    assert "submission.py:4: SyntaxError" in again.stderr
    assert "not run: " in again.stderr.splitlines()[-1], "the end of the output tells what has no row in the table"
    assert (mine / "result.json").stat().st_mtime_ns == finished

    add_submission(desk, "newcomer", ROOT / "tests/algorithms/sam")
    new = harness("run", "mine", "newcomer", "workload=quadratic", "rules.budget_factor=1000")
    assert new.returncode == 0, new.stderr
    assert "1 of 2 trials to run" in new.stdout

    scored = json.loads(harness("score", "--json").stdout)
    times = {name: row["quadratic"] for name, row in scored["time_to_target"].items()}
    assert times["mine"] > 0
    assert times["newcomer"] > 0
    assert times["returns_nan"] is None
    result = run_folder.read_trial(mine).result
    assert times["mine"] == result.time_to_target.calibrated
    assert "GLIBC_TUNABLES" in result.fingerprint["flags"], "a worker keeps the memory that its steps free"


def test_missing_data_are_told_before_anything_starts(desk, monkeypatch):
    monkeypatch.setenv("HARNESS_DATA", str(desk / "nothing"))
    done = harness("run", "mine", "suite=cpu", "stop=horizon")
    assert done.returncode == 3
    assert "get them with: harness data get cifar10 tinyshakespeare" in done.stderr
    assert not (desk / "runs").exists()
    planned = harness("run", "mine", "suite=cpu", "stop=horizon", "--dry-run")
    assert planned.returncode == 0, "a plan needs no data"
    assert "note: data sets that the trials need are missing" in planned.stderr


def test_a_held_out_variant_runs_to_its_end_and_is_not_scored(desk):
    done = harness("run", "adamw", "workload=resnet_digits", "variant=norm", "max_steps=32", "checkpoint_s=1000")
    assert done.returncode == 0, done.stderr
    (folder,) = (desk / "runs/resnet_digits+norm/adamw").iterdir()
    trial = run_folder.read_trial(folder)
    assert (trial.status, trial.spec.variant, trial.spec.target) == (Status.HORIZON_REACHED, "norm", None)
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("resnet_digits  norm"))
    assert row[2:6] == ["adamw", "horizon_reached", "32", "loss"]
    assert float(row[6]) == pytest.approx(trial.result.validation["loss"], rel=1e-3), "there was no measurement yet"
    assert trial.result.state_bytes["model_state"] == 0, "GroupNorm has no running statistics"
    wrong = harness("run", "adamw", "workload=quadratic", "variant=norm")
    assert wrong.returncode == 2
    assert "quadratic has no variant 'norm'" in wrong.stderr


VARIED = """
import dataclasses
from harness.program.workload import held_out
_data = data
INFO = dataclasses.replace(INFO, variants=("wide", "batch"), target=dataclasses.replace(INFO.target, spread=0.001))
def data(variant=None): return dataclasses.replace(_data(), info=held_out(INFO, variant))
def load(variant=None):
    from .model import make
    return make(data(variant))
"""
"""Appended to a toy: variants of its own, and a spread. `wide` changes nothing."""


def test_variants_are_compared_with_the_workload_itself_and_adamw(desk):
    folder = desk / "workloads" / "toy"
    shutil.copytree(ROOT / "workloads/quadratic", folder, ignore=shutil.ignore_patterns("__pycache__"))
    text = (folder / "workload.py").read_text().replace('name="quadratic"', 'name="toy"')
    (folder / "workload.py").write_text(text + VARIED)
    words = ("run", "nadamw", "workload=toy", "variant=all", "tensorboard=false", "device=cpu")
    done = harness(*words)
    assert done.returncode == 0, done.stderr
    assert "adamw is added, at its defaults" in done.stdout
    assert {p.name for p in (desk / "runs").iterdir()} >= {"toy+unchanged", "toy+wide", "toy+batch"}
    assert not (desk / "runs/toy").exists()
    found = json.loads(harness("score", "--variants", "--json").stdout)["workloads"]["toy"]
    assert (found["steps"], found["spread"]) == (200, 0.001)
    last: dict[tuple[str, str], float] = {}
    for path in run_folder.find_trials(desk / "runs"):
        trial = run_folder.read_trial(path)
        assert (trial.status, trial.result.steps, trial.measurements[-1].step) == (Status.HORIZON_REACHED, 200, 200)
        last[trial.spec.submission, trial.spec.variant] = trial.measurements[-1].metrics["loss"]
    gaps = {v: (last["adamw", v] - last["nadamw", v]) / 0.001 for v in ("unchanged", "wide", "batch")}
    assert gaps["wide"] == gaps["unchanged"], "what is the same runs the same"
    cells = found["finals"]["nadamw"]
    assert {variant: cell["value"] for variant, cell in cells.items()} == {v: last["nadamw", v] for v in gaps}
    assert {variant: cell["gap"] for variant, cell in cells.items()} == pytest.approx(gaps)
    assert cells["batch"]["move"] == pytest.approx(gaps["batch"] - gaps["unchanged"])

    again = harness(*words)
    assert "0 of 6 trials to run" in again.stdout
    row = next(line.split() for line in again.stdout.splitlines() if line.startswith("toy  ") and "+0.0" in line)
    assert row[:3] == ["toy", "nadamw", "+0.0"]
    scores = harness("score").stdout
    assert scores.startswith("\nnote: left out: 6 trials on held-out variants"), "nothing there is scored"


def test_a_killed_run_takes_its_worker_along_and_goes_on(desk):
    words = ("run", "adamw", "workload=lm_grammar", "stop=horizon", "max_steps=96", "checkpoint_s=0.1")
    run = subprocess.Popen([*HARNESS, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300

    def folder() -> Path | None:
        return next(iter((desk / "runs").glob("*/*/study*")), None)

    while not (folder() and any(e["event"] == "checkpoint" for e in run_folder.read_events(folder()))):
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (worker,) = {e["pid"] for e in run_folder.read_events(folder()) if e["event"] == "start"}
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run_folder.read_trial(folder()).status == Status.INTERRUPTED

    assert harness(*words).returncode == 0
    trial = run_folder.read_trial(folder())
    assert (trial.status, trial.result.steps, trial.result.attempts) == (Status.HORIZON_REACHED, 96, 2)


def test_a_tuned_campaign_goes_on_after_kill_9(desk):
    words = ("run", "adamw", "workload=quadratic", "rules=tuned", "trials=3", "studies=1")
    words += ("rules.budget_factor=20", "tensorboard=false", "device=cpu")
    run = subprocess.Popen([*HARNESS, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file = desk / "runs/quadratic/adamw/search.jsonl"
    while not file.exists():
        assert run.poll() is None
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    before = search_record.read(file).runs
    assert 1 <= len(before) < 8
    (plans,) = (desk / "runs/plans").iterdir()
    points = plans.read_bytes()
    done = harness(*words)
    assert done.returncode == 0, done.stderr
    assert plans.read_bytes() == points, "the same points"
    record = search_record.read(file)
    for old in before:
        (new,) = (run for run in record.runs if (run.study, run.point) == (old.study, old.point))
        assert new == old or len(new.steps) > len(old.steps), "nothing is run twice as far as it is recorded"
    (trial,) = [run_folder.read_trial(path) for path in run_folder.find_trials(desk / "runs")]
    choice = choose(record)
    assert [len(one.costs) for one in choice.compared].count(3) == 2, "two points on three tuning seeds"
    assert trial.spec.hyperparameters == choice.point
    assert not trial.spec.tuning
    assert [dict(point) for point in record.asked.points] == json.loads(points)["studies"][0]
    assert choice.text in done.stdout
    assert choice.text not in harness(*words).stdout, "all is there: no search is run, and no trial"
    scored = json.loads(harness("score", "--json").stdout)
    assert scored["tuning"][0]["winner"] == choice.winner


def test_the_ledger_sums_to_wall_time(make_trial):
    path = make_trial("quadratic", "adamw")
    started, unix = time.monotonic(), time.time()
    command = [sys.executable, "-m", "harness.trial.worker", str(path), "--started", repr(started)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    wall_s = (path / "result.json").stat().st_mtime - unix
    result = run_folder.read_trial(path).result
    assert sum(r.wall_s for r in result.ledger.values()) == pytest.approx(wall_s, rel=0.01)


def test_a_trial_without_a_sign_of_life_is_hung(desk):
    done = harness(
        "run", str(ROOT / "tests/faults/hangs"), "workload=quadratic", "hang_s=20", "rules.budget_factor=1000"
    )
    assert done.returncode == 1
    (folder,) = (desk / "runs/quadratic/hangs").iterdir()
    trial = run_folder.read_trial(folder)
    assert trial.status == trial.result.status == Status.HUNG
    assert "20 s" in trial.reason
    assert 100 < trial.result.steps < 150, "it had trained for a while"


def test_a_worker_that_a_signal_ends_is_a_crash(desk):
    words = ("run", str(ROOT / "tests/faults/hangs"), "workload=quadratic", "rules.budget_factor=1000")
    run = subprocess.Popen([*HARNESS, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 300
    events = []
    while not any(e["event"] == "chunk" and e["step"] > 100 for e in events):
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
        events = [e for path in (desk / "runs").glob("*/*/study*") for e in run_folder.read_events(path)]
    (worker,) = {e["pid"] for e in events if e["event"] == "start"}
    os.kill(worker, signal.SIGSEGV)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 1, said
    (folder,) = (desk / "runs/quadratic/hangs").iterdir()
    trial = run_folder.read_trial(folder)
    assert trial.status == trial.result.status == Status.CRASHED
    assert trial.reason.startswith("SIGSEGV: ")
    assert 100 < trial.result.steps < 150
    assert "SIGSEGV" in said
