"""What there is: suites, rulesets, workloads and submissions, in a list or one by one. Needs no jax."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from harness.campaign import config
from harness.errors import ConfigError, HarnessError, nearest
from harness.program import discovery, submission
from harness.program.discovery import Folder
from harness.program.submission import Dimension
from harness.program.workload import WorkloadInfo
from harness.report.tables import print_line, print_table
from harness.search import targets

_GROUPS = {"suite": "suite", "rules": "ruleset"}  # what each is called, by its configuration group


def print_list() -> None:
    """Print every suite, ruleset, workload and submission; one that does not come with the harness with its path."""
    _heading("suites")
    _print_options("suite", ["workloads"], lambda data: [", ".join(map(str, data.get("workloads") or ()))])
    print_line()
    _heading("rulesets")
    _print_options(
        "rules",
        ["studies x trials", "stop", "clock"],
        lambda data: [_trials_text(data), _text(data, "stop"), _text(data, "clock")],
    )
    print_line()
    _heading("workloads")
    _print_folders("workloads", ["metric", "target", ">step hint", "description"], _workload_row)
    print_line()
    _heading("submissions")
    _print_folders("submissions", ["tuning", "description", "authors"], _submission_row)


def print_show(name: str) -> None:
    """Print everything about one workload, submission, suite or ruleset; a path to a folder works too.

    Raises ConfigError for an unknown name, with the nearest of all names, and a broken folder's own error.
    """
    shown = [*_folders_called(name), *_files_called(name)]
    if not shown:
        raise ConfigError(f"unknown name '{name}'; {nearest(name, _all_names())}`harness list` shows what there is")
    for number, show in enumerate(shown):
        if number:
            print_line()
        show()


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
    except (SyntaxError, ValueError) as error:
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


def _print_options(group: str, columns: list[str], row: Callable[[dict[str, Any]], list[str]]) -> None:
    rows = []
    for name, paths in sorted(config.options(group).items()):
        path = paths[-1]
        try:
            data = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            data, broken = {}, f"broken: {' '.join(str(error).split())}"
        else:
            broken = "" if isinstance(data, dict) else "broken: expected a mapping"
        rows.append([name, *row(data if isinstance(data, dict) else {}), broken or _comment(path), _place(path)])
    _print_rows(["name", *columns, "description"], rows)


def _print_folders(kind: discovery.Kind, columns: list[str], row: Callable[[Folder], list[str]]) -> None:
    good, broken = [], []
    for folder in discovery.find_all(kind).values():
        reason = problem(folder)
        if reason:
            broken.append(f"{folder.name} is broken: {reason}")
        else:
            good.append([folder.name, *row(folder), _place(folder.path)])
    _print_rows(["name", *columns], good)
    for line in broken:
        print_line(line, style="red")


def _print_rows(columns: list[str], rows: list[list[str]]) -> None:
    """Print rows whose last cell is the path; that column is left out where all are bundled."""
    if any(row[-1] for row in rows):
        print_table([*columns, "path"], rows)
    elif rows:
        print_table(columns, (row[:-1] for row in rows))
    else:
        print_line("none")


def _workload_row(folder: Folder) -> list[str]:
    info = discovery.workload_info(folder)
    toy = "" if info.scored else " (a toy, not scored)"
    return [info.metric, target_text(info), str(info.step_hint), info.description + toy]


def _submission_row(folder: Folder) -> list[str]:
    info = submission.read_info(folder)
    return [info.tuning, info.description, ", ".join(info.authors)]


def _folders_called(name: str) -> list[Callable[[], None]]:
    if "/" in name or name in (".", ".."):
        path = Path(name).expanduser().resolve()
        folders = []
        if (path / "workload.py").is_file():
            folders.append(Folder("workloads", path.name, path))
        if (path / "submission.py").is_file():
            folders.append(Folder("submissions", path.name, path))
        if not folders:
            raise ConfigError(f"{name} holds neither a workload.py nor a submission.py")
    else:
        kinds: tuple[discovery.Kind, ...] = ("workloads", "submissions")
        folders = [found[name] for kind in kinds if name in (found := discovery.find_all(kind))]
    return [lambda f=f: _show_workload(f) if f.kind == "workloads" else _show_submission(f) for f in folders]  # type: ignore[misc]


def _files_called(name: str) -> list[Callable[[], None]]:
    found = [(what, paths[-1]) for group, what in _GROUPS.items() if (paths := config.options(group).get(name))]
    return [lambda what=what, path=path: _show_file(what, path) for what, path in found]  # type: ignore[misc]


def _show_workload(folder: Folder) -> None:
    info = discovery.workload_info(folder)
    target = info.target
    _heading(f"workload {folder.name}")
    _print_fields(
        {
            "description": info.description,
            "path": folder.path,
            "README": _readme(folder),
            "source hash": folder.source_hash,
            "metric": f"{info.metric}, {'smaller' if info.mode == 'min' else 'larger'} is better",
            "target": target_text(info),
            **(
                {"set it with": targets.set_target_command(info)}
                if target.value is None
                else {
                    "steps to target": f"{target.steps_to_target} (median of the tuned baseline)",
                    "budget": f"{target.budget_steps} baseline steps",
                    "reference step": f"{1000 * target.reference_step_s:.3f} ms",
                    "spread": "unknown" if target.spread is None else f"{target.spread:.3g} (sd of {info.metric})",
                    "seeds": target.seeds,
                    "record": target.record or "none",
                }
            ),
            "floor": "unknown" if info.floor is None else f"{info.floor:.6g}",
            "batch size": info.batch_size,
            "step hint": info.step_hint,
            "training examples": info.num_train_examples,
            "loss": info.loss_kind,
            "data sets": ", ".join(info.datasets) or "none",
            "steps per dispatch": ", ".join(f"{n} on {p}" for p, n in info.dispatch_steps.items()) or "1",
            "variants": ", ".join(info.variants) or "none",
            "scored": "yes" if info.scored else "no, a toy",
        }
    )


def _show_submission(folder: Folder) -> None:
    info = submission.read_info(folder)
    _heading(f"submission {folder.name}")
    _print_fields(
        {
            "description": info.description,
            "path": folder.path,
            "README": _readme(folder),
            "source hash": folder.source_hash,
            "authors": ", ".join(info.authors),
            "licence": info.licence,
            "references": "; ".join(info.references) or "none",
            "tuning": info.tuning,
            "speedrun length": f"{info.speedrun_length:g} step hints",
            "broken": problem(folder) or "no",
        }
    )
    print_line()
    rows = [[name, str(value), _space_text(info.space.get(name))] for name, value in info.defaults.items()]
    print_table(["hyperparameter", "default", "search space"], rows)
    for number, point in enumerate(info.points):
        print_line(f"point {number}: {', '.join(f'{k}={v}' for k, v in point.items())}")


def _show_file(what: str, path: Path) -> None:
    _heading(f"{what} {path.stem}")
    print_line(str(path))
    print_line(path.read_text().rstrip())


def _print_fields(fields: dict[str, Any]) -> None:
    width = max(map(len, fields))
    for name, value in fields.items():
        print_line(f"{name.ljust(width)}  {value}")


def _space_text(dimension: Dimension | None) -> str:
    if dimension is None:
        return ""
    if dimension.values:
        return f"one of {', '.join(map(str, dimension.values))}"
    return f"{dimension.min:g} to {dimension.max:g}, {dimension.scaling}"


def _readme(folder: Folder) -> str:
    path = folder.path / "README.md"
    return str(path) if path.is_file() else "none"


def _comment(path: Path) -> str:
    """The comment a configuration file opens with, which says what it is for."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def _place(path: Path) -> str:
    """The path, or nothing for what comes with the harness."""
    own = config.folders()[0].parent
    return "" if path.is_relative_to(own) else str(path)


def _all_names() -> Iterable[str]:
    return {
        *discovery.find_all("workloads"),
        *discovery.find_all("submissions"),
        *(n for g in _GROUPS for n in config.options(g)),
    }


def _trials_text(data: dict[str, Any]) -> str:
    studies, trials = data.get("studies", 1), data.get("trials", 1)
    return f"{studies} x 1, tuned in {trials}" if data.get("counts") == "fresh_seeds" else f"{studies} x {trials}"


def _text(data: dict[str, Any], key: str) -> str:
    return str(data.get(key, "-"))


def _heading(text: str) -> None:
    print_line(text, style="bold")
