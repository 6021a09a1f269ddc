"""Strict reading: what is unknown, missing or of another type is refused with its place; all else comes back equal."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import ConfigError, SubmissionError
from harness.record import plain_data


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


@dataclass(frozen=True)
class Leaf:
    rate: float
    count: int = 0


@dataclass(frozen=True)
class Root:
    name: str
    flag: bool
    leaf: Leaf
    colour: Colour = Colour.RED
    mode: Literal["min", "max"] = "min"
    limit: float | None = None
    leaves: tuple[Leaf, ...] = ()
    by_size: dict[int, float] = field(default_factory=dict)
    values: dict[str, float | int | str | bool] = field(default_factory=dict)
    anything: Any = None


GOOD = {"name": "a", "flag": True, "leaf": {"rate": 1}}


def test_defaults_and_integers_for_numbers():
    made = plain_data.read(Root, GOOD, "here")
    assert made == Root("a", True, Leaf(1.0))
    assert type(made.leaf.rate) is float


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"naem": "b"}, "here: unknown key 'naem'; did you mean 'name'?"),
        ({"leaf": {"rate": 1, "cuont": 2}}, "here: leaf: unknown key 'cuont'; did you mean 'count'?"),
        ({"leaf": {}}, "here: leaf: the field 'rate' is missing; it must be a number"),
        ({"leaf": 3}, "here: leaf: expected a mapping with the fields of Leaf, got 3 (int)"),
        ({"leaf": {"rate": "1"}}, "here: leaf: rate: expected a number, got '1' (str)"),
        ({"leaf": {"rate": 10**400}}, "here: leaf: rate: expected a number, got 1000"),
        ({"leaf": {"rate": True}}, "here: leaf: rate: expected a number, got True (bool)"),
        ({"leaf": {"rate": 1, "count": 1.0}}, "here: leaf: count: expected an integer, got 1.0 (float)"),
        ({"leaf": {"rate": 1, "count": True}}, "here: leaf: count: expected an integer, got True (bool)"),
        ({"flag": 1}, "here: flag: expected true or false, got 1 (int)"),
        ({"flag": "true"}, "here: flag: expected true or false, got 'true' (str)"),
        ({"name": None}, "here: name: expected a string, got None (NoneType)"),
        ({"colour": "gren"}, "here: colour: got 'gren' (str); did you mean 'green'?"),
        ({"mode": "mix"}, "here: mode: expected one of the choices, got 'mix' (str); did you mean 'min'?"),
        ({"limit": "no"}, "here: limit: expected a number, got 'no' (str)"),
        ({"leaves": {"rate": 1}}, "here: leaves: expected"),
        ({"leaves": "ab"}, "here: leaves: expected"),
        ({"leaves": [{"rate": 1}, {"rate": None}]}, "here: leaves[1]: rate: expected a number, got None (NoneType)"),
        ({"values": {"lr": None}}, "here: values.lr: expected a number or an integer or a string or true or false"),
        ({"values": {"lr": [1]}}, "here: values.lr: expected a number or an integer or a string or true or false"),
        ({"values": {True: 1}}, "here: values: key: expected a string, got True (bool)"),
        ({"by_size": {"32": 1.0}}, "here: by_size: key: expected an integer, got '32' (str)"),
    ],
)
def test_refused_with_the_place(change, says):
    with pytest.raises(ConfigError) as caught:
        plain_data.read(Root, GOOD | change, "here")
    assert str(caught.value).startswith(says)


def test_not_a_mapping_and_the_error_asked_for():
    with pytest.raises(SubmissionError, match=r"^x\.yaml: expected a mapping with the fields of Root, got None"):
        plain_data.read(Root, None, "x.yaml", SubmissionError)
    with pytest.raises(SubmissionError, match=r"leaf: the field 'rate' is missing"):
        plain_data.read(Root, GOOD | {"leaf": {}}, "x.yaml", SubmissionError)


def test_a_number_is_not_turned_into_another_kind_where_several_are_allowed():
    values = {"f": 1.0, "i": 1, "s": "1", "b": True}
    read = plain_data.read(Root, GOOD | {"values": values}, "here").values
    assert [type(v) for v in read.values()] == [float, int, str, bool]


def test_nan_and_infinity_become_null():
    plain = plain_data.to_plain({"a": float("nan"), "b": [float("inf")], "c": Leaf(float("-inf")), 3: 1.5})
    assert plain == {"a": None, "b": [None], "c": {"rate": None, "count": 0}, "3": 1.5}
    json.dumps(plain, allow_nan=False)


numbers = st.floats(allow_nan=False, allow_infinity=False)
leaves = st.builds(Leaf, rate=numbers, count=st.integers())
roots = st.builds(
    Root,
    name=st.text(),
    flag=st.booleans(),
    leaf=leaves,
    colour=st.sampled_from(Colour),
    mode=st.sampled_from(["min", "max"]),
    limit=st.none() | numbers,
    leaves=st.lists(leaves, max_size=3).map(tuple),
    values=st.dictionaries(st.text(), numbers | st.integers() | st.text() | st.booleans(), max_size=3),
    anything=st.none() | st.lists(st.integers(), max_size=2),
)


@settings(deadline=None)
@given(roots)
def test_what_is_written_is_read_back(root):
    back = plain_data.read(Root, json.loads(json.dumps(plain_data.to_plain(root), allow_nan=False)), "here")
    assert back == root
    assert {k: type(v) for k, v in back.values.items()} == {k: type(v) for k, v in root.values.items()}


@dataclass(frozen=True)
class Bound:
    min: float | None = None


def test_a_number_that_yaml_reads_as_text_is_mended():
    message = r"min: expected a number.*, got '1e-3' \(str\); write it with a dot, as in 1\.0e-3"
    with pytest.raises(ConfigError, match=message):
        plain_data.read(Bound, {"min": "1e-3"}, "space")
