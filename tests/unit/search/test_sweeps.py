"""Where the processes of a search run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.machine import children, hardware
from harness.program import discovery
from harness.search import sweeps


@pytest.mark.parametrize(("visible", "expected"), [(["0", "GPU-b"], ["0", "GPU-b", "0"]), ([], ["none"] * 3)])
def test_processes_take_turns_on_the_gpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: list[str], expected: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "visible_gpus", lambda: visible)
    says = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES', 'none'))"
    monkeypatch.setattr(children, "command", lambda *_: (sys.executable, "-c", says))
    assert sweeps.places("gpu") == max(1, len(visible))
    with sweeps.started(discovery.Folder("workloads", "w", tmp_path), 3, device="gpu") as pool:
        outs = [process.stdout for process in pool._processes]
        assert [out.readline().strip() for out in outs if out] == expected
