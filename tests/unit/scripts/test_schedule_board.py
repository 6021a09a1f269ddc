"""scripts/schedule_board.py: every schedule becomes a submission, and all of them are searched alike."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import jax
import pytest

from harness.errors import ConfigError
from harness.optim import more_schedules, schedules
from harness.program import discovery, submission
from harness.program.build import build_algorithm, task_view
from harness.program.discovery import Folder
from harness.program.search_space import draw_points

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import schedule_board

    return schedule_board


def test_every_schedule_becomes_a_submission_with_the_same_search(board: Any, tmp_path: Path) -> None:
    names = board.schedules()
    assert len(names) == 13
    folders = [Folder("submissions", f"adamw_{name}", board.write(name, tmp_path)) for name in names]
    workload = discovery.load_workload(discovery.find("workloads", "quadratic"))
    task, points = task_view(workload, workload.info.budget_steps), []
    for name, folder in zip(names, folders, strict=True):
        info = submission.read_info(folder)
        assert info.defaults["schedule"] == name
        drawn = draw_points(info, tuple(info.space), 5, 0)
        points.append([{key: value for key, value in point.items() if key != "schedule"} for point in drawn])
        algorithm = build_algorithm(folder, task, info.defaults)
        jax.eval_shape(algorithm.init, task.params, jax.eval_shape(lambda: jax.random.key(0)))
    assert all(drawn == points[0] for drawn in points)
    assert submission.read_info(discovery.find("submissions", "adamw")).space.keys() == info.space.keys()


def test_no_schedule_is_missing(board: Any) -> None:
    """A function of (step, total) in the modules of schedules is on the board; a warm-up alone is none."""
    written = {
        name
        for module in (schedules, more_schedules)
        for name, function in vars(module).items()
        if inspect.isfunction(function) and [*inspect.signature(function).parameters][:2] == ["step", "total"]
    }
    assert written - {"linear_warmup"} < {*board.schedules()}


def test_written_again_nothing_changes(board: Any, tmp_path: Path) -> None:
    folder = board.write("wsd_s", tmp_path)
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert board.write("wsd_s", tmp_path) == folder
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_an_unknown_schedule_is_refused(board: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'one_cycle'"):
        board.write("onecycle", tmp_path)
