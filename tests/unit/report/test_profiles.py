"""`harness run profile=true`: one trace for each submission on each workload, told in a table and in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fake_place
import pytest

from harness.campaign.launch import profiling
from harness.cli import main as cli
from harness.errors import HarnessError

WORDS = ("run", "suite=mine", "device=cpu", "tensorboard=false", "profile=true", "good", "crash", "studies=2")
FOUND = {
    "steps": 20, "wall_s": 0.2, "trace": "somewhere/vm.xplane.pb",
    "operations": [
        {"name": "fusion.1", "kind": "fusion", "source": "jit(step)/dot_general", "count": 60, "seconds": 0.12,
         "share": 0.6},
    ],
}  # fmt: skip


@pytest.fixture
def traced(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    paths: list[Path] = []

    def profile(path: Path) -> dict[str, Any]:
        paths.append(path)
        return FOUND

    fake_place.add(place, "crash")
    monkeypatch.setattr(profiling, "profile", profile)
    return paths


def test_the_dearest_operations_are_named(traced: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*WORDS]) == 1
    (path,) = traced  # the first study of what has ended
    assert path.parent.name == "good" and path.name.startswith("study0")
    out = capsys.readouterr().out
    assert "\ntask / good: 20 steps of 10.00 ms under the profiler\n" in out
    (row,) = (line.split() for line in out.splitlines() if line.startswith("fusion.1"))
    assert row == ["fusion.1", "fusion", "6.000", "60.0%", "3", "jit(step)/dot_general"]
    assert "the whole trace: somewhere/vm.xplane.pb" in out
    assert cli.main([*WORDS, "--json"]) == 1
    (told,) = json.loads(capsys.readouterr().out)["profiles"]
    assert (told["workload"], told["submission"], told["operations"]) == ("task", "good", FOUND["operations"])


def test_a_trace_that_fails_leaves_the_scores(
    traced: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(path: Path) -> None:
        raise HarnessError(f"{path}: no trace: no room")

    monkeypatch.setattr(profiling, "profile", fails)
    assert cli.main([*WORDS]) == 2
    told = capsys.readouterr()
    assert "no trace: no room" in told.err and "target_reached" in told.out


def test_none_without_the_key(traced: list[Path]) -> None:
    assert cli.main([word for word in WORDS if word != "profile=true"]) == 1
    assert traced == []
