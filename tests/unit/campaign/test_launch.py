"""Jobs for a cluster: what is submitted of a plan, what Slurm is asked for, how its refusals and jobs are told of."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import written_runs

from harness.campaign import config
from harness.campaign.launch import jobs, local, requeue, slurm, submitting
from harness.campaign.launch.jobs import Batch, Job, Member, Seen
from harness.cli import main as cli
from harness.errors import ConfigError, MachineError
from harness.record import run_folder
from harness.record.result import Result, Status
from harness.record.spec import Options

WORDS = ("run", "suite=mine", "device=cpu", "launcher=slurm", "studies=2")


class Cluster:
    """A cluster that takes every job, and says of each what `states` holds for it."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.states: dict[int, Seen] = {}
        self.refuses: ConfigError | None = None

    def check(self, run: Any) -> None:
        pass

    def submit(self, folder: Path, batch: Batch, run: Any) -> str:
        if self.refuses:
            raise self.refuses
        self.batches.append(batch)
        return str(len(self.batches))

    def seen(self, batches: Any) -> dict[tuple[Path, int], Seen]:
        return {(folder, n): seen for folder, _ in batches for n, seen in self.states.items()}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setitem(submitting.ENGINES, "slurm", made)  # type: ignore[arg-type]
    return made


def test_a_job_is_submitted_for_each_program_and_only_for_what_is_missing(
    place: Path, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "suite=mine", "device=cpu", "tensorboard=false", "good"]) == 0, "one trial is finished"
    cluster.states = {0: Seen("RUNNING", True, "n1"), 1: Seen("PENDING", True, reason="Resources")}
    assert cli.main([*WORDS, "good", "diverge"]) == 0
    (batch,) = cluster.batches
    assert [(job.title, len(job.trials)) for job in batch.jobs] == [("task / good", 1), ("task / diverge", 2)]
    assert all((place / "runs" / m.folder / "spec.json").exists() for job in batch.jobs for m in job.trials)

    assert cli.main([*WORDS, "good", "diverge"]) == 0
    told = capsys.readouterr().out
    assert len(cluster.batches) == 1 and "nothing to submit" in told
    assert "  1_1 task / diverge: pending (Resources)" in told and "`scancel 1_0` and `scancel 1_1` end them" in told

    cluster.states = {0: Seen("RUNNING", True, "n1"), 1: Seen("CANCELLED", False, "n2")}
    assert cli.main([*WORDS, "good", "diverge"]) == 0
    assert [job.title for job in cluster.batches[1].jobs] == ["task / diverge"]


def test_a_refusal_is_an_error_and_leaves_no_batch(
    place: Path, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.refuses = ConfigError("Slurm takes no such job")
    assert cli.main([*WORDS, "good"]) == 2
    assert "error: Slurm takes no such job" in capsys.readouterr().err
    assert jobs.folders(place / "runs") == []


@pytest.mark.parametrize(
    ("said", "finished", "state", "why"),
    [
        (Seen("PENDING", True, reason="Resources"), 0, "pending", "Resources"),
        (Seen("RUNNING", True, "n1"), 1, "running", ""),
        (Seen("COMPLETED", False, "n1"), 2, "done", ""),
        (None, 2, "done", ""),
        (Seen("CANCELLED", False, "n1"), 1, "failed", "cancelled, not finished"),
        (None, 0, "failed", "not finished"),
    ],
)
def test_how_jobs_stand(
    tmp_path: Path, cluster: Cluster, said: Seen | None, finished: int, state: str, why: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "runs"
    members = []
    for study in range(2):
        if study < finished:
            spec = written_runs.write_run(out, 5.0, study=study)
        else:
            spec = written_runs.replace(written_runs.SPEC, study=study)
            run_folder.prepare(out, spec, Options("w", "s"))
        members.append(Member(spec.folder))
    folder = jobs.create(out)
    jobs.write(folder, Batch("slurm", (Job("lm / adamw", tuple(members)),), "12", typed="harness run x"))
    (folder / "0.log").write_text("first\nlast words\n\n")
    cluster.states = {0: said} if said else {}

    assert cli.main(["status", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["jobs"]
    assert (told["job"], told["state"], told["why"], told["last_line"]) == ("12", state, why, "last words")
    assert cli.main(["status"]) == 0
    shown = capsys.readouterr().out
    assert f"{finished} of 2" in shown and ("to go on: harness run x" in shown) == (state == "failed")
    if state in ("done", "failed"):
        assert cli.main(["status", "--follow"]) == int(state == "failed")


def test_status_without_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", str(tmp_path)]) == 2
    assert "no jobs were submitted" in capsys.readouterr().err


def test_a_job_asks_for_what_device_and_launcher_say() -> None:
    run = config.compose(
        ["device=h100", "device.cpus=8", "device.memory_gb=1.5", "launcher=slurm", "launcher.hours=2.5",
         "launcher.partition=long", "launcher.sbatch=--exclude=n7 --exclusive"]
    )  # fmt: skip
    assert slurm.resources(run) == {
        "cpus-per-task": 8, "mem": "1536M", "gres": "gpu:h100:1", "partition": "long", "time": 150, "exclude": "n7",
        "exclusive": True,
    }  # fmt: skip
    assert slurm.resources(config.compose(["device=cpu", "launcher=slurm"])) == {"time": 60}


@pytest.mark.parametrize(
    ("gres", "devices", "asked"),
    [
        ("gpu:h100:1", 2, "gpu:h100:2"),
        ("gpu:2", 8, "gpu:8"),
        ("gpu", 2, "gpu:2"),
        ("gpu:h100", 4, "gpu:h100:4"),
        ("gpu:h100:4", 2, "gpu:h100:4"),
        ("gpu:h100:3", 1, "gpu:h100:3"),
        ("gpu:1,tmpfs:10G", 2, "gpu:2,tmpfs:10G"),
        (None, 2, None),
    ],
)
def test_a_job_asks_for_as_many_cards_as_its_trials_are_spread_over(
    gres: str | None, devices: int, asked: str | None
) -> None:
    run = config.compose(["device=h100", "launcher=slurm"])
    device = written_runs.replace(run.device, gres=gres, devices=devices)
    assert slurm.resources(written_runs.replace(run, device=device)).get("gres") == asked


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("PartitionTimeLimit", "PartitionTimeLimit, with which it never starts: `scancel` it, then lower launcher.h"),
        ("QOSMaxWallDurationPerJobLimit", "lower launcher.hours="),
        ("InvalidAccount", "launcher.account="),
        ("QOSMaxGRESPerJob", "ask for less with"),
        ("PartitionConfig", "ask for less with device.cpus="),
        ("JobHeldUser", "`scontrol release`"),
        ("QOSMaxJobsPerUserLimit", None),
        ("Resources", None),
        ("None", None),
    ],
)
def test_why_a_job_waits_is_told_and_what_lets_it_start(
    reason: str, told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = SimpleNamespace(returncode=0, stderr="", stdout=f"12|N/A|PENDING||{reason}\n")
    monkeypatch.setattr(slurm, "_call", lambda *words: said)
    (seen,) = slurm.seen([(tmp_path, Batch("slurm", (Job("lm / adamw"),), "12"))]).values()
    if told is None:
        assert (seen.active, seen.reason) == (True, reason.replace("None", ""))
    else:
        assert seen.active and seen.reason.startswith(f"{reason}, with which it never starts") and told in seen.reason


def test_what_slurm_refuses_is_told_with_what_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: Invalid partition\n"
    )
    error = slurm.refusal(said, {"partition": "x", "exclusive": True})
    assert isinstance(error, ConfigError)
    assert "invalid partition specified: x; Batch job" in str(error)
    assert "it was asked for: --partition=x --exclusive; `sinfo` lists partitions: launcher.partition=NAME" in str(
        error
    )
    silent = slurm.refusal("sbatch: error: Unable to contact slurm controller (connect failure)", {})
    assert isinstance(silent, MachineError) and "type the same again" in str(silent)
    none = slurm.refusal("sbatch: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host", {})
    assert isinstance(none, MachineError)
    lines = SimpleNamespace(returncode=1, stderr="squeue: error: no contact\nsqueue: error: no contact\nsqueue: x\n")
    monkeypatch.setattr(slurm, "_call", lambda *words: lines)
    with pytest.raises(MachineError, match="does not answer: no contact; x; look"):
        slurm.seen([(Path(), Batch("slurm", (), "12"))])
    assert str(none).startswith("no configuration of Slurm was found here: set SLURM_CONF")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["launcher.hours=0.05"], "launcher.hours=0.05: trials save 120 s before that.*at least 0.09 hours"),
        (
            ["launcher.sbatch=exclude"],
            "launcher.sbatch: expected words as --exclude=n7 or --exclusive, got 'exclude'",
        ),
        (["max_hours=1"], "max_hours ends what the command itself runs.*launcher.hours"),
        (["profile=true"], "profile=true traces under launcher=local alone"),
        (["launcher.hours=-1"], "launcher.hours"),
    ],
)
def test_bad_input(words: list[str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace())
    with pytest.raises(ConfigError, match=told):
        submitting.check(config.compose(["launcher=slurm", "device=cpu", *words]))


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    run = config.compose(["launcher=slurm", "device=cpu"])
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"no sbatch on this machine.*launcher=background"):
        submitting.check(run)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"pip install 'training-harness\[slurm\]'"):
        submitting.check(run)


def test_a_job_whose_time_brought_no_step_is_not_put_in_the_queue_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = importlib.import_module("harness.campaign.launch.job")
    asked: list[None] = []
    monkeypatch.setattr(requeue, "requeue", lambda: asked.append(None))
    monkeypatch.setattr(job.signal, "signal", lambda *_: None)
    job._go_on_later(SimpleNamespace(moved=False))
    assert not asked and "ask for more with launcher.hours=" in capsys.readouterr().err
    job._go_on_later(SimpleNamespace(moved=True))
    assert asked and "put in the queue again" in capsys.readouterr().out


def test_a_job_that_begins_again_waits_for_the_locks_of_a_lost_host(
    place: Path, cluster: Cluster, signals: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*WORDS, "good", "studies=1"]) == 0
    job = importlib.import_module("harness.campaign.launch.job")
    (folder,) = jobs.folders(place / "runs")
    (member,) = cluster.batches[0].jobs[0].trials
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")

    def begun(lease_s: float) -> str:
        monkeypatch.setattr(job, "LEASE_S", lease_s)
        assert job.run(folder / "jobs.json", 0) == 0
        return capsys.readouterr().out

    with ExitStack() as held:
        held.enter_context(run_folder.hold(place / "runs" / member.folder))
        first = begun(60.0)
        assert "GPUs 2,5\n" in first and "waiting" not in first and "left to" in first, "another job may be at it"
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        assert "left to" in begun(0.1), "somebody is at it still"
        freed = threading.Timer(0.8, held.close)
        freed.start()
        last = begun(60.0)
        freed.join()
    assert "attempt 2" in last and "waiting for locks" in last and "target_reached" in last


def test_a_job_on_a_node_without_the_device_fails_and_records_nothing(
    place: Path, cluster: Cluster, signals: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "suite=mine", "device=gpu", "launcher=slurm", "good"]) == 0
    (folder,) = jobs.folders(place / "runs")
    (member,) = cluster.batches[0].jobs[0].trials
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert importlib.import_module("harness.campaign.launch.job").run(folder / "jobs.json", 0) == 2
    assert "error: device: a GPU was asked for, but " in capsys.readouterr().err
    assert run_folder.read_trial(place / "runs" / member.folder).status == "planned"


def test_a_running_job_shows_the_step_and_a_failed_one_what_runs_it_again(
    tmp_path: Path, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    members = []
    for name in ("runs", "crashes"):
        spec = written_runs.replace(written_runs.SPEC, submission=name)
        path = run_folder.prepare(tmp_path, spec, Options("w", "s"))
        with run_folder.hold(path) as folder:
            folder.append("chunk", step=120, t=1.0)
            if name == "crashes":
                folder.write_result(Result(Status.CRASHED, "it broke", spec.id))
        members.append(Member(spec.folder))
    batch = jobs.create(tmp_path)
    jobs.write(batch, Batch("slurm", tuple(Job(f"lm / {m.folder}", (m,)) for m in members), "12"))
    cluster.states = {0: Seen("RUNNING", True, "n1"), 1: Seen("FAILED", False, "n1")}
    assert cli.main(["status", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "step 120 of 1000" in shown and "0/0 crashed: retry=true runs it again" in shown
    assert cli.main(["status", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["jobs"]
    assert [job["step"] for job in told] == [{"made": 120, "of": 1000}, None]


@pytest.mark.parametrize(
    ("note", "finished", "state", "why"),
    [
        (None, True, "done", ""),
        (None, False, "pending", "as its files say"),
        ({"host": "n1"}, False, "running", "as its files say"),
        ({"host": "n1", "code": 1}, False, "failed", "not finished"),
    ],
)
def test_where_slurm_does_not_answer_the_files_tell(
    tmp_path: Path, cluster: Cluster, note: dict[str, Any] | None, finished: bool, state: str, why: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def silent(batches: Any) -> Any:
        raise MachineError("Slurm does not answer: down")

    monkeypatch.setattr(cluster, "seen", silent)
    spec = written_runs.SPEC
    if finished:
        written_runs.write_run(tmp_path, 5.0)
    else:
        run_folder.prepare(tmp_path, spec, Options("w", "s"))
    folder = jobs.create(tmp_path)
    jobs.write(folder, Batch("slurm", (Job("lm / adamw", (Member(spec.folder),)),), "12"))
    if note is not None:
        (folder / "0.json").write_text(json.dumps(note))
    assert cli.main(["status", str(tmp_path), "--json"]) == 0
    printed = capsys.readouterr()
    assert "note: Slurm does not answer: down; what follows" in printed.err
    (told,) = json.loads(printed.out)["jobs"]
    assert (told["state"], told["why"]) == (state, why)
    with pytest.raises(MachineError):
        submitting.standings(tmp_path)


def test_a_job_offers_nobody_a_key_to_press(capsys: pytest.CaptureFixture[str]) -> None:
    importlib.import_module("harness.campaign.launch.job")._note(local.SAVING + local.KILLS)
    assert capsys.readouterr().out == f"{local.SAVING}\n"
