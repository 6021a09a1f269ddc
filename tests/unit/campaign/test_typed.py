"""Submissions as they are typed: the nearest file, and errors that name the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.campaign import typed
from harness.errors import ConfigError, SubmissionError
from harness.program.discovery import Folder


def test_a_file_that_is_not_there_is_met_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "signy.py").write_text("def build(task, hp): ...\n")
    with pytest.raises(ConfigError, match=r"singy\.py: there is no such file; did you mean 'signy\.py'\? `harness new"):
        typed.find(str(tmp_path / "singy.py"))
    assert typed.find(str(tmp_path / "signy.py")).name == "signy"


def test_an_error_names_the_file_that_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def build(task, hp): ...\n")
    folder = typed.find("mine.py")
    told = typed.of_own_file(
        SubmissionError(f"{folder.path}/submission.py:3: counts; {folder.path}/submission.py"), folder
    )
    assert isinstance(told, SubmissionError) and str(told) == "mine.py:3: counts; mine.py"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("mine: build must return an x, got NoneType", "got NoneType: is a `return` missing?"),
        ("mine: ValueError in step: pytree structure error: different", "error (optax's `update` returns (updates, st"),
        ("mine: control must return a y, got int", "got int"),
    ],
)
def test_what_is_often_behind_an_error_stands_in_it(tmp_path: Path, said: str, told: str) -> None:
    folder = Folder("submissions", "mine", tmp_path)
    assert told in str(typed.of_own_file(SubmissionError(said), folder))
