"""`harness publish` and what a board takes of it: whose sources are packed, and what is left out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from written_runs import write_run

from harness.check.findings import CHECKS
from harness.check.findings import Finding as Found
from harness.check.findings import Report as CheckReport
from harness.errors import RunFolderError, SubmissionError
from harness.program import processes, ramps
from harness.program.discovery import Folder
from harness.record import pack, run_folder
from harness.record.spec import Options
from harness.verify import packed_sources, publish

FILE = "DEFAULTS = {'learning_rate': 0.1}\ndef build(task, hp): ...\n"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """The folder that a file mine.py of the working folder becomes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    return ramps.find("mine")


def record(root: Path, folder: Folder) -> Any:
    spec = write_run(root, 3.0, studies=1, trials=1, submission="mine", submission_hash=folder.source_hash,
                     hyperparameters={"learning_rate": 0.1})  # fmt: skip
    trial = run_folder.read_trial(root / spec.folder)
    options = Options("w", str(folder.path))
    home = Folder("workloads", "lm", Path("w"))
    return SimpleNamespace(trial=trial, submission=folder, options=options, home=home, place="runs/x")


def test_a_single_file_is_refused_before_it_is_packed(mine: Folder, tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match=r"^mine.py is not published: .*README.md; `harness new mine` writes one"):
        publish.check_submissions([mine])
    later = tmp_path / "submissions" / "mine"
    later.mkdir(parents=True)
    (later / "submission.py").write_text(FILE)
    with pytest.raises(SubmissionError, match="submissions/mine makes other programs than ran"):
        publish.check_submissions([mine])


def test_what_is_found_under_the_name_now_is_packed_where_it_makes_the_same_programs(
    mine: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = record(tmp_path / "runs", mine)
    later = tmp_path / "submissions" / "mine"
    later.mkdir(parents=True)
    (later / "submission.py").write_text(FILE)
    about = "name: mine\ndescription: x\nauthors: [x]\nlicence: x\ntuning: self\ndefaults: {learning_rate: 0.1}\n"
    (later / "submission.yaml").write_text(about)
    made = {"id": "p"}
    monkeypatch.setattr(processes, "program_ids", lambda wanted: [processes.Found("w", (made["id"],)) for _ in wanted])
    (folder,) = packed_sources.of_records([one]).values()
    assert folder.path == later
    (later / "submission.yaml").write_text(about.replace("0.1", "0.2"))
    (folder,) = packed_sources.of_records([one]).values()
    assert folder.path == mine.path, "at these defaults it did not run"
    (later / "submission.yaml").write_text(about)
    made["id"] = "another"
    (folder,) = packed_sources.of_records([one]).values()
    assert folder.path == mine.path
    one.submission = None
    with pytest.raises(RunFolderError, match=r"runs/x: the sources of mine are gone"):
        packed_sources.of_records([one])


def test_what_a_board_refuses_is_named_as_the_pack_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(folder: Folder) -> CheckReport:
        return CheckReport("mine", "x", (Found("metadata", f"{folder.path}/README.md is missing"),), frozenset(CHECKS))

    monkeypatch.setattr(publish, "check", check)
    about: Any = SimpleNamespace(submissions=[pack.Source("mine", "s1", "submissions/mine-s1/mine", None)])
    with pytest.raises(SubmissionError) as told:
        publish._check_packed(Path("mine.tar.xz"), about, tmp_path)
    assert "mine.tar.xz:submissions/mine-s1/mine/README.md is missing" in str(told.value)
    assert str(tmp_path) not in str(told.value)


def test_what_score_leaves_out_is_left_out_of_a_pack(tmp_path: Path) -> None:
    def write(**fields: Any) -> Any:
        spec = write_run(tmp_path, 3.0, studies=1, trials=1, **fields)
        return SimpleNamespace(trial=run_folder.read_trial(tmp_path / spec.folder))

    own, variant = write(seed=0), write(seed=0, variant="wide")
    by_hand = write(seed=0, by_hand=True, hyperparameters={"lr": 0.1, "floor": 1.0})
    told: list[str] = []
    assert publish.scored([own, by_hand, variant], told.append) == [own, variant]
    (note,) = told
    assert "by hp.NAME, an experiment" in note and by_hand.trial.path.name in note
