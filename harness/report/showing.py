"""Everything about one workload, submission or configuration file (suite, ruleset, device, launcher). Needs no jax."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.campaign import config, scale_ladder, typed
from harness.errors import ConfigError, nearest
from harness.program import discovery, ramps, submission
from harness.program.discovery import Folder
from harness.program.submission import Dimension
from harness.record import plain_data
from harness.report.listing import problem, target_text
from harness.report.tables import print_line, print_table
from harness.search import targets

# What each is called, by its configuration group.
_GROUPS = {"suite": "suite", "rules": "ruleset", "device": "device", "launcher": "launcher"}


@dataclass(frozen=True)
class File:
    """A suite, ruleset, device or launcher (`kind`), in its configuration file."""

    kind: str
    path: Path


def called(name: str) -> list[Folder | File]:
    """Return what goes by that name: workloads, submissions, suites, rulesets, devices and launchers (`gpu` is a suite
    and a device), or what lies in the folder at a path.

    Raises ConfigError for an unknown name, with the nearest of all names.
    """
    found: list[Folder | File] = [*_folders_called(name), *_files_called(name)]
    if not found:
        raise ConfigError(f"unknown name '{name}'; {nearest(name, _all_names())}`harness list` shows what there is")
    return found


def print_all(found: Sequence[Folder | File]) -> None:
    """Print everything about each. Raises a broken folder's own error."""
    for number, one in enumerate(found):
        if number:
            print_line()
        if isinstance(one, File):
            _print_file(one)
        elif one.kind == "workloads":
            _print_workload(one)
        else:
            _print_submission(one)


def as_json(one: Folder | File) -> dict[str, Any]:
    """Return an object of `harness show --json`: the kind, the path and what the files say."""
    if isinstance(one, File):
        return {"kind": one.kind, "name": one.path.stem, "path": str(one.path), **plain_data.read_yaml(one.path)}
    known = {"kind": one.kind[:-1], "path": str(one.path), "source_hash": one.source_hash}
    if one.kind == "workloads":
        return known | plain_data.to_plain(discovery.workload_info(one))
    return known | plain_data.to_plain(submission.read_info(one)) | {"broken": problem(one)}


def _folders_called(name: str) -> list[Folder]:
    if name.endswith(".py"):
        folders = [typed.find(name)]
    elif "/" in name or name in (".", ".."):
        path = Path(name).expanduser().resolve()
        folders = []
        if (path / "workload.py").is_file():
            folders.append(Folder("workloads", path.name, path))
        if (path / "submission.py").is_file():
            folders.append(Folder("submissions", path.name, path))
        if not folders:
            raise ConfigError(f"{name} holds neither a workload.py nor a submission.py")
    else:
        folders = [found[name]] if name in (found := discovery.find_all("workloads")) else []
        with contextlib.suppress(ConfigError):  # none is called so
            folders.append(ramps.find(name))
    return folders


def _files_called(name: str) -> list[File]:
    return [File(what, paths[-1]) for group, what in _GROUPS.items() if (paths := config.options(group).get(name))]


def _print_workload(folder: Folder) -> None:
    info = discovery.workload_info(folder)
    target = info.target
    source = "median of the tuned baseline" if target.version else "provisional"
    print_line(f"workload {folder.name}", style="bold")
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
                    "steps to target": f"{target.steps_to_target} ({source})",
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
            "scored": "yes" if info.scored else f"no, a {'rung' if scale_ladder.is_rung(folder.name) else 'toy'}",
        }
    )


def _print_submission(folder: Folder) -> None:
    info = submission.read_info(folder)
    print_line(f"submission {folder.name}", style="bold")
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


def _print_file(one: File) -> None:
    print_line(f"{one.kind} {one.path.stem}", style="bold")
    print_line(str(one.path))
    print_line(one.path.read_text().rstrip())


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


def _all_names() -> Iterable[str]:
    return {
        *discovery.find_all("workloads"),
        *discovery.find_all("submissions"),
        *(n for g in _GROUPS for n in config.options(g)),
    }
