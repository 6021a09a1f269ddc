"""The queue for a card, end to end on a CPU: packed here, run there with little beside jax, killed and taken up."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_queue_is_rehearsed_where_it_is_unpacked_killed_and_taken_up(tmp_path, bare, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from cards import transport

    transport.pack(tmp_path / "pieces", sets=())
    copy, file = tmp_path / "copy", tmp_path / "out" / "records.tar.gz"
    with tarfile.open(tmp_path / "pieces" / "0" / "project.tar.xz") as tar:
        tar.extractall(copy, filter="data")
    hidden = (bare / "sitecustomize.py").read_text()
    hidden = hidden.replace('"rich", ', "")  # flax brings it
    (bare / "sitecustomize.py").write_text(hidden)
    environment = os.environ | {"PYTHONPATH": str(bare), "HARNESS_CACHE": str(tmp_path / "cache")}
    command = [
        sys.executable,
        str(copy / "scripts" / "card.py"),
        "--rehearse",
        "--minutes",
        "8",
        "--archive",
        str(file),
    ]
    journal = copy / "results" / "rehearsal" / "queue.jsonl"

    def lines():
        return [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []

    first = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL)
    while not lines():
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()  # a step is at work, and goes with it
    first.wait()
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    ended = lines()
    names = [line["step"] for line in ended]
    assert len(set(names)) == len(names), "nothing is done twice"
    assert names[:2] == ["doctor", "bench a of rehearsed"]
    failed = [line for line in ended if line["status"] != "done"]
    assert [line["step"] for line in failed] == ([] if importlib.util.find_spec("torch") else ["bench c of rehearsed"])
    assert all("No module named 'torch'" in "\n".join(line["log"]) for line in failed), "why is in the record"
    values = {line["step"]: line["values"] for line in ended}
    assert values["doctor"]["bf16_tflop_per_s"] > 0
    assert values["profile rehearsed"]["longest"][0]["ms"] > 0
    assert set(values["compile rehearsed"]["each_s"]) == {"adamw", "nadamw", "muon"}
    assert values["adamw on rehearsed"]["seeds"] == 2
    assert values["adamw on rehearsed"]["later_beside_s"] < values["adamw on rehearsed"]["first_beside_s"]
    assert "steps are left on rehearsal" in done.stdout
    with tarfile.open(file) as tar:
        kept = tar.getnames()
    assert {"results/rehearsal/queue.jsonl", "results/rehearsal/bench.jsonl"} <= set(kept)
    assert {"results/targets/rehearsed.jsonl", "workloads/rehearsed/target.json"} <= set(kept)
    assert sum(name.startswith("runs/rehearsal/rehearsed/adamw/study") and name.endswith("result.json") for name in kept) == 3  # fmt: skip # noqa: E501
