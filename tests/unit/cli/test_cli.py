"""The command line: its frozen surface, its exit codes, and what is shown while a trial runs."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stand_ins
from fake_place import WORKER, add

import harness
from harness.campaign import config
from harness.campaign import run as campaign
from harness.campaign.launch import local
from harness.cli import main as cli
from harness.errors import DataError
from harness.program import discovery
from harness.record import run_folder, tensorboard
from harness.record.result import Status
from harness.record.run_folder import Trial
from harness.record.spec import SCHEMA, TrialSpec
from harness.report import live, progress

PRESSED = """
import sys


class Pressed:
    def find_spec(self, name, *_):
        if name == "harness.errors":
            raise KeyboardInterrupt


sys.meta_path.insert(0, Pressed())
from harness.cli.__main__ import main

sys.exit(main())
"""


def test_ctrl_c_before_the_command_line_is_imported_is_no_traceback():
    done = subprocess.run([sys.executable, "-c", PRESSED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted; type the same again\n")


# Changing these is changing what people type: say so in CHANGELOG.md.
SURFACE = {
    "plan": ["--cost", "--help", "--json", "--output", "--price", "-h", "-o"],
    "run": ["--collect", "--dry-run", "--follow", "--help", "--json", "-h"],
    "list": ["--help", "--json", "-h"],
    "show": ["--help", "--json", "-h"],
    "new": ["--full", "--help", "--json", "--optax", "-h"],
    "check": ["--debug", "--help", "--json", "--workload", "-h"],
    "data": ["--all", "--help", "--json", "--mirror", "--shards", "-h"],
    "score": [
        "--algoperf-compat",
        "--allow-missing",
        "--at",
        "--baseline",
        "--clock",
        "--csv",
        "--format",
        "--help",
        "--json",
        "--pairs",
        "--rules",
        "--self-tuning",
        "--targets",
        "--variants",
        "-h",
    ],
    "compare": ["--help", "--json", "--rules", "-h"],
    "calibrate": ["--dry-run", "--help", "--json", "--points", "-h"],
    "sensitivity": ["--centre", "--dry-run", "--help", "--json", "--over", "--reach", "-h"],
    "anneal": ["--fit", "--help", "--json", "--predict", "--train", "-h"],
    "ladder": ["--baseline", "--dry-run", "--help", "--json", "--ratios", "--seeds", "--widths", "-h"],
    "curvature": ["--batches", "--help", "--json", "--only", "--products", "-h"],
    "watch": ["--help", "--json", "--once", "-h"],
    "status": ["--follow", "--help", "--json", "-h"],
    "verify": ["--help", "--json", "--only", "--rerun", "--verbose", "-h", "-v"],
    "publish": ["--help", "--json", "--output", "--with-states", "-h", "-o"],
    "merge": ["--help", "--json", "--output", "-h", "-o"],
    "report": [
        "--algoperf-compat",
        "--allow-missing",
        "--figures",
        "--format",
        "--help",
        "--json",
        "--markdown",
        "--out",
        "--rules",
        "--self-tuning",
        "--targets",
        "--title",
        "--together",
        "-h",
        "-o",
    ],
    "doctor": ["--calibrate", "--help", "--json", "-h"],
}


def test_the_surface_is_frozen():
    found = {
        name: sorted(
            flag
            for action in importlib.import_module(f"harness.cli.{module}").parser()._actions
            for flag in action.option_strings
        )
        for name, module in cli.COMMANDS.items()
    }
    assert found == SURFACE


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["run", "--help"],
        ["score", "--help"],
        ["report", "--help"],
        ["data", "--help"],
        ["doctor", "--help"],
        ["check", "-h"],
        ["new", "-h"],
        ["rn"],
    ],
)
def test_help_imports_nothing_heavy(words):
    code = f"""
import sys
from harness.cli import main as cli
try:
    cli.main({words!r})
except SystemExit as done:
    assert done.code == 0
heavy = [name for name in ("jax", "numpy", "hydra", "omegaconf", "rich", "yaml", "optax") if name in sys.modules]
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_planning_a_run_imports_no_jax(place):
    code = """
import sys
import stand_ins
stand_ins.install()
from harness.cli import main as cli
assert cli.main(["run", "--dry-run", "suite=mine", "device=cpu"]) == 0
assert "jax" not in sys.modules
"""
    env = os.environ | {"PYTHONPATH": str(Path(stand_ins.__file__).parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=place, env=env)
    assert done.returncode == 0, done.stderr


def test_help_teaches_by_example(capsys):
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    assert "harness run adamw nadamw" in out
    assert all(f"\n  {name} " in out for name in cli.COMMANDS)
    with pytest.raises(SystemExit):
        cli.main(["run", "-h"])
    assert "examples:\n  harness run adamw nadamw" in capsys.readouterr().out


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"harness {harness.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnu"], "error: unknown command 'rnu'; did you mean 'run'?"),
        (["--dry-run"], "error: unknown option '--dry-run'"),
        (["run", "--dryrun"], "error: harness run: unknown argument '--dryrun'; did you mean '--dry-run'?"),
        (["run", "--dry"], "error: harness run: unknown argument '--dry'; did you mean '--dry-run'?"),
        (["show"], "error: harness show: the following arguments are required: NAME; see harness show --help"),
        (["list", "x"], "error: harness list: unknown argument 'x'"),
        (["run", "sed=1"], "error: unknown key 'sed'; did you mean 'seed'?"),
        (["run", "suite=demmo"], "error: unknown suite 'demmo'; did you mean 'demo'?"),
        (["run", "adamv"], "error: unknown submission 'adamv'; did you mean 'adamw'?"),
        (["doctor", "task"], "error: 'task': expected key=value"),
        (["score", "nowhere"], "error: no run folder at or below nowhere"),
        (["score", "--variants", "--allow-missing"], "error: harness score: --allow-missing goes with scores"),
        (["score", "--variants", "--format", "algoperf"], "error: harness score: --variants is for run folders"),
    ],
)
def test_slips_are_one_line_and_exit_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["new", "f/foo"], 2, "error: f/foo: Not a directory; a file is in the way of a folder: choose another place"),
        (
            ["run", "adamw", "workload=quadratic", "device=cpu", "out=f"],
            2,
            "(Not a directory); choose another place with out=",
        ),
        (["score", "f/runs"], 2, "error: "),
        (["score", "runs", "--csv", "/dev/full"], 2, "No space left on device; choose another file"),
        (["score", "runs", "--csv", "f/x.csv"], 2, "f/x.csv: [Errno 20] Not a directory"),
        (
            ["plan", "adamw", "workload=quadratic", "device=cpu", "-o", "f/x.json"],
            2,
            "f/x.json cannot be written: Not a directory",
        ),
        (
            ["plan", "adamw", "workload=quadratic", "device=cpu", "-o", "runs"],
            2,
            "runs cannot be written: Is a directory",
        ),
    ],
)
def test_what_the_system_refuses_is_told_with_its_place(words, code, message, capsys, place, no_exports):
    (place / "f").write_text("a file")
    assert run("good") == 0
    capsys.readouterr()
    assert cli.main(words) == code
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("number", "code", "mend"),
    [
        (errno.EROFS, 2, "choose another place, or make it one that can be written"),
        (errno.EACCES, 2, "choose another place, or make it one that can be written"),
        (errno.ENOSPC, 1, "free some space there, then type the same again to go on"),
        (errno.EIO, 1, "the disk fails: look at the system's log, then type the same again to go on"),
        (errno.ENODEV, 1, "mend it, then type the same again to go on"),
    ],
)
def test_whatever_the_system_refuses_is_one_line(place, monkeypatch, capsys, number, code, mend):
    def refused(path, *_, **__):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", refused)
    assert cli.main(["new", "mine"]) == code
    assert capsys.readouterr().err == f"error: submissions/mine: {os.strerror(number)}; {mend}\n"


def test_a_word_with_a_slash_before_the_equals_sign_is_a_path():
    words = [
        "adamw",
        "/tmp/lr=0.1/mine",
        "./a=1",
        "seed=1",
        "out=/tmp/lr=0.1",
        "hp.kind=a/b",
        "hydra/launcher=x",
        "+a=1",
    ]
    names, overrides = config.split(words)
    assert names == ["adamw", "/tmp/lr=0.1/mine", "./a=1"]
    assert names + overrides == words


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_path_may_hold_an_equals_sign(place, printed, capsys, command):
    (place / "lr=0.1").mkdir()
    shutil.move(place / "submissions/good", place / "lr=0.1/good")
    words = ["run"] if command == "run" else ["plan", "-o", "plan.json"]
    assert cli.main([*words, "suite=mine", "device=cpu", "tensorboard=false", str(place / "lr=0.1/good")]) == 0
    assert "good" in capsys.readouterr().out


def test_debug_shows_the_traceback_wherever_it_stands(capsys):
    for words in (["--debug", "rnu"], ["rnu", "--debug"]):
        assert cli.main(words) == 2
        assert "Traceback" in capsys.readouterr().err


def test_debug_of_check_is_another_thing(capsys):
    assert cli.main(["check", "adamww", "--debug"]) == 2
    told = capsys.readouterr().err
    assert "did you mean 'adamw'" in told
    assert "Traceback" not in told


@pytest.fixture
def printed(monkeypatch) -> list[list[Trial]]:
    """The trials that the table of scores was asked for."""
    calls: list[list[Trial]] = []
    monkeypatch.setattr("harness.report.run_summary.print_scores", lambda trials, **_: calls.append(trials))
    monkeypatch.setattr("harness.report.score_sources.print_scores", lambda trials, **_: calls.append(trials))
    return calls


def names(trials: list[Trial]) -> list[tuple[str, Status]]:
    return [(trial.spec.submission, trial.status) for trial in trials]


GOOD, DIVERGED = ("good", Status.TARGET_REACHED), ("diverge", Status.DIVERGED)


def run(*words: str) -> int:
    return cli.main(["run", "suite=mine", "device=cpu", "tensorboard=false", *words])


def test_studies_come_one_after_another(place, printed, capsys):
    assert run("good", "diverge", "studies=2") == 0
    ended = re.findall(r"task / (\w+) (\d)/0: (?:target_reached|diverged)", capsys.readouterr().out)
    assert ended == [("good", "0"), ("diverge", "0"), ("good", "1"), ("diverge", "1")]


def test_run_prints_the_plan_runs_what_remains_and_shows_the_scores(place, printed, capsys):
    assert run("good", "diverge") == 0  # a diverged trial is a result, not a failure
    out = capsys.readouterr().out
    assert "2 of 2 trials to run, about 1m16s" in out
    assert "task / good 0/0: training\ntask / good 0/0: target_reached (as told)\n" in out
    assert "\x1b" not in out
    assert "\r" not in out
    assert names(printed[0]) == [GOOD, DIVERGED]
    logs = {log: log.stat().st_mtime_ns for log in place.rglob("log.jsonl")}
    assert len(logs) == 2

    assert run("good", "diverge") == 0
    assert "0 of 2 trials to run" in capsys.readouterr().out
    assert names(printed[1]) == [GOOD, DIVERGED]
    assert {log: log.stat().st_mtime_ns for log in place.rglob("log.jsonl")} == logs


def test_dry_run_prints_the_plan_and_writes_nothing(place, printed, capsys):
    assert run("--dry-run", "good") == run("good", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "good" in out
    assert "1 of 1 trials to run" in out
    assert not (place / "runs").exists()
    assert not printed


def test_dry_run_shows_a_plan_for_a_gpu_that_is_not_here(place, printed, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert run("good", "device=h200", "--dry-run") == 0
    captured = capsys.readouterr()
    assert "1 of 1 trials to run" in captured.out
    assert "note: device: a GPU was asked for, but" in captured.err
    assert cli.main(["plan", "good", "suite=mine", "device=h200"]) == 0
    captured = capsys.readouterr()
    assert "1 of 1 trials to run" in captured.out and "note: device: a GPU was asked for, but" in captured.err
    assert run("good", "device=h200") == 2
    assert "error: device: a GPU was asked for, but" in capsys.readouterr().err
    assert not printed


def test_without_a_name_the_plan_says_what_takes_part(place, printed, capsys):
    assert run("--dry-run") == 0
    out = capsys.readouterr().out
    number = len(list(discovery.find_all("submissions")))
    assert out.startswith(
        f"no submission is named, so all {number} take part: {number - 2} that come with the harness, and "
    )
    assert "and diverge, good; `harness run diverge` runs that one alone" in out.splitlines()[0]
    assert run("--dry-run", "good") == 0
    assert "no submission is named" not in capsys.readouterr().out


def test_a_crash_stops_none_of_the_others_and_exits_1(place, printed, capsys):
    add(place, "crash")
    assert run("crash", "good") == 1
    assert names(printed[0]) == [("crash", Status.CRASHED), GOOD]
    captured = capsys.readouterr()
    assert "crashed: exit code 1: it broke" in captured.err
    assert run("crash", "good") == 1  # it stays a failure until it is run again
    assert "1 failed earlier: retry=true runs it again" in capsys.readouterr().out
    (place / "worker.py").write_text(WORKER.replace("it broke", "again"))
    assert run("crash", "good", "retry=true") == 1
    assert "crashed: exit code 1: again" in capsys.readouterr().err
    assert len(list(place.glob("runs/task/crash/*.failed-1"))) == 1


def test_a_trial_that_was_killed_is_unfinished_and_exits_1(place, printed, capsys):
    add(place, "killed")
    assert run("killed", "good") == 1
    assert names(printed[0]) == [("killed", Status.PLANNED), GOOD]


def test_a_broken_submission_is_reported_and_exits_1(place, printed, capsys):
    add(place, "broken", "name: {}\n")
    assert run("broken", "good") == 1
    assert "broken/submission.yaml: the field 'description' is missing" in capsys.readouterr().err
    assert names(printed[0]) == [GOOD]
    assert run("broken", "--dry-run") == 1
    capsys.readouterr()
    assert run("broken") == 1
    assert capsys.readouterr().err.count("'description' is missing") == 1, "nothing runs, so once is enough"


def test_a_folder_that_is_held_is_named_and_the_others_run(place, printed, capsys):
    assert run("good") == 0
    (path,) = run_folder.find_trials(place / "runs")
    (path / "result.json").unlink()
    with run_folder.hold(path):
        assert run("good", "diverge") == 2
    assert f"{path.relative_to(place)} is held by process" in capsys.readouterr().err
    assert (DIVERGED[0], DIVERGED[1]) in names(printed[1])


def test_missing_data_exit_3(place, monkeypatch, capsys):
    def fail(*_, **__):
        raise DataError("task: 1.2 GB are missing; harness data get task")

    monkeypatch.setattr(local, "run_trial", fail)
    assert run("good") == 3
    assert "error: task: 1.2 GB are missing" in capsys.readouterr().err


def test_an_interrupt_stops_the_campaign_and_exits_130(place, printed, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "run_trial", interrupt)
    assert run("good", "diverge") == 130
    assert "type the same again to go on" in capsys.readouterr().err
    assert not printed


class View:
    """Stands for TensorBoard's."""

    def __init__(self, folder: Path):
        self.folder, self.kinds, self.closed = folder, [], False

    def add(self, event):
        self.kinds.append(event["event"])

    def close(self):
        self.closed = True


@pytest.mark.parametrize("deaf", [False, True])
def test_a_campaign_ends_after_max_hours_as_at_an_interrupt(place, printed, monkeypatch, capsys, deaf):
    """Also one that a script started in the background, where SIGINT is ignored."""
    timers, begun = [], []

    class Timer:
        daemon = False

        def __init__(self, seconds, action):
            self.seconds, self.action, self.cancelled = seconds, action, False
            timers.append(self)

        def start(self):
            assert self.daemon

        def cancel(self):
            self.cancelled = True

    def run_trial(trial, *_, **__):
        begun.append(trial.spec.submission)
        timers[0].action()
        for _ in range(600):  # as it follows a log; another thread may be handed the signal
            time.sleep(0.1)

    monkeypatch.setattr(campaign.threading, "Timer", Timer)
    monkeypatch.setattr(local, "run_trial", run_trial)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if deaf else signal.default_int_handler)
    try:
        assert run("good", "diverge", "max_hours=2.5") == cli.INTERRUPTED
        assert signal.getsignal(signal.SIGINT) is (signal.SIG_IGN if deaf else signal.default_int_handler)
    finally:
        signal.signal(signal.SIGINT, before)
    assert begun == ["good"], "no further trial is begun"
    assert (timers[0].seconds, timers[0].cancelled) == (9000.0, True)
    err = capsys.readouterr().err
    assert "note: max_hours=2.5 are over" in err
    assert "type the same again to go on" in err
    assert run("good", "max_hours=0") == 2
    assert "max_hours: expected a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("fails", ["__init__", "add", "close"])
def test_a_view_that_fails_is_told_once_and_ends_no_trial(place, printed, monkeypatch, capsys, fails):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorboard.EventView, fails, full)
    assert run("good", "tensorboard=true") == 0
    assert names(printed[0]) == [GOOD]
    assert capsys.readouterr().out.count("TensorBoard's curves of") == 1


def test_a_full_disk_of_the_view_shows_no_traceback(tmp_path, monkeypatch, capsys):
    """TensorBoard's own thread meets it."""
    told: list[str] = []

    def refuse(*_):
        raise OSError(28, "No space left on device")

    with live._event_view(tmp_path, told.append) as add:
        monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", refuse)
        for step in range(1, 4):
            add({"event": "measurement", "step": step, "metrics": {"loss": 1.0}})
    assert len(told) == 1
    assert "No space left on device" in told[0]
    assert capsys.readouterr().err == ""


def test_tensorboard_sees_every_event_where_it_is_wanted(place, printed, monkeypatch):
    made: list[View] = []
    monkeypatch.setattr("harness.record.tensorboard.EventView", lambda folder: made.append(View(folder)) or made[-1])
    assert run("good") == 0
    assert not made
    assert run("diverge", "tensorboard=true") == 0
    (view,) = made
    assert (view.kinds, view.closed) == (["phase", "end"], True)
    assert view.folder == run_folder.find_trials(Path("runs/task/diverge"))[0]


def test_score_reads_folders_and_passes_over_none_in_silence(place, printed, capsys):
    run("good", "diverge")
    good, diverge = (Path("runs/task") / name for name in ("good", "diverge"))
    assert cli.main(["score"]) == 0
    assert names(printed[1]) == [DIVERGED, GOOD]  # in the order of their paths
    assert cli.main(["score", str(good), "--json", str(good)]) == 0
    assert names(printed[2]) == [GOOD]
    next(diverge.glob("*/spec.json")).write_text("{")
    assert cli.main(["score", "runs"]) == 1
    assert names(printed[3]) == [GOOD]
    assert "spec.json cannot be read" in capsys.readouterr().err


def test_score_takes_the_runs_of_one_ruleset(place, printed, capsys):
    run("good", "diverge")
    run("good", "rules=self", "studies=2")
    printed.clear()
    assert cli.main(["score", "--rules", "self"]) == cli.main(["score", "--rules", "quick"]) == 0
    assert [len(trials) for trials in printed] == [2, 2]
    assert cli.main(["score", "--rules", "slf"]) == 2
    assert "no run by rules slf; did you mean 'self'" in capsys.readouterr().err


def test_doctor_is_handed_the_composed_request(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "harness.report.doctor.run", lambda run, calibrate: calls.append((run.device.platform, calibrate)) or 1
    )
    assert cli.main(["doctor", "device=cpu", "--calibrate"]) == 1
    assert cli.main(["doctor"]) == 1
    assert calls == [("cpu", True), ("auto", False)]


SPEC = TrialSpec(
    schema=SCHEMA, workload="task", workload_version=1, workload_hash="w", metric="loss", mode="min", target=0.5,
    step_hint=400, batch_size=8, budget_steps=600, reference_step_s=0.1, submission="mine", submission_hash="s",
    hyperparameters={}, rules="quick", stop="target", clock="calibrated", score_compile=False, compile_cap_s=60.0,
    free_batch_size=True, study=0, trial=1, seed=0, tuning=False, device="cpu", deterministic=True,
)  # fmt: skip


def clocks(steps: float) -> dict[str, float | None]:
    return {"wall": 99.0, "cpu": 99.0, "calibrated": steps, "energy": None}


def chunk(step: int, spent: float, seconds: float = 2.0) -> dict:
    return {"event": "chunk", "step": step, "examples": 8 * step, "seconds": seconds, "metrics": {"loss": [1.0, 0.75]},
            "scored": clocks(spent), "spent": clocks(spent)}  # fmt: skip


EVENTS = [
    {"event": "start", "attempt": 1},
    {"event": "phase", "phase": "compile"},
    {"event": "attempt", "attempt": 1, "resume_step": 0},
    {"event": "budget", "seconds": 60.0, "clock": "calibrated"},
    {"event": "phase", "phase": "train"},
    chunk(100, 10.0),
    chunk(200, 20.0),
    {
        "event": "measurement",
        "step": 200,
        "metrics": {"loss": 0.625, "accuracy": 0.5},
        "scored": clocks(20.0),
        "met": False,
    },
    {"event": "something new"},
]


def shown(events, spec=SPEC) -> progress.Progress:
    p = progress.Progress(spec)
    for event in events:
        p.add(event)
    return p


def test_progress_in_the_ranking_clock():
    p = shown(EVENTS)
    assert (p.phase, p.step, p.loss, p.metric, p.spent, p.budget) == ("training", 200, 0.75, 0.625, 20.0, 60.0)
    assert p.steps_per_s == 50.0
    assert p.fraction == pytest.approx(20 / 60)
    assert p.left_s == pytest.approx(40 / (10 / 4))  # 10 s were gained in the 4 s whose speed is known
    assert progress.line(p) == (
        "task / mine 0/1: training, step 200/600 (50/s), train loss 0.7500, validation loss 0.6250 (target 0.5000), "
        "scored 20.0 of 60.0 calibrated s, left at most 16s"
    )
    p.spent, p.budget = 0.0123, 0.02
    assert "scored 0.012 of 0.02 calibrated s" in progress.line(p), "of a toy"


def test_cheap_steps_may_go_past_the_baselines_number():
    line = progress.line(shown(EVENTS, dataclasses.replace(SPEC, budget_steps=199)))
    assert "training, step 200 (50/s), train" in line
    assert "scored 20.0 of 60.0" in line


def test_progress_to_the_horizon():
    p = shown(EVENTS, dataclasses.replace(SPEC, stop="horizon", target=None))
    assert (p.limit, p.fraction, p.left_s) == (400, 0.5, 4.0)
    assert "scored 20.0 calibrated s, left 4s" in progress.line(p)
    assert "(no target)" in progress.line(p)
    assert shown(EVENTS, dataclasses.replace(SPEC, max_steps=250)).left_s == 1.0


def test_progress_goes_back_to_the_checkpoint():
    p = shown([*EVENTS, {"event": "end", "status": "interrupted", "reason": ""}, {"event": "start", "attempt": 2}])
    assert p.status is None
    p.add({"event": "attempt", "attempt": 2, "resume_step": 100})
    assert (p.step, p.spent, p.steps_per_s) == (100, None, None)
    p.add(chunk(150, 15.0))
    assert p.steps_per_s == 25.0


def test_news_are_phases_measurements_and_the_end():
    p = progress.Progress(SPEC)
    assert [event["event"] for event in EVENTS if p.add(event)] == ["phase", "phase", "measurement"]
    assert p.add({"event": "end", "status": "diverged", "reason": "NaN at step 3"})
    assert progress.line(p) == "task / mine 0/1: diverged (NaN at step 3)"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.02, "1s"), (59.6, "1m00s"), (200, "3m20s"), (7500, "2h05m")]
)
def test_duration(seconds, text):
    assert progress.duration(seconds) == text


def test_without_a_terminal_lines_are_plain(capsys):
    with progress.shown(SPEC, EVENTS) as view:
        for event in EVENTS:
            view.add(event)
        view.note("saving")
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "task / mine 0/1: compiling, step 200/600"
    assert out.splitlines()[-1] == "saving"
    assert len(out.splitlines()) == 3, "a measurement right after another line is left out"
    assert "\x1b" not in out


def test_plain_lines_on_measurements_come_every_few_seconds_and_at_the_target(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    (measurement,) = [event for event in EVENTS if event["event"] == "measurement"]
    with progress.shown(SPEC) as view:
        for seconds, met in ((0, False), (1, False), (4, False), (6, False), (7, True)):
            now[0] = 100.0 + seconds
            view.add(measurement | {"step": seconds, "met": met})
    steps = [
        int(line.partition("step ")[2].partition("/")[0])
        for line in capsys.readouterr().out.splitlines()
        if "step" in line
    ]
    assert steps == [6, 7]


def test_on_a_terminal_a_panel_is_kept_up_to_date(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress.shown(SPEC) as view:
        for event in EVENTS:
            view.add(event)
        view.note("saving")
        view.add({"event": "end", "status": "diverged", "reason": "NaN [at] step 3"})
    out = capsys.readouterr().out
    assert "\x1b[" in out
    assert all(text in out for text in ("0.6250 (target 0.5000)", "saving", "diverged (NaN [at] step 3)"))
