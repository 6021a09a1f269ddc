"""What `harness score --at` shows: the best metric of each submission within fixed numbers of seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from harness.record.run_folder import Trial
from harness.record.spec import Clock
from harness.report.tables import print_line, print_table
from harness.scoring import compute_classes
from harness.scoring.compute_classes import Cell, Row, Table
from harness.scoring.outcomes import UNITS

SCHEMA = 1


def of_trials(
    trials: Sequence[Trial], at: str, clock: Clock | None = None
) -> tuple[list[Table], Clock, tuple[str, ...]]:
    """Return the tables, the clock and notes; see `harness.scoring.compute_classes`."""
    return compute_classes.tables(trials, compute_classes.read_classes(at), clock)


def as_json(tables: Sequence[Table], clock: Clock, notes: Sequence[str]) -> dict[str, Any]:
    """Return what `--json` prints. Null stands for a value that there is not."""
    return {
        "schema": SCHEMA,
        "clock": clock,
        "unit": UNITS[clock],
        "workloads": {
            table.workload: {
                "metric": table.metric,
                "mode": table.mode,
                "classes": [
                    {
                        "name": row.name,
                        "end": row.end,
                        "best": row.best,
                        "submissions": {name: asdict(cell) for name, cell in row.cells.items()},
                    }
                    for row in table.rows
                ],
            }
            for table in tables
        },
        "notes": list(notes),
    }


def print_classes(tables: Sequence[Table], clock: Clock, notes: Sequence[str]) -> None:
    """Print a table for each workload: a row for each submission, a column for each class."""
    print_line(f"compute classes, in {UNITS[clock]}: the best metric by then", style="bold")
    for table in tables:
        side = "smaller" if table.mode == "min" else "larger"
        print_line(f"\n{table.workload}: {table.metric}, {side} is better", style="bold")
        names = list(table.rows[0].cells)
        rows = [[name, _studies(table, name), *(_cell(row, name) for row in table.rows)] for name in names]
        print_table(["submission", "studies", *(f">{_head(row)}" for row in table.rows)], rows)
    cells = [cell for table in tables for row in table.rows for cell in row.cells.values()]
    print_line()
    for text in (*_legend(cells), *(f"note: {note}" for note in notes)):
        print_line(text)


def _head(row: Row) -> str:
    return f"{row.name} ({row.end:.4g})" if row.name.endswith("%") else row.name


def _studies(table: Table, name: str) -> str:
    """How many studies are there, of those asked for, and which of them are not at the end of the largest class."""
    cell = table.rows[-1].cells[name]
    count = f"{cell.studies} of {cell.expected}" if cell.studies < cell.expected else f"{cell.studies}"
    left = [f"{number} {what}" for what in ("running", "interrupted") if (number := getattr(cell, what))]
    return ", ".join([count, *left])


def _cell(row: Row, name: str) -> str:
    cell = row.cells[name]
    if cell.value is None:
        return "-"
    spread = f" ({cell.low:.4g} to {cell.high:.4g})" if cell.studies - cell.unmeasured > 1 else ""
    marks = [(" +", cell.cut_short), (" ~", cell.running + cell.interrupted), (" *", name == row.best)]
    return f"{cell.value:.4g}{spread}{''.join(mark for mark, on in marks if on)}"


def _legend(cells: Sequence[Cell]) -> list[str]:
    lines = ["* the best of its class; in brackets the range of the studies, beside their median; no test was made"]
    if any(cell.studies % 2 == 0 for cell in cells):
        lines.append("of an even number of studies the median is the worse of the two in the middle")
    if any(cell.studies < cell.expected for cell in cells):
        lines.append("studies that are missing count for nothing here; the same `harness run` makes them")
    if any(cell.cut_short for cell in cells):
        lines.append(
            "+ a run ended before its class did, at its target or by a failure: its value would have moved on; "
            "stop=horizon runs on"
        )
    if any(cell.running + cell.interrupted for cell in cells):
        lines.append(
            "~ a run is not at the end of its class: its value may still move; `harness run` goes on with what is "
            "interrupted"
        )
    if any(cell.value is None for cell in cells):
        lines.append("- nothing was measured by then")
    return lines
