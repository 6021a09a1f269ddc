"""Compute classes: the best metric by a time, out of run folders as trials write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import written_runs

from harness.errors import ConfigError, RunFolderError
from harness.record import run_folder
from harness.record.result import Status
from harness.record.run_folder import Trial
from harness.report import compute_classes as shown
from harness.scoring.compute_classes import Class, Table, read_classes, tables


def trials(root: Path) -> list[Trial]:
    return [run_folder.read_trial(path) for path in run_folder.find_trials(root)]


def table(root: Path, at: str, **options) -> Table:
    (found,), _, _ = tables(trials(root), read_classes(at), **options)
    return found


def test_the_best_by_then(tmp_path: Path) -> None:
    """Five measurements, 2.0, 1.2, 0.8, 0.6 and 0.45, at equal distances to the end."""
    written_runs.write_run(tmp_path, 10.0, submission="fast")
    written_runs.write_run(tmp_path, 20.0, submission="slow", missed=True)
    small, middle, large = table(tmp_path, "1,8,40").rows
    assert [small.cells[name].value for name in ("fast", "slow")] == [None, None] and small.best is None
    assert small.cells["fast"].unmeasured == 1
    assert middle.cells["fast"].value == 0.6, "at 8 s, to the second"
    assert middle.cells["slow"].value == pytest.approx(1.3) and middle.best == "fast"
    assert large.cells["fast"].value == 0.45 and large.cells["slow"].value == pytest.approx(0.55)
    assert table(tmp_path, "4").rows[0].best == "fast"
    written_runs.write_run(tmp_path, 10.0, submission="twin")
    assert table(tmp_path, "4").rows[0].best is None, "two are as good"
    assert large.cells["fast"].cut_short == 1, "it ended at its target, and would have gone on"
    assert large.cells["slow"].cut_short == middle.cells["fast"].cut_short == 0


def test_another_clock(tmp_path: Path) -> None:
    written_runs.write_run(tmp_path, 10.0)
    assert table(tmp_path, "8", clock="wall").rows[0].cells["adamw"].value == 1.2, "wall time is twice as long"
    with pytest.raises(RunFolderError, match="the energy clock was not measured there"):
        table(tmp_path, "8", clock="energy")


def test_medians_over_studies(tmp_path: Path) -> None:
    for study, seconds in enumerate((10.0, 20.0, 40.0)):
        written_runs.write_run(tmp_path, seconds, study=study, studies=3, trials=1)
    cell = table(tmp_path, "8").rows[0].cells["adamw"]
    assert (cell.value, cell.low, cell.high, cell.studies) == (1.2, 0.6, 2.0, 3)
    written_runs.write_run(tmp_path, 90.0, study=3, studies=4, trials=1)
    cell = table(tmp_path, "8").rows[0].cells["adamw"]
    assert (cell.value, cell.unmeasured) == (2.0, 1), "of an even number the worse of the two in the middle"


def unfinished(root: Path, status: Status | None, study: int, upto: int) -> None:
    """Have a study stop after so many measurements; without a status it is as killed."""
    spec = written_runs.write_run(root, 10.0, study=study, studies=4, trials=1)
    path = root / spec.folder
    lines = (path / "log.jsonl").read_bytes().splitlines(keepends=True)
    (path / "log.jsonl").write_bytes(b"".join(lines[: 1 + upto]))
    result = json.loads((path / "result.json").read_text())
    (path / "result.json").unlink()
    if status:
        (path / "result.json").write_text(json.dumps(result | {"status": status}))


def test_what_is_not_finished_has_not_ended(tmp_path: Path, capsys) -> None:
    """Two of four studies are there: one is at 8 s and runs, one at 4 s and is interrupted."""
    unfinished(tmp_path, None, 0, 4)
    unfinished(tmp_path, Status.INTERRUPTED, 1, 2)
    (running,) = (path for path in run_folder.find_trials(tmp_path) if not (path / "result.json").exists())
    with run_folder.hold(running):
        found = tables(trials(tmp_path), read_classes("4,8,9"))
    cells = [row.cells["adamw"] for row in found[0][0].rows]
    assert [(cell.running, cell.interrupted) for cell in cells] == [(0, 0), (0, 1), (1, 1)]
    assert {(cell.studies, cell.expected, cell.cut_short) for cell in cells} == {(2, 4, 0)}
    assert [cell.value for cell in cells] == [1.2, 1.2, 1.2], "the worse of two"
    shown.print_classes(*found)
    out = capsys.readouterr().out
    assert "adamw       2 of 4, 1 running, 1 interrupted" in out and "~ a run is not at the end of its class" in out
    assert "of an even number of studies the median is the worse of the two in the middle" in out
    assert "a run ended" not in out
    assert shown.as_json(*found)["workloads"]["lm"]["classes"][2]["submissions"]["adamw"]["expected"] == 4


def test_where_larger_is_better(tmp_path: Path) -> None:
    written_runs.write_run(tmp_path, 10.0, mode="max", target=3.0, missed=True)
    assert table(tmp_path, "4,10").rows[1].cells["adamw"].value == pytest.approx(2.1)


def test_shares_of_the_budget(tmp_path: Path) -> None:
    written_runs.write_run(tmp_path, 10.0)  # 1000 steps of 0.01 s
    rows = table(tmp_path, "100%,4,80%").rows
    assert [(row.name, row.end) for row in rows] == [("4", 4.0), ("80%", 8.0), ("100%", 10.0)]
    assert [row.cells["adamw"].value for row in rows] == [1.2, 0.6, 0.45]
    written_runs.write_run(tmp_path / "other", 10.0, reference_step_s=0.0)
    with pytest.raises(ConfigError, match="lm: a share of its budget"):
        table(tmp_path / "other", "50%")


@pytest.mark.parametrize("text", ["", "0", "-1", "ten", "5,,6", "1e400", "10s", "."])
def test_what_is_no_class(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected seconds, or shares of the budget.*--at 10,20,40"):
        read_classes(text)
    assert read_classes("50%, 1e2") == (Class(0.5, True), Class(100.0))


def test_nothing_to_show() -> None:
    with pytest.raises(RunFolderError, match="no run that counts"):
        tables([], read_classes("1"))
