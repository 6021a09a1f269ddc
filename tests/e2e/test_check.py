"""`harness check` and `harness new` in real processes; what is known to be sound passes."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.check import command
from harness.cli import main as cli
from harness.program import child, discovery

ROOT = Path(__file__).resolve().parents[2]


def write(place: Path, name: str) -> Path:
    """Write a factory of optax as a submission, as `scripts/check_known.py` does with all; return its folder."""
    spec = importlib.util.spec_from_file_location("check_known", ROOT / "scripts/check_known.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder: Path = module.write(place, name)
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def test_what_new_writes_passes(here: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(command, "PATIENCE_S", 0.0)
    assert cli.main(["new", "mine", "--full"]) == 0
    code = cli.main(["check", "mine"])
    out, err = capsys.readouterr()
    assert code == 0, out
    told = re.findall(r"mine: exporting mine on .*, program \d+ of at most 14\n", err)
    assert len(told) == 7, "four toys and the suite demo"


def test_optax_passes(tmp_path: Path) -> None:
    """One that does something else on each second step; `scripts/check_known.py` takes many."""
    report = command.check(discovery.find("submissions", str(write(tmp_path, "contrib.sam"))))
    assert report.passed, report.findings


def test_a_submission_that_ends_its_process_or_waits_for_ever_is_a_finding(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(child, "MAX_EXPORT_S", 12.0)
    monkeypatch.setattr(command, "demo", list)
    for name, end, says in (
        ("dies", "os._exit(3)", "the process that makes its program ended: exit code 3: no answer"),
        ("waits", "time.sleep(3600)", "no program within 12 s; tracing goes on without end"),
    ):
        folder = tmp_path / name
        shutil.copytree(ROOT / "tests/faults/wrong_return", folder, ignore=shutil.ignore_patterns("__pycache__"))
        info = (folder / "submission.yaml").read_text()
        (folder / "submission.yaml").write_text(info.replace("wrong_return", name))
        source = f"import os, time\nprint('no answer', flush=True)\ndef build(task, hp):\n    {end}\n"
        (folder / "submission.py").write_text(source)
        report = command.check(discovery.find("submissions", str(folder)))
        assert [report.mark(check) for check in ("export", "again", "training")] == ["FAILED", "not run", "not run"]
        ((finding, workloads),) = [pair for pair in report.grouped() if pair[0].check == "export"]
        assert says in finding.message
        assert len(workloads) == 4


def test_debug_shows_what_is_printed(tmp_path: Path, capfd) -> None:
    folder = tmp_path / "prints"
    shutil.copytree(ROOT / "tests/faults/calls_back", folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in (
        ("submission.yaml", "calls_back", "prints"),
        ("submission.py", "jax.debug.callback(look, state.step)", "jax.debug.print('at {}', state.step)"),
    ):
        (folder / file).write_text((folder / file).read_text().replace(old, new))
    assert cli.main(["check", str(folder), "--debug"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == f"{folder} on quadratic: in one process, for debugging; nothing is checked"
    assert [line for line in lines if line.startswith("at ")] == [f"at {n}" for n in range(20)]
    assert lines[-2].startswith("step 20: loss ")
    assert lines[-1] == f"what Python keeps between steps shows in `harness check {folder}` alone, without --debug"
    assert cli.main(["check", f"{ROOT}/tests/faults/calls_back", "--debug", "--workload", "shrunk_gpt"]) == 1
    assert "ValueError: seven is too many" in capfd.readouterr().err


def test_debug_of_a_single_file_names_the_file(tmp_path: Path, capfd, monkeypatch) -> None:
    (tmp_path / "mine.py").write_text(
        "import optax\nDEFAULTS = {'lr': 0.1}\nbuild = lambda t, hp: optax.sgd(hp['lr'])\n"
    )
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check", "mine.py", "--debug"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("mine.py on quadratic: ") and "`harness check mine.py` alone" in lines[-1]


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
