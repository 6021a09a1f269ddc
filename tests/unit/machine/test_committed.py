"""A record says truly whether the submission that ran is in a commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.machine import hardware


def git(where: Path, *words: str) -> None:
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "-C", str(where), *author, *words], check=True, capture_output=True)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A submission in a repository, committed."""
    folder = tmp_path / "submissions" / "mine"
    folder.mkdir(parents=True)
    (folder / "submission.py").write_text("one\n")
    (tmp_path / ".gitignore").write_text("*.secret\n__pycache__/\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    return folder


def dirty(folder: Path) -> bool:
    found = hardware.committed(folder)
    assert found is not None
    assert len(found["commit"]) == 40
    return bool(found["dirty"])


def test_what_is_committed_is_clean(mine: Path) -> None:
    assert not dirty(mine)
    (mine.parent / "other.txt").write_text("untracked, beside it\n")
    (mine / "__pycache__").mkdir()
    (mine / "__pycache__" / "submission.cpython-311.pyc").write_text("")
    assert not dirty(mine)


def test_what_is_not_in_the_commit_is_dirty(mine: Path) -> None:
    (mine / "submission.py").write_text("two\n")
    assert dirty(mine), "changed"
    git(mine, "add", ".")
    assert dirty(mine), "staged"
    git(mine, "commit", "-qm", "two")
    assert not dirty(mine)
    (mine / "helper.py").write_text("")
    assert dirty(mine), "a file of it is untracked"
    (mine / "helper.py").unlink()
    (mine / "table.secret").write_text("")
    assert dirty(mine), "a file of it is ignored"
    (mine / "table.secret").unlink()
    (mine / "submission.py").unlink()
    assert dirty(mine), "deleted"


def test_a_folder_that_git_does_not_know(mine: Path, tmp_path: Path) -> None:
    new = mine.with_name("new")
    new.mkdir()
    assert dirty(new), "nothing of it is tracked"
    (new / "submission.py").write_text("")
    assert dirty(new), "untracked"
    (tmp_path / ".gitignore").write_text("new/\n")
    assert dirty(new), "ignored"


def test_outside_of_any_repository_there_is_no_commit(tmp_path: Path) -> None:
    assert hardware.committed(tmp_path) is None
    told = hardware.git(tmp_path)
    assert told is None or told["dirty"], "the harness's own commit does not hold it"


def test_a_folder_of_another_repository_is_not_in_the_commit_of_the_harness(mine: Path) -> None:
    told = hardware.git(mine)
    assert told is None or told["dirty"]
