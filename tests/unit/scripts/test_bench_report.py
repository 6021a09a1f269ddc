"""What `scripts/bench_report.py` writes is what `harness report` reads."""

from __future__ import annotations

import runpy
from pathlib import Path

from harness.record import run_folder

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "bench_report.py"


def test_run_folders_are_finished_trials(tmp_path: Path) -> None:
    made = runpy.run_path(str(SCRIPT))
    made["write_runs"](tmp_path, 60)
    trials = [run_folder.read_trial(path) for path in run_folder.find_trials(tmp_path)]
    assert len(trials) == 60
    assert {len(trial.measurements) for trial in trials} == {made["MEASUREMENTS"]}
    assert {trial.spec.study for trial in trials} == {0, 1}
    for trial in trials:
        assert trial.result is not None
        assert (trial.hit is None) == (trial.status != "target_reached") == (trial.result.time_to_target is None)
