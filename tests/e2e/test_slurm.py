"""`launcher=slurm` against a real Slurm, two nodes on this machine: jobs that are ended, preempted, late, kept off a
node or on one that is lost come to the bits of the local launcher. And its stand-in without Slurm,
`launcher=background`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.campaign import config
from harness.campaign.launch import jobs, submitting
from harness.campaign.launch import slurm as launch_slurm
from harness.campaign.launch.jobs import Batch, Job
from harness.campaign.launch.local import SAVING
from harness.errors import ConfigError
from harness.record import run_folder
from harness.record.result import Status
from harness.record.run_folder import Trial
from harness.report import job_table

ROOT = Path(__file__).resolve().parents[2]
HARNESS = [sys.executable, "-m", "harness.cli"]
NAMES = ("adamw", "sgd_momentum", "nadamw")
WORDS = (
    "run", *NAMES, "workload=lm_grammar", "device=cpu", "stop=horizon", "studies=2", "max_steps=400",
    "tensorboard=false",
)  # fmt: skip
"""6 trials that train for some seconds each, so that there is time to disturb them."""


def typed(*words: str, cwd: Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    told = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    done = subprocess.run(
        [*HARNESS, *words], cwd=cwd, env=told | environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def trials_of(out: Path) -> dict[tuple[str, int], Trial]:
    found = [run_folder.read_trial(path) for path in run_folder.find_trials(out)]
    return {(trial.spec.submission, trial.spec.study): trial for trial in found}


def bits(out: Path) -> dict[Any, Any]:
    """What must be the same, of each trial that has come to its end."""
    return {
        key: (trial.result.final_hash, [(m.step, m.metrics) for m in trial.measurements], trial.result.test)
        for key, trial in trials_of(out).items()
        if trial.status is Status.HORIZON_REACHED and trial.result is not None
    }


def waited(condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


def steps(out: Path, name: str) -> int:
    """How many steps the logs of a submission tell of."""
    events = [e for path in out.glob(f"*/{name}/*") for e in run_folder.read_events(path)]
    return sum(event["event"] == "chunk" for event in events)


@pytest.fixture
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """A Slurm of two nodes, with SLURM_CONF set; skips where there can be none. Yields what loses a node, which Slurm
    notices after so many seconds as its parameter says.
    """
    spec = importlib.util.spec_from_file_location("slurm_cluster", ROOT / "scripts/slurm_cluster.py")
    assert spec is not None and spec.loader is not None
    slurm_cluster = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(slurm_cluster)
    if why := slurm_cluster.lacking():
        pytest.skip(why)
    if importlib.util.find_spec("submitit") is None:
        pytest.skip("submitit is not installed: pip install 'training-harness[slurm]'")
    folder = Path("/tmp") / f"harness-slurm-{os.getpid()}"  # sockets have short names
    try:
        conf = slurm_cluster.start(folder, slurmd_timeout_s=getattr(request, "param", 30))
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"no Slurm can be started here: {error}")
    monkeypatch.setenv("SLURM_CONF", str(conf))
    try:
        yield functools.partial(slurm_cluster.lose_node, folder)
    finally:
        slurm_cluster.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def slurm(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


def test_what_a_cluster_does_to_jobs_changes_no_bit(cluster: Callable[[str], None], tmp_path: Path) -> None:
    out = tmp_path / "runs"
    words = (*WORDS, "launcher=slurm")

    refused = typed(*words, "launcher.partition=nowhere", cwd=tmp_path, code=2).stderr
    assert "Slurm takes no such job" in refused and "launcher.partition=NAME" in refused and "Traceback" not in refused
    assert not list((out / "jobs").glob("*/*")), "a batch that was refused leaves nothing"

    def told() -> dict[str, dict[str, Any]]:
        found = job_table.as_json(submitting.standings(out))
        return {job["title"].split(" / ")[1]: job for job in found["jobs"]}

    def stands(name: str, state: str) -> Callable[[], bool]:
        return lambda: told()[name]["state"] == state

    first = json.loads(typed(*words, "--json", cwd=tmp_path).stdout)
    job = {one["title"].split(" / ")[1]: one["job"] for one in first["jobs"]}
    assert len(set(job.values())) == 3 and len(first["trials"]) == 6
    assert "nothing to submit" in typed(*words, cwd=tmp_path).stdout, "jobs are at all of it"

    a, b, c = sorted(NAMES, key=lambda name: int(job[name].split("_")[1]))
    waited(lambda: steps(out, a) and steps(out, b), "two nodes take two jobs")
    now = told()
    assert [now[name]["state"] for name in (a, b, c)] == ["running", "running", "pending"]
    node = {name: now[name]["host"] for name in (a, b)}
    assert set(node.values()) == {"n1", "n2"}

    slurm("scancel", job[a])  # ended by hand
    preempting = slurm("sbatch", "--parsable", "-p", "high", f"-w{node[b]}", "-o/dev/null", "--wrap=sleep 1").strip()
    waited(stands(a, "failed"), "scancel ends a job")
    assert told()[a]["last_line"] == "stopped; what had begun is saved"
    assert any(trial.status is Status.INTERRUPTED for trial in trials_of(out).values()), "its trial is saved"
    waited(lambda: steps(out, c), "the third job begins where the first one was")
    slurm("scancel", "--batch", "--signal=USR2", job[c])  # as Slurm says that the time is over
    waited(lambda: preempting not in slurm("squeue", "-h", "-tPD,R,CG", "-o%i"), "the job that preempts ends")
    waited(lambda: "put in the queue again" in Path(told()[c]["log"]).read_text(), "it goes on later")
    slurm("scontrol", "update", f"NodeName={node[a]}", "State=DRAIN", "Reason=test")

    again = typed(*words, cwd=tmp_path).stdout
    assert "submitted 1 job" in again, "what was ended by hand is submitted anew, and nothing else"
    followed = typed(*words, "--follow", cwd=tmp_path).stdout
    assert "nothing to submit" in followed
    now = told()
    printed = json.loads(typed("status", "--json", cwd=tmp_path).stdout)["jobs"]
    assert sorted(job["title"] for job in printed if job["state"] == "done") == sorted(now[n]["title"] for n in NAMES)
    assert now[a]["host"] == node[b] != node[a], "a node that is drained gets none"
    assert all("attempt 2" in Path(now[name]["log"]).read_text() for name in (b, c))

    typed(*WORDS, f"out={tmp_path / 'local'}", cwd=tmp_path)
    expected = bits(tmp_path / "local")
    assert len(expected) == 6 and bits(out) == expected
    attempts = {key: trial.result.attempts for key, trial in trials_of(out).items() if trial.result}
    assert all(any(attempts[name, study] > 1 for study in (0, 1)) for name in NAMES), attempts
    assert "nothing to submit" in typed(*words, cwd=tmp_path).stdout


def under_way(path: Path, attempt: int) -> int | None:
    """The process of this attempt at a trial, once it has made a step."""
    events = run_folder.read_events(path)
    starts = [number for number, event in enumerate(events) if event["event"] == "start"]
    if len(starts) < attempt or not any(event["event"] == "chunk" for event in events[starts[-1] :]):
        return None
    return int(events[starts[-1]]["pid"])


@pytest.mark.parametrize("cluster", [10], indirect=True)
def test_a_job_goes_on_when_its_node_is_lost_and_when_its_time_is_over(
    cluster: Callable[[str], None], tmp_path: Path
) -> None:
    """Slurm's own timer gives the signal here. The trial is halted until then, so that it takes no processor."""
    out = tmp_path / "runs"
    words = ("run", "sgd_momentum", *(word for word in WORDS[1:] if word not in (*NAMES, "studies=2", "max_steps=400")))
    words += ("max_steps=600", "checkpoint_s=0.5")
    submitted = (*words, "launcher=slurm", "launcher.hours=0.02", "launcher.save_s=5")
    (job,) = json.loads(typed(*submitted, "--json", cwd=tmp_path).stdout)["jobs"]
    log = Path(job["log"])

    def told() -> dict[str, Any]:
        (found,) = job_table.as_json(submitting.standings(out))["jobs"]
        return found

    waited(lambda: any(path.name.isdigit() for path in out.glob("*/*/*/checkpoints/*")), "it saves")
    lost = told()["host"]
    cluster(lost)
    (path,) = run_folder.find_trials(out)
    assert run_folder.read_trial(path).status is Status.INTERRUPTED
    assert told()["state"] == "running", "Slurm does not know yet"
    pid = waited(lambda: under_way(path, 2), "it goes on elsewhere")
    os.kill(pid, signal.SIGSTOP)
    try:
        assert (told()["state"], told()["host"] == lost) == ("running", False)
        slurm("scontrol", "update", f"JobId={job['job']}", "TimeLimit=1")  # minutes: the least there is
        waited(lambda: SAVING in log.read_text(), "the signal comes before the limit", 90.0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    waited(lambda: "the time limit comes: saved, and put in the queue again" in log.read_text(), "it goes on later")
    slurm("scontrol", "update", f"JobId={job['job']}", "TimeLimit=30")
    typed(*submitted, "--follow", cwd=tmp_path)
    assert "attempt 3" in log.read_text()
    (trial,) = trials_of(out).values()
    assert trial.status is Status.HORIZON_REACHED and trial.result is not None and trial.result.attempts == 3
    attempts = [event for event in run_folder.read_events(path) if event["event"] == "attempt"]
    resumed = [event["resume_step"] for event in attempts]
    assert 0 == resumed[0] < resumed[1] < resumed[2], "from its checkpoints, not from the start"
    typed(*words, f"out={tmp_path / 'local'}", cwd=tmp_path)
    assert bits(out) == bits(tmp_path / "local") != {}


def test_slurm_gives_what_is_asked_for_or_says_what_it_lacks(cluster: Callable[[str], None], tmp_path: Path) -> None:
    def submitted(*words: str) -> tuple[Path, Batch]:
        folder = jobs.create(tmp_path / "runs")
        batch = Batch("slurm", (Job("nothing / to do"),))
        jobs.write(folder, batch)
        run = config.compose(["launcher=slurm", "device=h100", *words])
        return folder, replace(batch, id=launch_slurm.submit(folder, batch, run))

    folder, batch = submitted("device.gres=gpu:h100:2", "device.cpus=1", "device.memory_gb=1.5", "launcher.hours=0.5")
    shown = slurm("scontrol", "show", "job", str(batch.id)).split()
    asked = {"Requeue=1", "TimeLimit=00:30:00", "NumCPUs=1", "MinMemoryNode=1.50G", "TresPerNode=gres:gpu:h100:2"}
    assert asked <= {*shown}, shown
    waited(lambda: "GPUs 0,1" in jobs.last_line(folder / "0.log"), "the job is told which GPUs it has")

    for words, mend in {
        "device.gres=gpu:h200:1": "device.gres=",
        "device.memory_gb=4000": "device.memory_gb=",
        "device.constraint=none": "device.constraint=NAME",
        "launcher.sbatch=--no-such-word": "launcher.sbatch=",
    }.items():
        with pytest.raises(ConfigError, match=rf"Slurm takes no such job: .*it was asked for: .*{mend}"):
            submitted(words)
    late = submitted("launcher.hours=2")

    def reason() -> str:
        (seen,) = launch_slurm.seen([late]).values()
        assert seen.active
        return seen.reason

    never = "PartitionTimeLimit, with which it never starts: `scancel` it, then lower launcher.hours="
    waited(lambda: never in reason(), "Slurm takes it, and says why it waits")


def test_jobs_without_a_cluster(tmp_path: Path) -> None:
    words = ("run", "adamw", "workload=quadratic", "max_steps=5", "launcher=background")
    done = typed(*words, "--follow", cwd=tmp_path)
    assert "submitted 1 job (1 trial)" in done.stdout and "done, 1 of 1 trials" in done.stdout
    (job,) = json.loads(typed("status", "--json", cwd=tmp_path).stdout)["jobs"]
    assert (job["state"], job["trials"][0]["status"]) == ("done", "horizon_reached")
    assert "horizon_reached" in job["last_line"]
    assert "nothing to submit" in typed(*words, cwd=tmp_path).stdout
