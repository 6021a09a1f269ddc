"""Stages on standard error: in one line of a terminal, as lines elsewhere, and none of what is done soon."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

from harness.campaign.counting import counted
from harness.program.discovery import Folder
from harness.program.processes import Wanted
from harness.report import stages


def wanted(workload: str, submission: str) -> Wanted:
    return Wanted(Folder("workloads", workload, Path()), Folder("submissions", submission, Path()), ({},), 100)


def told(text: str) -> list[str]:
    """Return lines without the seconds before them."""
    return [re.sub(r"^ *\d+s  ", "", line) for line in text.splitlines()]


def test_lines_elsewhere(capsys) -> None:
    with stages.shown("mine: ") as say:
        say("exporting")
        say("running")
    out, err = capsys.readouterr()
    assert (out, told(err)) == ("", ["mine: exporting", "mine: running"])


def test_what_is_done_soon_shows_none_and_what_takes_longer_its_present_stage(capsys) -> None:
    with stages.shown("mine: ", 60.0) as say:
        say("exporting")
    assert capsys.readouterr() == ("", "")
    with stages.shown("mine: ", 0.5) as say:
        say("exporting")
        say("running")
        time.sleep(1.0)
        say("stopping")
    assert told(capsys.readouterr().err) == ["mine: running", "mine: stopping"]


@pytest.mark.parametrize("plain", [True, False])
def test_one_line_of_a_terminal(capsys, monkeypatch, plain: bool) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    if plain:
        monkeypatch.setenv("NO_COLOR", "1")
    with stages.shown("mine: ", 60.0) as say:
        say("exporting")
        print("a table")
    out, err = capsys.readouterr()
    assert out == "a table\n", "what a file or pipe gets is left alone"
    assert re.search(r"\ds  mine: exporting", err)
    assert err.count("\n") <= 1 and "\x1b[1m" not in err and "\x1b[3" not in err


def test_programs_are_counted() -> None:
    told: list[str] = []
    tell = counted(told.append, [wanted("a", "x"), wanted("b", "x"), wanted("a", "y"), wanted("b", "y")])
    for name in ("a", "x on a", "y on a"):
        tell(name)
    assert told == [
        "a, program 1 of at most 6",
        "x on a, program 2 of at most 6",
        "y on a, program 3 of at most 6",
    ]
