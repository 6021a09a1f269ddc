"""What workloads declare, without data: constants, targets, the measurement grid, and that none of it needs jax."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys

import pytest

from harness.api import LossKind
from harness.errors import WorkloadError
from harness.program import discovery
from harness.program.workload import (
    GPU_MEASUREMENTS,
    MEASUREMENTS,
    SMALL,
    UNSET,
    Target,
    WorkloadInfo,
    next_measurement,
    read_target,
)

FOLDERS = discovery.find_all("workloads")
INFO = WorkloadInfo(
    name="x", description="", metric="loss", mode="min", target=Target(0.5, 0, 10, 0.1), batch_size=1, step_hint=200,
    num_train_examples=1, loss_kind=LossKind.MEAN_SQUARED_ERROR,
)  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_constants(name: str) -> None:
    info = discovery.workload_info(FOLDERS[name])
    assert info.name == name
    assert info.step_hint > 0
    assert info.step_hint % 200 == 0
    assert info.batch_size <= info.num_train_examples
    assert not info.scored or (FOLDERS[name].path / "README.md").is_file()


@pytest.mark.parametrize("name", FOLDERS)
def test_dispatches_end_on_every_measurement(name: str) -> None:
    info = discovery.workload_info(FOLDERS[name])
    steps = [0]
    while steps[-1] < info.step_hint:
        steps.append(next_measurement(info.step_hint, steps[-1], info.measurements))
    for platform, length in info.dispatch_steps.items():
        assert [step for step in steps if step % length] == [], f"{length} steps a call on {platform}"


@pytest.mark.parametrize("name", FOLDERS)
def test_a_value_on_each_side_of_the_target(name: str) -> None:
    """A metric in the wrong direction would be met at once, or never."""
    info = discovery.workload_info(FOLDERS[name])
    assert info.mode == {"loss": "min", "accuracy": "max"}[info.metric]
    if info.target.value is None:
        return
    better, worse = (math.nextafter(info.target.value, sign * math.inf) for sign in (-1, 1))
    if info.mode == "max":
        better, worse = worse, better
    assert [info.meets(value) for value in (better, info.target.value, worse)] == [True, True, False]
    assert info.floor is None or info.meets(info.floor), "the target can be reached"
    assert not info.meets(None)


@pytest.mark.parametrize("name", [name for name in FOLDERS if discovery.workload_info(FOLDERS[name]).small])
def test_the_small_form_changes_batch_schedule_and_grid_and_has_no_target(name: str) -> None:
    info, small = (discovery.workload_info(FOLDERS[name], variant) for variant in (None, SMALL))
    assert info.small is not None
    assert (small.batch_size, small.step_hint) == (info.small.batch_size, info.small.step_hint)
    assert (info.measurements, small.measurements, small.target, small.variant) == (
        GPU_MEASUREMENTS,
        MEASUREMENTS,
        UNSET,
        SMALL,
    )


def test_information_needs_no_jax() -> None:
    """Listing and planning read every workload's constants; waiting for jax would take seconds."""
    code = """if True:
        import sys
        from harness.program import discovery
        for folder in discovery.find_all("workloads").values():
            discovery.workload_info(folder)
        sys.exit("jax was imported" if "jax" in sys.modules else 0)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_meets_counts_equality_and_never_nan() -> None:
    assert INFO.meets(0.5)
    assert INFO.meets(0.4)
    assert not INFO.meets(0.6)
    assert not INFO.meets(float("nan"))
    larger = dataclasses.replace(INFO, mode="max")
    assert larger.meets(0.5)
    assert larger.meets(0.6)
    assert not larger.meets(0.4)
    assert not larger.meets(float("nan"))
    assert not dataclasses.replace(INFO, target=UNSET).meets(0.0)


def test_target_file(tmp_path) -> None:
    entry = str(tmp_path / "workload.py")
    assert read_target(entry) == UNSET
    fields = {"value": 0.1234, "version": 1, "steps_to_target": 540, "reference_step_s": 0.02}
    (tmp_path / "target.json").write_text(json.dumps(fields))
    assert read_target(entry) == Target(0.1234, 1, 540, 0.02)
    assert read_target(entry).budget_steps == 1080
    (tmp_path / "target.json").write_text(json.dumps(fields | {"valeu": 1}))
    with pytest.raises(WorkloadError, match=r"target\.json: unknown key 'valeu'; did you mean 'value'"):
        read_target(entry)
