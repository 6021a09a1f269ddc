"""A trial on streamed token shards, killed, stopped by a shard that breaks, and gone on with once it is mended: it has
the bits of one whose arrays are on the device.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from harness.record import run_folder
from harness.record.result import Status
from harness.trial import EXIT_DATA

ROOT = Path(__file__).resolve().parents[2]
STEPS = 60  # over the border of an epoch of 39 steps and through 15 windows

RESIDENT = '''"""The GPT of shrunk_gpt on token shards beside this file."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.data.shards import Windows
from harness.program.streaming import StreamedData
from harness.program.workload import Data, Splits, split_shapes

from ..shrunk_gpt import workload as shrunk

COUNT = 313
INFO = replace(shrunk.INFO, name="resident_gpt", num_train_examples=COUNT, description="GPT on token shards")
SHAPES = split_shapes((COUNT, 32, 32, 32), {"tokens": ((17,), "uint16")})


def splits():
    held = [Windows([Path(__file__).with_name("val.bin")], 17, 11)[np.arange(n, n + 32)] for n in (0, 32)]
    train = Windows(sorted(Path(__file__).parent.glob("train*.bin")), 17, 11)[np.arange(COUNT)]
    return Splits({"tokens": train}, {"tokens": held[0]}, {"tokens": held[0]}, {"tokens": held[1]})


def data():
    from ..families import batches

    return Data(INFO, SHAPES, splits, batches.windows)


def load():
    from ..families import gpt

    return gpt.make(data(), shrunk.MODEL)
'''
STREAMED = (
    RESIDENT.replace("resident_gpt", "streamed_gpt")
    .replace("[np.arange(COUNT)]", "")
    .replace("return Data(INFO, SHAPES, splits, batches.windows)",
             "return StreamedData(INFO, SHAPES, splits, batches.windows, window_steps=4)")
)  # fmt: skip


def write_shard(path: Path, tokens: np.ndarray) -> None:
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, len(tokens)
    path.write_bytes(header.tobytes() + tokens.astype("<u2").tobytes())


@pytest.fixture
def workloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workloads on the same three shards: one streams them, the other holds them."""
    for name in ("families", "shrunk_gpt"):
        shutil.copytree(ROOT / "workloads" / name, tmp_path / "workloads" / name)
    for name, text in (("resident_gpt", RESIDENT), ("streamed_gpt", STREAMED)):
        folder = tmp_path / "workloads" / name
        folder.mkdir()
        (folder / "workload.py").write_text(text)
        rng = np.random.default_rng(0)
        for shard, size in (("train_0", 1700), ("train_1", 1650), ("train_2", 1665), ("val", 1100)):
            write_shard(folder / f"{shard}.bin", np.cumsum(rng.integers(0, 2, size)) % 11)
    monkeypatch.setenv("HARNESS_PATH", str(tmp_path))


def losses(trial) -> list[float]:
    return [loss for e in trial.events if e["event"] == "chunk" for loss in e["metrics"]["loss"]]


def test_streamed_killed_stopped_by_its_data_and_resumed_is_resident_bit_for_bit(
    workloads, make_trial, run_worker, start_worker, tmp_path
) -> None:
    whole = run_worker(make_trial("resident_gpt", "adamw", stop="horizon", max_steps=STEPS, out=tmp_path / "a"))
    assert (whole.status, whole.result.attempts, len(losses(whole))) == (Status.HORIZON_REACHED, 1, STEPS)

    path = make_trial("streamed_gpt", "adamw", stop="horizon", max_steps=STEPS, checkpoint_s=0.0, out=tmp_path / "b")
    worker = start_worker(path)
    worker.wait_for(lambda: [e for e in run_folder.read_events(path) if e["event"] == "checkpoint"])
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    killed = run_folder.read_trial(path)
    assert (killed.status, killed.reason) == (Status.INTERRUPTED, "killed; run again to go on")

    shard = tmp_path / "workloads" / "streamed_gpt" / "train_1.bin"
    held = shard.read_bytes()
    shard.write_bytes(held[:2000] + (500).to_bytes(2, "little") * 500 + held[3000:])
    assert start_worker(path).wait(120) == EXIT_DATA
    assert "train_1.bin: token 488 is 500, expected less than 11" in (path / "worker.log").read_text()
    stopped = run_folder.read_trial(path)
    assert (stopped.status, stopped.result) == (Status.INTERRUPTED, None)
    assert stopped.reason.startswith(f"{shard}: token 488 is 500") and stopped.reason.endswith("run again to go on")
    shard.write_bytes(held)

    resumed = run_worker(path)
    assert (resumed.status, resumed.result.attempts) == (Status.HORIZON_REACHED, 3)
    assert losses(resumed) == losses(whole)
    assert np.mean(losses(whole)[-5:]) < np.mean(losses(whole)[:5]), "it learns"
    assert resumed.result.final_hash == whole.result.final_hash
    assert [m.metrics for m in resumed.measurements] == [m.metrics for m in whole.measurements]
