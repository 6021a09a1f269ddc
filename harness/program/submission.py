"""A submission folder: `submission.yaml` read and checked, `submission.py`'s `build` called and checked."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.errors import SubmissionError, suggest
from harness.program import discovery
from harness.record import plain_data
from harness.record.spec import Value

MAX_YAML_BYTES = 64 * 2**10


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
      required: hyperparameters whose defaults are placeholders: a run has to give them, or to search over them.
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
    required: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    speedrun_length: float = 1.0


def read_info(folder: discovery.Folder) -> SubmissionInfo:
    """Read and check `submission.yaml`. Hyperparameters of the search space and of points come in the types of their
    defaults, as `choose_point` gives them. Raises SubmissionError with a line on each field at fault.
    """
    path = folder.path / "submission.yaml"
    _refuse_odd(folder.name, path)
    if not path.is_file():
        raise SubmissionError(f"{path} is missing; it holds name, description, authors, licence, tuning and defaults")
    data = plain_data.read_yaml(path, SubmissionError)
    where, said = discovery.metadata(folder.path)
    info = plain_data.read(SubmissionInfo, data, where, SubmissionError)
    problems = [text for name, one in (data.get("space") or {}).items() for text in _two_ways(where, name, one, said)]
    if (file := folder.path / discovery.SEARCH_SPACE).is_file():
        if info.space or info.points:
            problems.append(f"{where} has a search space, and so has {file.name} beside it; keep one of them")
        else:
            info = replace(info, **read_search_space(file))
    for name, value in info.defaults.items():
        at = f"{where}: {said('defaults')}.{name}"
        if isinstance(value, str) and _is_number(value):
            problems.append(f"{at}: YAML reads {value} as text; give it a dot, as in 1.0e-3")
        if isinstance(value, float) and not math.isfinite(value):
            problems.append(f"{at}: expected a finite number, got {value}")
    if info.name != folder.name:
        problems.append(f"{where}: name is '{info.name}', but the folder is called '{folder.name}'; make them equal")
    for name in info.requires:
        if not re.fullmatch(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", name):
            told = f"expected the name of a package, as pip calls it, got {name!r}"
            problems.append(f"{where}: {said('requires')}: {told}")
    if not info.speedrun_length > 0:
        problems.append(f"{where}: speedrun_length: expected step hints, a number above 0")

    defaults = {n: v + 0.0 if isinstance(v, float) else v for n, v in info.defaults.items()}  # no negative zero

    def fitted(name: str, value: Value, at: str) -> Value:
        try:
            return _fitted(value, defaults[name], f"{where}: {at}")
        except SubmissionError as error:
            problems.append(str(error))
            return value

    def known(names: Iterable[str], at: str) -> list[str]:
        for name in (found := [*names]):
            if name not in defaults:
                told = suggest(name, defaults, said("defaults"))
                problems.append(f"{where}: {at}: '{name}' has no default; {told}")
        return [name for name in found if name in defaults]

    space: dict[str, Dimension] = {}
    points: list[dict[str, Value]] = []
    for name in known(info.space, said("space")):
        d, at = info.space[name], f"{said('space')}.{name}"
        values = tuple(fitted(name, value, f"{at}: values") for value in d.values)
        if len(set(map(repr, values))) < len(values):
            problems.append(f"{where}: {at}: values: one is there twice; list each once")
        if not values:
            problems += [f"{where}: {at}: {text}" for text in _of_range(d, defaults[name])]
        space[name] = replace(d, values=values)
    known(info.required, "required")
    for i, point in enumerate(info.points):
        at = f"points[{i}]"
        points.append({name: fitted(name, point[name], f"{at}.{name}") for name in known(point, at)})
    if problems:
        raise SubmissionError("\n".join(problems))
    return replace(info, defaults=defaults, space=space, points=tuple(points))


def _of_range(d: Dimension, default: Value) -> list[str]:
    """Return what is wrong with a range of numbers."""
    if d.min is None or d.max is None or not -math.inf < d.min < d.max < math.inf:
        return [f"expected min < max, or values; got min {d.min}, max {d.max}"]
    if type(default) not in (int, float):
        return [f"a range is for numbers, and the default is {default!r}; list values instead"]
    problems = []
    if d.scaling == "log" and d.min <= 0:
        problems.append(f"scaling: log needs min above 0, got {d.min:g}; raise it, or use linear")
    if isinstance(default, int) and not (d.min.is_integer() and d.max.is_integer()):
        problems.append(f"the default {default} is a whole number, and so must min {d.min:g} and max {d.max:g} be")
    return problems


def _two_ways(where: str, name: str, entry: Any, said: Callable[[str], str] = str) -> list[str]:
    """Return what is wrong with a dimension, as it was written, that is a list of values and a range at once."""
    lists = [key for key in ("values", "feasible_points") if key in entry]
    ranges = [key for key in ("min", "max", "scaling") if key in entry]
    if len(lists) + bool(ranges) < 2:
        return []
    held = ", ".join(f"'{key}'" for key in lists + ranges)
    return [
        f"{where}: {said('space')}.{name}: has {held} at once; it is a list of values, or a range: keep one of them"
    ]


def _refuse_odd(name: str, path: Path) -> None:
    """Refuse a name that a table cannot tell from another, or that is no word of it; and a file that is no metadata."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        where = ascii(discovery.metadata(path.parent)[0])
        raise SubmissionError(f"{where}: a submission's name is of letters of ASCII, digits, _, . and -, got {name!a}")
    if path.is_file() and path.stat().st_size > MAX_YAML_BYTES:
        raise SubmissionError(f"{path} has {path.stat().st_size} bytes; at most {MAX_YAML_BYTES} are metadata")


def read_search_space(file: Path) -> dict[str, Any]:
    """Read a search space in AlgoPerf's JSON: an object of dimensions, each with `min`, `max` and `scaling` or with
    `feasible_points`; or a list of points. Returns the field of `SubmissionInfo` that it stands for.
    """
    data = plain_data.read_json(file, SubmissionError)
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
        if isinstance(value, dict):
            if problems := _two_ways(str(file), name, value):
                raise SubmissionError(problems[0])
            entry = {"values" if k == "feasible_points" else k: v for k, v in value.items()}
        space[name] = plain_data.read(Dimension, entry, f"{file}: {name}", SubmissionError)
    return {"space": space}


@dataclass(frozen=True)
class _Points:
    points: tuple[dict[str, Value], ...]


def _fitted(value: Value, default: Value, where: str) -> Value:
    """Return a hyperparameter in the type of its default: an integer is a number, but not the other way round. Every
    road to a point goes through here, so that equal points are the same one: no negative zero either.
    """
    number = isinstance(default, float) and isinstance(value, int | float) and not isinstance(value, bool)
    if type(value) is not type(default) and not number:
        raise SubmissionError(f"{where}: expected {type(default).__name__} like the default {default!r}, got {value!r}")
    if not number:
        return value
    if not -sys.float_info.max <= value <= sys.float_info.max:  # type: ignore[operator]
        raise SubmissionError(f"{where}: expected a finite number, got {value}")
    return float(value) + 0.0


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def choose_point(folder: discovery.Folder, info: SubmissionInfo, override: Mapping[str, Value]) -> dict[str, Value]:
    """Return the defaults with `override` in place, types checked against the defaults. Raises SubmissionError for a
    name without a default, another type, and a number below 0 where the search space begins at 0 or above.
    """
    point = dict(info.defaults)
    where, said = discovery.metadata(folder.path)
    for name, value in override.items():
        if name not in point:
            told = suggest(name, point, said("defaults"))
            raise SubmissionError(f"hp.{name}: {where} has no such hyperparameter; {told}")
        point[name] = fitted = _fitted(value, point[name], f"hp.{name}")
        d = info.space.get(name)
        if d and d.min is not None and d.min >= 0 and isinstance(fitted, int | float) and fitted < 0:
            raise SubmissionError(
                f"hp.{name}: got {fitted}, and {where} has a search space from {d.min:g} on; if "
                "it is meant, give it a space that begins below 0"
            )
    return point


def outside(info: SubmissionInfo, point: Mapping[str, Value], names: Iterable[str]) -> list[str]:
    """Return in words which of these hyperparameters of a point lie outside of their search space."""
    found = []
    for name in names:
        value, d = point[name], info.space.get(name)
        if d is None:
            continue
        inside = value in d.values if d.values else d.min <= value <= d.max  # type: ignore[operator]
        if not inside:
            space = ", ".join(map(str, d.values)) if d.values else f"{d.min:g} to {d.max:g}"
            found.append(f"{info.name}: hp.{name}={value} is outside of its search space ({space})")
    return found
