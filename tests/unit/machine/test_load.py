"""What others use of the processors, by counters of the kernel written by hand."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.machine import load

OTHERS = load.others  # the fixture `quiet_machine` puts another in its place


def stat(path: Path, *cores: int) -> None:
    """Write counters: ticks that each core has worked, in three kinds, beside idle ones; a guest's count twice."""
    lines = [f"cpu{n} {used - 20} 10 5 {9000 - used} 40 0 0 5 {used - 20} 10" for n, used in enumerate(cores)]
    path.write_text("\n".join(["cpu  9 9 9 9 9 9 9 9 9 9", *lines, "intr 5"]))


def test_the_usable_cores_less_what_this_process_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "stat"
    monkeypatch.setattr(load, "_STAT", file)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(load, "_TICK_S", 0.01)
    clock = {"wall": 0.0, "cpu": 0.0}
    monkeypatch.setattr(time, "monotonic", lambda: clock["wall"])
    monkeypatch.setattr(time, "process_time", lambda: clock["cpu"])
    stat(file, 1000, 2000, 3000)

    def sleep(seconds: float) -> None:
        clock.update(wall=seconds, cpu=0.2 * seconds)
        stat(file, 1100, 2030, 9000)  # the third is not ours to run on

    monkeypatch.setattr(time, "sleep", sleep)
    assert OTHERS(1.0) == pytest.approx(1.0 + 0.3 - 0.2)
    file.write_text("cpu of another system")
    assert OTHERS(1.0) is None
    file.unlink()
    assert OTHERS(1.0) is None


def test_when_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "usable_cores", lambda: 2)
    assert load.warning(0.9).startswith("others use 0.9 of 2 cores now: calibrated seconds allow for most of that")  # type: ignore[union-attr]
    assert load.warning(0.2) is None and load.warning(None) is None
    monkeypatch.setattr(load, "usable_cores", lambda: 64)
    assert load.warning(2.0) is None, "the machine's own housekeeping"


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="a system that does not tell")
def test_it_takes_no_time() -> None:
    began = time.monotonic()
    assert (OTHERS() or 0.0) >= 0.0
    assert load.SAMPLE_S <= 0.2 and time.monotonic() - began < 5.0
