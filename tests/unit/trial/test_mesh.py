"""Where arrays lie over several devices, and that a step agrees there with one device's, in processes that have 8."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from harness.errors import MachineError
from harness.machine import children
from harness.trial.mesh import AXIS, Layout, layout_of

ROOT = Path(__file__).resolve().parents[3]


def spec(shape: tuple[int, ...], sharding: str, devices: int = 8) -> PartitionSpec:
    return Layout(AbstractMesh((devices,), (AXIS,)), sharding).of(shape).spec


def test_the_longest_axis_that_the_devices_divide_is_split():
    assert spec((16, 64), "fsdp") == PartitionSpec(None, AXIS)
    assert spec((16, 16), "fsdp") == PartitionSpec(AXIS)
    assert spec((3, 99, 8), "fsdp") == PartitionSpec(None, None, AXIS)
    for shape in ((), (7,), (12, 20)):
        assert spec(shape, "fsdp") == PartitionSpec(), "8 divides none"
    assert spec((12, 20), "fsdp", devices=4) == PartitionSpec(None, AXIS)
    assert spec((16, 64), "replicated") == PartitionSpec()


def test_one_device_has_no_layout_and_too_few_are_told():
    assert layout_of(1) is None
    with pytest.raises(MachineError, match=r"^devices=64: there are \d+ here; ask for as many at most"):
        layout_of(64)


def rows(*words: str) -> dict[tuple[str, str], dict[str, str]]:
    """Run the script on 8 devices and return its rows by submission and sharding."""
    command = [sys.executable, str(ROOT / "scripts" / "bench_scaling.py"), *words, "--counts", "8", "--seconds", "0"]
    environment = children.environment()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    head, _, *lines = (line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|"))
    found = [dict(zip(head, line, strict=True)) for line in lines]
    return {(row["submission"], row["sharding"]): row for row in found}


def test_steps_agree_with_one_device_and_are_split():
    """The script fails where 20 losses or the evaluation differ by more than 1e-4. This one evaluates an average."""
    (row,) = rows("schedule_free_adamw", "--workload", "shrunk_gpt", "--sharding", "fsdp").values()
    assert float(row["flops"]) < 0.2
    assert float(row["evaluation"]) < 0.2
    assert float(row["MB sent"]) > 0


def test_each_device_orthogonalises_some_of_the_matrices():
    """Where all did all of them, it would be 0.21 of one device's operations."""
    (row,) = rows("muon", "--workload", "lm_grammar", "--sharding", "replicated").values()
    assert float(row["flops"]) <= 0.14
    assert row["repeated"] == "0"


def test_batch_statistics_are_those_of_the_whole_batch():
    (row,) = rows("adamw", "--workload", "shrunk_resnet", "--sharding", "replicated").values()
    assert float(row["flops"]) < 0.2
