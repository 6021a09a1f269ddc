"""Plain mappings (YAML, JSON) to frozen dataclasses and back: unknown keys and wrong types are refused, never
guessed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import re
import reprlib
import types
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from harness.errors import ConfigError, HarnessError, beneath, suggest

T = TypeVar("T")

_SHORT = reprlib.Repr()  # YAML's aliases nest a list to any size
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 2, 20, 20
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 400


def read(cls: type[T], data: Any, where: str, error: type[HarnessError] = ConfigError) -> T:
    """Build the dataclass `cls` from the mapping `data`; `where` names its source in messages.

    Raises `error` with a line on each field at fault: the type expected and the value that came.
    """
    if not isinstance(data, Mapping):
        raise error(f"{where}: expected a mapping with the fields of {cls.__name__}, got {_show(data)}")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    problems = [
        f"{where}: unknown key '{key}'; {suggest(str(key), fields, 'known keys')}" for key in data if key not in fields
    ]
    hints = _hints(cls)  # type: ignore[arg-type]
    absent = [f for f in fields.values() if f.name not in data]
    if missing := [f.name for f in absent if f.default is f.default_factory is dataclasses.MISSING]:
        asked = "; ".join(f"the field '{name}' is missing; it must be {_name(hints[name])}" for name in missing)
        problems.append(f"{where}: {asked}")
    found = {}
    for name in fields:
        if name in data:
            try:
                found[name] = _convert(hints[name], data[name], f"{where}: {name}", error)
            except error as problem:
                problems.append(str(problem))
    if problems:
        raise error("\n".join(problems))
    return cls(**found)


def read_yaml(path: Path, error: type[HarnessError] = ConfigError) -> Any:
    """Return what a YAML file holds. Raises `error` where it cannot be read, is not valid, or has a key twice."""
    import yaml  # here, since trials need none

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            first: dict[Any, Any] = {}
            for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                    continue
                name, line = self.construct_object(key), key.start_mark.line + 1
                if name in first:
                    raise error(f"{path}: '{name}' is there twice, in lines {first[name]} and {line}; keep one of them")
                first[name] = line
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(path.read_bytes(), Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        raise error(f"{path}: not valid YAML: {' '.join(str(problem).split())}") from None
    except OSError as problem:
        raise beneath(problem) or error(f"{path} cannot be read: {problem.strerror}") from None


def read_json(path: Path, error: type[HarnessError] = ConfigError) -> Any:
    """Return what a JSON file holds. Raises `error` where it cannot be read, is not valid, or has a key twice."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in items:
            if name in found:
                raise error(f"{path}: '{name}' is there twice; keep one of them")
            found[name] = value
        return found

    try:
        return json.loads(path.read_bytes(), object_pairs_hook=pairs)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: not valid JSON: {problem}") from None
    except OSError as problem:
        raise beneath(problem) or error(f"{path} cannot be read: {problem.strerror}") from None


_hints = functools.cache(get_type_hints)  # of a campaign's thousands of records, half of the time of reading them


def to_plain(value: Any) -> Any:
    """Turn dataclasses, tuples and enums into what JSON can hold; the inverse of `read`. NaN and infinity become
    null.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, StrEnum) else value


def _convert(hint: Any, value: Any, where: str, error: type[HarnessError]) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        if type(value) in args:
            return value  # an integer stays one where a float is allowed as well
        problems = []
        for arg in (a for a in args if a is not type(None)):
            try:
                return _convert(arg, value, where, error)
            except error as problem:
                problems.append(problem)
        if len(problems) == 1:
            raise problems[0]
    elif origin is Literal:
        if value in args:
            return value
        tail = suggest(str(value), map(str, args), "choices")
        raise error(f"{where}: expected one of the choices, got {_show(value)}; {tail}")
    elif origin in (tuple, list) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        if isinstance(value, list | tuple):
            items = (_convert(args[0], v, f"{where}[{i}]", error) for i, v in enumerate(value))
            return list(items) if origin is list else tuple(items)
    elif origin is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if isinstance(value, Mapping):
            made, wrong = {}, []
            for k, v in value.items():
                try:
                    made[_convert(args[0], k, f"{where}: key", error)] = _convert(args[1], v, f"{where}.{k}", error)
                except error as problem:
                    wrong.append(str(problem))
            if wrong:
                raise error("\n".join(wrong))
            return made
    elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return read(hint, value, where, error)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # a whole number that is too large
            return float(value)
    elif hint in (int, bool, str) and type(value) is hint:
        return value
    elif isinstance(hint, type) and issubclass(hint, StrEnum) and isinstance(value, str):
        if value in [str(member) for member in hint]:
            return hint(value)
        raise error(f"{where}: got {_show(value)}; {suggest(value, map(str, hint), 'choices')}")
    raise error(f"{where}: expected {_name(hint)}, got {_show(value)}{_hint(hint, value)}")


def _hint(hint: Any, value: Any) -> str:
    """Return how to mend a number that YAML reads as text: 1e-3 has no dot."""
    number = hint in (float, int) and isinstance(value, str)
    if number and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value):
        return f"; write it with a dot, as in {value.lower().replace('e', '.0e')}"
    return ""


def _name(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join("null" if a is type(None) else _name(a) for a in get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    names = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
    if isinstance(hint, type):
        return names.get(hint, "a mapping" if dataclasses.is_dataclass(hint) else hint.__name__)
    kinds = {list: "a list", tuple: "a list", dict: "a mapping"}
    if get_origin(hint) in kinds:
        inner = [arg for arg in get_args(hint) if arg is not Ellipsis]
        return kinds[get_origin(hint)] + (" of strings" if inner == [str] else "")
    return str(hint).replace("typing.", "").replace("collections.abc.", "")


def _show(value: Any) -> str:
    return f"{_SHORT.repr(value)} ({type(value).__name__})"
