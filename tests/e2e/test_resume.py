"""kill -9 anywhere, run again: the same parameters bit for bit, the same measurements, and down time is not charged."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest

from harness.record import run_folder
from harness.record.result import UNFINISHED, Status
from harness.trial import EXIT_MACHINE

STEPS = 72


def events(path, kind):
    return [e for e in run_folder.read_events(path) if e["event"] == kind]


def step_losses(trial):
    return [loss for e in trial.events if e["event"] == "chunk" for loss in e["metrics"]["loss"]]


@pytest.mark.parametrize("workload", ["lm_grammar", "resnet_digits"])
def test_killed_and_resumed_is_the_same_bit_for_bit(make_trial, run_worker, start_worker, tmp_path, workload):
    whole = run_worker(make_trial(workload, "adamw", stop="horizon", max_steps=STEPS, out=tmp_path / "whole"))
    assert (whole.status, whole.result.attempts) == (Status.HORIZON_REACHED, 1)

    path = make_trial(workload, "adamw", stop="horizon", max_steps=STEPS, checkpoint_s=0.0, out=tmp_path / "killed")
    delay_s = random.uniform(0, 0.3)  # into the chunk that follows, or the saving of it
    worker = start_worker(path)
    worker.wait_for(lambda: events(path, "checkpoint"))
    time.sleep(delay_s)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert run_folder.read_trial(path).status == Status.INTERRUPTED, f"killed {delay_s} s after the first checkpoint"
    reached = events(path, "chunk")[-1]["step"]
    with (path / "log.jsonl").open("ab") as log:
        log.write(b'{"v": 1, "event": "chu')  # killed in the middle of a line

    time.sleep(3)
    started = time.monotonic()
    resumed = run_worker(path)
    second_s = time.monotonic() - started

    assert (resumed.status, resumed.result.attempts) == (Status.HORIZON_REACHED, 2)
    resume_step = events(path, "attempt")[-1]["resume_step"]
    assert 0 < resume_step <= reached, f"killed {delay_s} s after the first checkpoint"
    assert resumed.result.final_hash == whole.result.final_hash
    assert [(m.step, m.metrics) for m in resumed.measurements] == [(m.step, m.metrics) for m in whole.measurements]
    assert resumed.result.test == whole.result.test
    assert step_losses(resumed) == step_losses(whole)
    assert len(step_losses(whole)) == STEPS

    # Charged: the work up to the checkpoint and the second process; neither the wait nor the work that was lost.
    (checkpoint,) = [e for e in events(path, "checkpoint") if e["step"] == resume_step]
    assert checkpoint["t"] <= resumed.result.wall_s <= checkpoint["t"] + second_s
    assert sum(r.wall_s for r in resumed.result.ledger.values()) == pytest.approx(resumed.result.wall_s)


@pytest.fixture(scope="module")
def whole(trial_below, run_worker, tmp_path_factory):
    """A trial that nothing disturbs."""
    out = tmp_path_factory.mktemp("whole")
    return run_worker(trial_below(out, "lm_grammar", "adamw", stop="horizon", max_steps=STEPS))


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are set")
@pytest.mark.parametrize(
    ("what", "after", "limit"),
    [
        ("the checkpoint of step", "checkpoint", lambda path: 256 * 1024),  # logs are smaller, arrays larger
        ("log.jsonl: File too large", "checkpoint", lambda path: (path / "log.jsonl").stat().st_size + 20),
        ("result.json: File too large", "decided", lambda path: (path / "log.jsonl").stat().st_size + 700),
    ],
    ids=["checkpoint", "log", "result"],
)
def test_a_disk_that_is_full_is_no_failure_and_the_trial_goes_on(
    make_trial, run_worker, start_worker, whole, tmp_path, what, after, limit
):
    """A limit on the size of files stands in for the disk: each write beyond it fails as on a full one."""
    short = {} if after == "checkpoint" else {"max_steps": 1}
    path = make_trial("lm_grammar", "adamw", **({"stop": "horizon", "max_steps": STEPS, "checkpoint_s": 0.0} | short))
    worker = start_worker(path)
    worker.wait_for(lambda: events(path, after))
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (limit(path), resource.RLIM_INFINITY))
    assert worker.wait(60) == EXIT_MACHINE
    assert what in (path / "worker.log").read_text()
    assert not (path / "result.json").exists()
    assert run_folder.read_trial(path).status == Status.INTERRUPTED

    resumed = run_worker(path)
    assert resumed.status == Status.HORIZON_REACHED
    assert not [p for p in path.rglob("*") if p.name.startswith(".") or "tmp" in p.name]
    if not short:
        assert events(path, "attempt")[-1]["resume_step"] > 0, "it goes on from the checkpoint that was whole"
        assert resumed.result.final_hash == whole.result.final_hash


def test_ctrl_c_saves_and_goes_on(make_trial, run_worker, start_worker, tmp_path, whole):
    path = make_trial("lm_grammar", "adamw", stop="horizon", max_steps=STEPS, out=tmp_path / "stopped")
    worker = start_worker(path)
    worker.wait_for(lambda: events(path, "chunk"))
    worker.send_signal(signal.SIGINT)
    assert worker.wait(60) == 0
    stopped = run_folder.read_trial(path)
    assert stopped.status == Status.INTERRUPTED
    assert "run again to go on" in stopped.reason
    assert run_worker(path).result.final_hash == whole.result.final_hash


def test_interrupted_before_training_is_interrupted_too(make_trial, run_worker, start_worker):
    path = make_trial("quadratic", "adamw")
    worker = start_worker(path)
    worker.wait_for(lambda: any(e["phase"] in ("setup", "compile", "warmup") for e in events(path, "phase")))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert run_folder.read_trial(path).status == Status.INTERRUPTED
    assert run_worker(path).status not in UNFINISHED


def test_interrupted_once_its_end_is_decided_a_trial_ends(make_trial, start_worker):
    """It compiles the evaluation of the full splits then, which is no time before training."""
    path = make_trial("lm_grammar", "adamw", stop="horizon", max_steps=STEPS)
    worker = start_worker(path)
    worker.wait_for(lambda: events(path, "decided"))
    worker.send_signal(signal.SIGINT)
    assert worker.wait(60) == 0
    trial = run_folder.read_trial(path)
    assert (trial.status, trial.result.steps) == (Status.HORIZON_REACHED, STEPS)
    assert trial.result.test["loss"] > 0


def test_second_process_is_told_who_holds_the_folder(make_trial):
    path = make_trial("quadratic", "adamw")
    with run_folder.hold(path):
        second = subprocess.run(
            [sys.executable, "-m", "harness.trial.worker", str(path)], capture_output=True, text=True, check=False
        )
        assert second.returncode == 4
        assert f"process {os.getpid()}" in second.stderr
    assert not (path / "result.json").exists()
    assert run_folder.read_trial(path).status == Status.PLANNED
