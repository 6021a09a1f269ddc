"""Tables that fit a terminal by breaking lines between words, and stay whole, plain text in a pipe or a file."""

from __future__ import annotations

import itertools
import sys
import textwrap
from collections.abc import Iterable, Sequence

from rich.console import Console

_PIPE_WIDTH = 100_000  # nothing is broken where no person's screen ends
_WORD = 16  # longer words (paths) may be broken
_GAP = "  "


def print_line(text: str = "", *, style: str | None = None) -> None:
    """Print one line of text, taken literally; `style` shows on a terminal only."""
    _console().print(text, style=style, soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows below their headings. A heading that starts with `>` names a column of numbers, set to the right."""
    body = [list(row) for row in rows]
    heading, *lines = layout(columns, body, _console().width)
    for line in heading:
        print_line(line, style="bold")
    for line in itertools.chain(*lines):
        print_line(line)


def layout(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Return the lines of the headings, then those of each row.

    No line is longer than `width`, unless the longest words side by side are: then those stand as they are.
    """
    cells = [[column.removeprefix(">") for column in columns], *rows]
    natural = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    least = [max((min(_WORD, len(w)) for row in cells for w in row[i].split()), default=0) for i in range(len(columns))]
    widths = _shrunk(natural, least, width - len(_GAP) * (len(columns) - 1))
    right = [column.startswith(">") for column in columns]
    return [_row_lines(row, widths, right) for row in cells]


def _shrunk(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Take from the widest column that can give until all fit."""
    widths = list(natural)
    while sum(widths) > room:
        able = [i for i in range(len(widths)) if widths[i] > max(1, least[i])]
        if not able:
            break
        widths[max(able, key=lambda i: widths[i])] -= 1
    return widths


def _row_lines(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    wrapped = [
        [cell] if len(cell) <= width else textwrap.wrap(cell, width, break_on_hyphens=False)
        for cell, width in zip(row, widths, strict=True)
    ]
    return [
        _GAP.join(
            part.rjust(width) if to_right else part.ljust(width)
            for part, width, to_right in zip(parts, widths, right, strict=True)
        ).rstrip()
        for parts in itertools.zip_longest(*wrapped, fillvalue="")
    ]


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, markup=False, emoji=False)
