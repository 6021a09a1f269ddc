"""What there is: suites, rulesets, workloads and submissions. Needs no jax."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.campaign import config, scale_ladder
from harness.errors import ConfigError, HarnessError
from harness.program import discovery, submission
from harness.program.discovery import Folder
from harness.program.workload import WorkloadInfo
from harness.record import plain_data
from harness.report.tables import print_line, print_table

Row = dict[str, Any]


def listed() -> dict[str, list[Row]]:
    """Return every suite, ruleset, workload and submission, as `harness list --json` prints them.

    `path` is null for what comes with the harness; `broken` is null, or says why it cannot be used.
    """
    return {
        "suites": _options("suite", lambda data: {"workloads": list(map(str, data.get("workloads") or ()))}),
        "rulesets": _options(
            "rules",
            lambda data: {
                "studies": data.get("studies", 1),
                "trials": data.get("trials", 1),
                "counts": data.get("counts"),
                "stop": data.get("stop"),
                "clock": data.get("clock"),
            },
        ),
        "workloads": _folders("workloads", _workload),
        "submissions": _folders("submissions", _submission),
    }


def print_list(found: Mapping[str, Sequence[Row]]) -> None:
    """Print what `listed` found; what does not come with the harness with its path."""
    print_line("suites", style="bold")
    _print_options(found["suites"], {"workloads": lambda row: ", ".join(row["workloads"])})
    print_line("\nrulesets", style="bold")
    _print_options(
        found["rulesets"],
        {
            "studies x trials": _trials_text,
            "stop": lambda row: str(row["stop"] or "-"),
            "clock": lambda row: str(row["clock"] or "-"),
        },
    )
    print_line("\nworkloads", style="bold")
    _print_folders(
        found["workloads"],
        {
            "metric": lambda row: row["metric"],
            "target": lambda row: row["target_text"],
            ">step hint": lambda row: str(row["step_hint"]),
            "description": lambda row: row["description"] + _aside(row),
        },
    )
    print_line("\nsubmissions", style="bold")
    _print_folders(
        found["submissions"],
        {
            "tuning": lambda row: row["tuning"],
            "description": lambda row: row["description"],
            "authors": lambda row: ", ".join(row["authors"]),
        },
    )


def _aside(row: Row) -> str:
    """Return why a workload is not scored."""
    if row["scored"]:
        return ""
    return " (not scored)" if scale_ladder.is_rung(row["name"]) else " (a toy, not scored)"


def problem(folder: Folder) -> str | None:
    """Return why a folder cannot be used, as far as can be told without running a submission's code; None if it can."""
    try:
        if folder.kind == "workloads":
            discovery.workload_info(folder)
        else:
            submission.read_info(folder)
            ast.parse((folder.path / "submission.py").read_bytes(), str(folder.path / "submission.py"))
    except HarnessError as error:
        return str(error)
    except (SyntaxError, ValueError, OSError) as error:
        return discovery.blame(folder.path, "import", error)
    return None


def target_text(info: WorkloadInfo) -> str:
    """Return what is to be reached and how firm it is, for people."""
    if info.target.value is None:
        return "no target"
    firm = f", version {info.target.version}"
    if info.target.version == 0:
        firm = ", provisional (version 0)" if info.scored else ""
    return f"at {'most' if info.mode == 'min' else 'least'} {info.target.value:g}{firm}"


def _options(group: str, facts: Callable[[Mapping[str, Any]], Row]) -> list[Row]:
    rows = []
    for name, paths in sorted(config.options(group).items()):
        path = paths[-1]
        try:
            data, broken = plain_data.read_yaml(path), None
        except ConfigError as error:
            data, broken = {}, str(error)
        if not isinstance(data, dict):
            data, broken = {}, "expected a mapping"
        rows.append(
            {"name": name, **facts(data), "description": _comment(path), "path": _place(path), "broken": broken}
        )
    return rows


def _folders(kind: discovery.Kind, facts: Callable[[Folder], Row]) -> list[Row]:
    rows = []
    for folder in discovery.find_all(kind).values():
        broken = problem(folder)
        known = {} if broken else facts(folder)
        rows.append({"name": folder.name, **known, "path": _place(folder.path), "broken": broken})
    return rows


def _workload(folder: Folder) -> Row:
    info = discovery.workload_info(folder)
    return {
        "metric": info.metric,
        "mode": info.mode,
        "target": info.target.value,
        "target_version": None if info.target.value is None else info.target.version,
        "target_text": target_text(info),
        "step_hint": info.step_hint,
        "scored": info.scored,
        "description": info.description,
    }


def _submission(folder: Folder) -> Row:
    info = submission.read_info(folder)
    return {"tuning": info.tuning, "description": info.description, "authors": list(info.authors)}


Columns = Mapping[str, Callable[[Row], str]]


def _print_options(rows: Sequence[Row], columns: Columns) -> None:
    def told(row: Row) -> str:
        return f"broken: {row['broken']}" if row["broken"] else str(row["description"])

    _print_rows(rows, {**columns, "description": told})


def _print_folders(rows: Sequence[Row], columns: Columns) -> None:
    _print_rows([row for row in rows if not row["broken"]], columns)
    for row in rows:
        if row["broken"]:
            print_line(f"{row['name']} is broken: {row['broken']}", style="red")


def _print_rows(rows: Sequence[Row], columns: Columns) -> None:
    """Print rows; the column of paths is left out where all come with the harness."""
    columns = {"name": lambda row: row["name"], **columns}
    if any(row["path"] for row in rows):
        columns = {**columns, "path": lambda row: row["path"] or ""}
    if rows:
        print_table(list(columns), [[cell(row) for cell in columns.values()] for row in rows])
    else:
        print_line("none")


def _comment(path: Path) -> str:
    """The comment a configuration file opens with, which says what it is for."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def _place(path: Path) -> str | None:
    """The path, or nothing for what comes with the harness."""
    own = config.folders()[0].parent
    return None if path.is_relative_to(own) else str(path)


def _trials_text(row: Row) -> str:
    studies, trials = row["studies"], row["trials"]
    return f"{studies} x 1, tuned in {trials}" if row["counts"] == "fresh_seeds" else f"{studies} x {trials}"
