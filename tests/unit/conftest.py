"""What unit tests share."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.campaign.launch import local
from harness.program import processes
from harness.search import sweeps

sys.path.insert(0, str(Path(__file__).parent))

import fake_place
import stand_ins


@pytest.fixture
def no_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan and search fake submissions without exporting them or starting a process."""
    monkeypatch.setattr(processes, "program_ids", stand_ins.program_ids)
    monkeypatch.setattr(sweeps, "started", stand_ins.started)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_exports: None) -> Path:
    """A working folder with a workload, a suite of it, two submissions, and a script in the worker's place."""
    fake_place.fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    command = (sys.executable, str(tmp_path / "worker.py"))
    monkeypatch.setattr(local, "run_trial", functools.partial(local.run_trial, command=command))
    return tmp_path


@pytest.fixture
def signals() -> Iterator[None]:
    """Take back the handlers that a job sets which the test runs in this process."""
    held = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)}
    yield
    for number, handler in held.items():
        signal.signal(number, handler)
