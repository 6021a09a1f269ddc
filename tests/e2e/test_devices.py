"""One trial over several devices and processes: the same losses as on one, whole records, and a way on after a loss."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from harness.record import run_folder
from harness.record.result import Status

STEPS = 72


def losses(trial):
    return [loss for e in trial.events if e["event"] == "chunk" for loss in e["metrics"]["loss"]]


def events(path, kind):
    return [e for e in run_folder.read_events(path) if e["event"] == kind]


@pytest.fixture
def make(make_trial, tmp_path):
    """Return a function that prepares a trial of lm_grammar over so many devices."""

    def made(devices, out, submission="adamw", **fields):
        fields = {"stop": "horizon", "max_steps": STEPS, "devices": devices} | fields
        return make_trial("lm_grammar", submission, out=tmp_path / out, **fields)

    return made


def assert_same(trial, other, steps=STEPS):
    assert (trial.status, trial.result.steps) == (Status.HORIZON_REACHED, steps), trial.result.reason
    assert losses(trial) == pytest.approx(losses(other), rel=1e-4)
    for split in ("validation", "test"):
        assert getattr(trial.result, split) == pytest.approx(getattr(other.result, split), rel=1e-4)


def test_eight_devices_are_as_one_and_go_on_from_its_checkpoint(make, run_worker, start_worker):
    one = run_worker(make(1, "one"))
    eight = run_worker(make(8, "eight", sharding="fsdp"))
    assert_same(eight, one)
    assert eight.result.fingerprint["devices"] == 8
    assert eight.result.state_bytes == one.result.state_bytes, "of the whole state, not of a part"
    assert eight.result.peak_bytes < one.result.peak_bytes

    stopped = make(1, "stopped", checkpoint_s=0.0)
    worker = start_worker(stopped)
    worker.wait_for(lambda: events(stopped, "checkpoint"))
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    gone_on = make(8, "gone on")
    shutil.copytree(stopped / "checkpoints", gone_on / "checkpoints")
    shutil.copy(stopped / "log.jsonl", gone_on)
    trial = run_worker(gone_on)
    assert events(gone_on, "attempt")[-1]["resume_step"] > 0
    assert_same(trial, one)


def processes(path, count=2):
    """Start so many workers that train together; return them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "harness.trial.worker", str(path), "--coordinator", address]
    logs = [(path / f"worker{number}.log").open("ab") for number in range(count)]
    try:
        return [
            subprocess.Popen([*command, "--processes", str(count), "--process", str(number)], stdout=log, stderr=log)
            for number, log in enumerate(logs)
        ]
    finally:
        for log in logs:
            log.close()


def ended(path, workers, timeout=240):
    deadline = time.monotonic() + timeout
    try:
        return [worker.wait(max(1.0, deadline - time.monotonic())) for worker in workers]
    except subprocess.TimeoutExpired:
        printed = "\n".join(log.read_text()[-2000:] for log in path.glob("worker?.log"))
        pytest.fail(f"a process did not end:\n{printed}")
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def test_two_processes_are_as_one_and_a_lost_one_is_no_end(make, run_worker):
    """Their submission answers control calls, and its batch doubles on the way."""
    ramp = {"submission": "adamw_batch_ramp", "hp": {"halvings": 1, "ramp_fraction": 0.04}, "max_steps": 96}
    one = run_worker(make(1, "one", **ramp))
    path = make(2, "two", sharding="fsdp", checkpoint_s=0.0, **ramp)
    workers = processes(path)
    deadline = time.monotonic() + 240
    while not events(path, "checkpoint") and time.monotonic() < deadline and workers[0].poll() is None:
        time.sleep(0.01)
    workers[1].kill()
    codes = ended(path, workers)
    assert codes[0] != 0, "the first process must not go on without the other"
    assert run_folder.read_trial(path).status == Status.INTERRUPTED, "so that the same command goes on"

    assert ended(path, processes(path)) == [0, 0], (path / "worker0.log").read_text()[-3000:]
    trial = run_folder.read_trial(path)
    assert events(path, "attempt")[-1]["resume_step"] > 0
    assert trial.result.fingerprint["processes"] == 2
    assert {e["batch_size"] for e in events(path, "chunk")} == {16, 32}
    assert_same(trial, one, steps=96)
