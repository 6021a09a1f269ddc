"""Tables: whole in a pipe, whole words in a narrow terminal."""

from __future__ import annotations

import io
import sys

import pytest

from harness.report import tables

HEADINGS = ["submission", "status", ">time to target", ">x best", ">steps", ">wall s", ">cpu s", ">test loss"]
ROW = ["adamw", "budget_exhausted", "1234.56", "12.345", "600", "1234.56", "1234.56", "0.4567"]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_narrow_terminal_breaks_lines_and_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    tables.print_table(HEADINGS, [ROW])
    heading, last = terminal.getvalue().splitlines()[1:]
    assert "target" in heading
    assert last.split() == ROW
    assert len(last) <= 80


@pytest.mark.parametrize("width", [80, 90, 100, 200])
def test_no_line_is_longer_than_the_width(width: int) -> None:
    lines = [line for row in tables.layout(HEADINGS, [ROW], width) for line in row]
    assert max(map(len, lines)) <= width
    assert set(ROW) <= set(" ".join(lines).split())


def test_what_does_not_fit_is_not_left_out() -> None:
    lines = [line for row in tables.layout(HEADINGS, [ROW], 20) for line in row]
    assert set(ROW) <= set(" ".join(lines).split())


def test_by_hand() -> None:
    rows = [["a", "one two three", "1"], ["bb", "", "1000"]]
    assert tables.layout(["x", "text", ">n"], rows, 100) == [
        ["x   text              n"],
        ["a   one two three     1"],
        ["bb                 1000"],
    ]
    assert tables.layout(["x", "text", ">n"], rows, 17) == [
        ["x   text        n"],
        ["a   one two     1", "    three"],
        ["bb           1000"],
    ]


def test_a_pipe_gets_each_row_on_one_line_as_typed(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_table(["name", ">number"], [["[bold]as typed[/bold] :smile: " * 20, "1"], ["b", "100"]])
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["name", "number"]
    assert first.startswith(("[bold]as typed[/bold] :smile: " * 20).strip() + " ")
    assert first.endswith("  1")
    assert second.endswith("  100")


def test_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_table(["name", ">number"], [])
    assert capsys.readouterr().out == "name  number\n"
