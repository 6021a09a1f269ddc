"""What unit tests share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.program import processes
from harness.search import sweeps

sys.path.insert(0, str(Path(__file__).parent))

import stand_ins


@pytest.fixture
def no_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan and search fake submissions without exporting them or starting a process."""
    monkeypatch.setattr(processes, "program_ids", stand_ins.program_ids)
    monkeypatch.setattr(sweeps, "started", stand_ins.started)
