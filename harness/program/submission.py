"""A submission folder: `submission.yaml` read and checked, `submission.py`'s `build` called and checked."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from harness.errors import SubmissionError, suggest
from harness.program import discovery
from harness.record import plain_data
from harness.record.spec import Value


@dataclass(frozen=True)
class Dimension:
    """One dimension of a search space: a range, or a list of values."""

    min: float | None = None
    max: float | None = None
    scaling: Literal["linear", "log"] = "linear"
    values: tuple[Value, ...] = ()


@dataclass(frozen=True)
class SubmissionInfo:
    """`submission.yaml`.

    Attributes:
      name: the same as the folder's.
      description: one line.
      authors, licence, references: who wrote it, under what, from which paper.
      tuning: `external` (tuned by the harness over `space` or `points`) or `self` (no tuning by hand).
      defaults: the hyperparameters that `build` is given.
      space: search space by hyperparameter name, a subset of `defaults`.
      points: explicit points, which rulesets that tune take in this order instead of drawing from the space.
      requires: distributions that it imports beside jax, flax, optax, scipy and numpy, as pip calls them; they become
        readable to the processes that import it, and their versions are recorded.
      speedrun_length: length of a speedrun in step hints, where the user declares no number of steps.
    """

    name: str
    description: str
    authors: tuple[str, ...]
    licence: str
    tuning: Literal["external", "self"]
    defaults: dict[str, Value]
    references: tuple[str, ...] = ()
    space: dict[str, Dimension] = field(default_factory=dict)
    points: tuple[dict[str, Value], ...] = ()
    requires: tuple[str, ...] = ()
    speedrun_length: float = 1.0


def read_info(folder: discovery.Folder) -> SubmissionInfo:
    """Read and check `submission.yaml`. Raises SubmissionError naming the field at fault."""
    path = folder.path / "submission.yaml"
    if not path.is_file():
        raise SubmissionError(f"{path} is missing; it holds name, description, authors, licence, tuning and defaults")
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise SubmissionError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    info = plain_data.read(SubmissionInfo, data, str(path), SubmissionError)
    if (file := folder.path / discovery.SEARCH_SPACE).is_file():
        if info.space or info.points:
            raise SubmissionError(f"{path} has a search space, and so has {file.name} beside it; keep one of them")
        info = replace(info, **read_search_space(file))
    for name, value in info.defaults.items():
        if isinstance(value, str) and _is_number(value):
            raise SubmissionError(f"{path}: defaults.{name}: YAML reads {value} as text; give it a dot, as in 1.0e-3")
        if isinstance(value, float) and not math.isfinite(value):
            raise SubmissionError(f"{path}: defaults.{name}: expected a finite number, got {value}")
    if info.name != folder.name:
        raise SubmissionError(
            f"{path}: name is '{info.name}', but the folder is called '{folder.name}'; make them equal"
        )
    sources = [("space", list(info.space)), *((f"points[{i}]", list(p)) for i, p in enumerate(info.points))]
    for source, names in sources:
        for name in names:
            if name not in info.defaults:
                raise SubmissionError(
                    f"{path}: {source}: '{name}' has no default; {suggest(name, info.defaults, 'defaults')}"
                )
    for name, d in info.space.items():
        where = f"{path}: space.{name}"
        if d.values:
            for value in d.values:
                _fitted(value, info.defaults[name], f"{where}: values")
        elif d.min is None or d.max is None or not -math.inf < d.min < d.max < math.inf:
            raise SubmissionError(f"{where}: expected min < max, or values; got min {d.min}, max {d.max}")
        elif d.scaling == "log" and d.min <= 0:
            raise SubmissionError(f"{where}: scaling: log needs min above 0, got {d.min:g}; raise it, or use linear")
        elif type(info.defaults[name]) not in (int, float):
            raise SubmissionError(
                f"{where}: a range is for numbers, and the default is {info.defaults[name]!r}; list values instead"
            )
    for i, point in enumerate(info.points):
        for name, value in point.items():
            _fitted(value, info.defaults[name], f"{path}: points[{i}].{name}")
    for name in info.requires:
        if not re.fullmatch(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", name):
            raise SubmissionError(f"{path}: requires: expected the name of a package, as pip calls it, got {name!r}")
    if not info.speedrun_length > 0:
        raise SubmissionError(f"{path}: speedrun_length: expected step hints, a number above 0")
    return info


def read_search_space(file: Path) -> dict[str, Any]:
    """Read a search space in AlgoPerf's JSON: an object of dimensions, each with `min`, `max` and `scaling` or with
    `feasible_points`; or a list of points. Returns the field of `SubmissionInfo` that it stands for.
    """
    try:
        data = json.loads(file.read_text())
    except ValueError as error:
        raise SubmissionError(f"{file}: not valid JSON: {error}") from None
    if isinstance(data, list):
        held = plain_data.read(_Points, {"points": data}, str(file), SubmissionError).points
        if not held:
            raise SubmissionError(f"{file}: the list of points is empty")
        return {"points": held}
    if not isinstance(data, dict):
        raise SubmissionError(f"{file}: expected an object of dimensions or a list of points, got {data!r}")
    space = {}
    for name, value in data.items():
        entry = value
        if isinstance(value, dict) and "feasible_points" in value:
            entry = {"values" if k == "feasible_points" else k: v for k, v in value.items()}
        space[name] = plain_data.read(Dimension, entry, f"{file}: {name}", SubmissionError)
    return {"space": space}


@dataclass(frozen=True)
class _Points:
    points: tuple[dict[str, Value], ...]


def _fitted(value: Value, default: Value, where: str) -> Value:
    """Return a hyperparameter in the type of its default: an integer is a number, but not the other way round."""
    number = isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool)
    if type(value) is not type(default) and not number:
        raise SubmissionError(f"{where}: expected {type(default).__name__} like the default {default!r}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise SubmissionError(f"{where}: expected a finite number, got {value}")
    return float(value) if number else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def choose_point(folder: discovery.Folder, info: SubmissionInfo, override: Mapping[str, Value]) -> dict[str, Value]:
    """Return the defaults with `override` in place, types checked against the defaults."""
    point = dict(info.defaults)
    for name, value in override.items():
        if name not in point:
            where = f"{folder.path}/submission.yaml"
            raise SubmissionError(f"hp.{name}: {where} has no such hyperparameter; {suggest(name, point, 'defaults')}")
        point[name] = _fitted(value, point[name], f"hp.{name}")
    return point
