"""A plan made here runs where there is little beside jax, flax, optax, orbax and PyYAML: no Hydra, for one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness.campaign import __main__ as runner
from harness.campaign import config, plan, plan_file
from harness.program import discovery
from harness.program.workload import SMALL
from harness.record import run_folder
from harness.record.result import Result, Status

ROOT = Path(__file__).resolve().parents[2]


def test_a_plan_runs_without_hydra(tmp_path, bare):
    run = config.compose(["workload=quadratic", "device=cpu", "max_steps=5", f"out={tmp_path / 'here'}"])
    plan_file.write(tmp_path / "plan.json", plan.make_plan(run, ["adamw"], elsewhere=True).trials)
    command = [
        sys.executable,
        "-m",
        "harness.campaign",
        str(tmp_path / "plan.json"),
        "--out",
        str(tmp_path / "there"),
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(bare), str(ROOT)])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "1 of 1 trials to run" in done.stdout
    (path,) = run_folder.find_trials(tmp_path / "there")
    trial = run_folder.read_trial(path)
    assert (trial.status, trial.result.steps) == (Status.HORIZON_REACHED, 5)
    again = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, check=False, timeout=300)
    assert (again.returncode, again.stdout.splitlines()[0].split(": ")[1]) == (0, "0 of 1 trials to run")
    blocked = subprocess.run(
        [sys.executable, "-c", "import hydra"], env=environment, capture_output=True, text=True, check=False
    )
    assert "No module named 'hydra'" in blocked.stderr, "this test would pass anywhere otherwise"


def test_a_plan_for_a_device_that_is_not_here_runs_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    run = config.compose(["workload=quadratic", "device=gpu", "max_steps=5"])
    plan_file.write(tmp_path / "plan.json", plan.make_plan(run, ["adamw"], elsewhere=True).trials)
    assert runner.main([str(tmp_path / "plan.json"), "--out", str(tmp_path / "there")]) == 2
    assert "a GPU was asked for, but" in capsys.readouterr().err
    assert not (tmp_path / "there").exists()
    assert runner.main([str(tmp_path / "no.json")]) == 2
    assert "no.json: No such file or directory; make it with: harness plan" in capsys.readouterr().err


def test_what_another_process_holds_is_left_to_it(tmp_path, capsys):
    run = config.compose(["workload=quadratic", "device=cpu", "max_steps=5", "studies=2", f"out={tmp_path / 'there'}"])
    trials = plan.make_plan(run, ["adamw"], elsewhere=True).trials
    plan_file.write(tmp_path / "plan.json", trials)
    command = [str(tmp_path / "plan.json"), "--out", str(tmp_path / "there")]
    held, free = (plan.make_ready(trial) for trial in trials)
    with run_folder.hold(held):
        assert runner.main(command) == 0, "another worker is at it, which is no failure"
    assert f"left to process {os.getpid()}" in capsys.readouterr().out
    assert [run_folder.read_trial(path).status for path in (held, free)] == [Status.PLANNED, Status.HORIZON_REACHED]
    assert runner.main(command) == 0
    assert run_folder.read_trial(held).status == Status.HORIZON_REACHED


def test_a_plan_whose_data_are_missing_exits_3_with_the_command_that_gets_them(tmp_path, monkeypatch, capfd):
    run = config.compose(["workload=lm_books", "variant=small", "device=cpu", "max_steps=2"])
    plan_file.write(tmp_path / "plan.json", plan.make_plan(run, ["adamw"], elsewhere=True).trials)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "empty"))
    assert runner.main([str(tmp_path / "plan.json"), "--out", str(tmp_path / "there")]) == 3
    assert "get it with: harness data get classic_books --mirror DIR" in capfd.readouterr().err


def test_what_failed_is_told_and_run_again_when_asked(tmp_path, monkeypatch, capsys):
    run = config.compose(["workload=quadratic", "device=cpu", "max_steps=5", f"out={tmp_path / 'there'}"])
    trials = plan.make_plan(run, ["adamw"], elsewhere=True).trials
    plan_file.write(tmp_path / "plan.json", trials)
    path = plan.make_ready(trials[0])
    with run_folder.hold(path) as folder:
        folder.append("start", attempt=1, pid=1, spec_id=trials[0].spec.id, unix_time=0.0)
        folder.write_result(Result(Status.CRASHED, "the driver is missing", trials[0].spec.id))
    command = [str(tmp_path / "plan.json"), "--out", str(tmp_path / "there")]
    assert runner.main(command) == 1
    assert "0 of 1 trials to run; 1 failed earlier, --retry runs what failed again" in capsys.readouterr().out
    assert runner.main([*command, "--retry"]) == 0
    assert "1 of 1 trials to run" in capsys.readouterr().out
    assert run_folder.read_trial(path).status == Status.HORIZON_REACHED


def test_the_suite_of_the_gpu_runs_in_small_on_a_cpu(make_trial, run_worker, with_data):
    with_data(["classic_books"])
    info = discovery.workload_info(discovery.find("workloads", "lm_books"), SMALL)
    path = make_trial(
        "lm_books", "adamw", variant=SMALL, target=None, batch_size=info.batch_size, step_hint=info.step_hint,
        budget_steps=400, stop="horizon", max_steps=26,
    )  # fmt: skip
    trial = run_worker(path)
    assert (trial.status, trial.result.steps) == (Status.HORIZON_REACHED, 26)
    assert trial.result.fingerprint["choices"] == {"attention": "xla: 64 positions are too few to gain"}
    *_, measurement = trial.measurements
    assert measurement.metrics["loss"] < 9.0
    assert 2 < measurement.metrics["bits_per_byte"] < measurement.metrics["loss"]
    assert set(trial.result.test) == {"loss", "bits_per_byte"}
