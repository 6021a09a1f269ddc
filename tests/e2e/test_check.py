"""`harness check` and `harness new` in real processes; every submission that comes with the harness passes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.check import command
from harness.cli import main as cli
from harness.program import discovery

ROOT = Path(__file__).resolve().parents[2]
LANE = (3, 11)

one_lane = pytest.mark.skipif(sys.version_info[:2] != LANE, reason="20 s of processor time each: on one lane only")


@one_lane
@pytest.mark.parametrize("name", discovery.find_all("submissions"))
def test_submissions_pass(name: str, capsys) -> None:
    code = cli.main(["check", name])
    assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize("options", [["--full"], pytest.param([], marks=one_lane)])
def test_what_new_writes_passes(tmp_path: Path, monkeypatch, capsys, options: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert cli.main(["new", "mine", *options]) == 0
    code = cli.main(["check", "mine"])
    assert code == 0, capsys.readouterr().out


def test_a_submission_that_takes_its_process_down_or_waits_for_ever_is_a_finding(tmp_path: Path) -> None:
    for name, end in (("dies", "os._exit(3)"), ("waits", "time.sleep(3600)")):
        folder = tmp_path / name
        shutil.copytree(ROOT / "tests/faults/wrong_return", folder, ignore=shutil.ignore_patterns("__pycache__"))
        info = (folder / "submission.yaml").read_text()
        (folder / "submission.yaml").write_text(info.replace("wrong_return", name))
        (folder / "submission.py").write_text(f"import os, time\nprint('no answer')\ndef build(task, hp):\n    {end}\n")
    says = {}
    for name, hang_s in (("dies", 300.0), ("waits", 30.0)):
        report = command.check(discovery.find("submissions", str(tmp_path / name)), hang_s=hang_s)
        assert report.mark("build") == "FAILED"
        assert report.mark("contract") == "not run"
        (says[name],) = [finding.message for finding in report.findings if finding.check == "build"]
    assert "the process ended: exit code 3: no answer" in says["dies"]
    assert "no answer for 30 s; killed" in says["waits"]


VECTORS = """
from harness.api import LossKind
from harness.program.workload import UNSET, Data, Splits, Workload, WorkloadInfo, split_shapes

INFO = WorkloadInfo(
    name="vectors", description="a parameter tree without matrices", metric="loss", mode="min", target=UNSET,
    batch_size=4, step_hint=200, num_train_examples=16, loss_kind=LossKind.MEAN_SQUARED_ERROR, scored=False,
)

def data():
    import numpy as np

    arrays = {"x": np.ones((16, 3), np.float32)}
    splits = lambda: Splits(arrays, arrays, arrays, arrays)
    shapes = split_shapes((16, 16, 16, 16), {"x": ((3,), "float32")})
    return Data(INFO, shapes, splits, lambda train, index, key: {"x": train["x"][index]})

def load():
    import jax.numpy as jnp
    from harness.api import ParamInfo, ParamKind

    own = data()
    loss = lambda params, x: jnp.square(x - params["w"][None]).mean(axis=1)
    return Workload(
        info=INFO,
        init=lambda key: ({"w": jnp.zeros(3)}, {}),
        param_info={"w": ParamInfo(ParamKind.BIAS, in_axes=(), out_axes=(0,))},
        splits=own.splits,
        batch=own.batch,
        shapes=own.shapes,
        loss=lambda params, state, batch, key, train: (loss(params, batch["x"]), state),
        evaluate=lambda params, state, arrays: {"loss": loss(params, arrays["x"]).mean()},
    )
"""


def test_rules_for_matrices_refuse_a_task_without_any_before_training(tmp_path: Path, monkeypatch) -> None:
    """While the trials are planned; one that takes every parameter runs beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "workloads/vectors").mkdir(parents=True)
    (tmp_path / "workloads/vectors/workload.py").write_text(VECTORS)
    rules = ("muon", "normuon", "apollo")
    words = ["run", *rules, "adamw", "workload=vectors", "stop=horizon", "device=cpu", "tensorboard=false"]
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", *words], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 1, done.stderr
    for rule in rules:
        says = f"error: {rule}: no parameter is a matrix or a convolution kernel (kinds: bias); use a rule that takes"
        assert says in done.stderr
    assert "horizon_reached" in done.stdout
    assert [path.name for path in (tmp_path / "runs/vectors").iterdir()] == ["adamw"]
