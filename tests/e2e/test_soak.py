"""scripts/soak.py in short: real campaigns, some faults, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = "kill -9 worker,kill -9 parent,kill -9 controller,damaged checkpoint,damaged log"


@pytest.mark.skipif(sys.platform != "linux", reason="the soak reads /proc")
def test_nothing_is_lost(tmp_path):
    command = [sys.executable, str(ROOT / "scripts/soak.py"), "--rounds", "5", "--seed", "7", "--forms", "control"]
    command += ["--kinds", KINDS, "--out", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=environment)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    found = [json.loads(line) for file in tmp_path.glob("lane-*.jsonl") for line in file.read_text().splitlines()]
    assert len(found) == 5
    assert sum(len(one["faults"]) for one in found) >= 5
    (all_,) = [line.split() for line in done.stdout.splitlines() if line.startswith("all ")]
    assert all_[4:] == ["0"] * 5, "lost, bits, ledger, left over, status"
