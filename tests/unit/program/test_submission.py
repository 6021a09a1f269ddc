"""submission.yaml and build: what is wrong is refused with file and field; hyperparameters keep their types."""

from __future__ import annotations

import math
from pathlib import Path

import optax
import pytest
import yaml

from harness.api import Algorithm
from harness.errors import SubmissionError
from harness.program import search_space, submission
from harness.program.build import build_algorithm
from harness.program.discovery import Folder

GOOD = {
    "name": "mine",
    "description": "a rule",
    "authors": ["me"],
    "licence": "MIT",
    "tuning": "external",
    "defaults": {"lr": 0.1, "steps": 3, "nesterov": True, "kind": "a"},
}


@pytest.fixture
def folder(tmp_path):
    """Return a function (fields of submission.yaml, source of submission.py) -> folder."""

    def make(fields: dict | str | None = None, source: str = "") -> Folder:
        path = tmp_path / "mine"
        path.mkdir(exist_ok=True)
        text = fields if isinstance(fields, str) else yaml.safe_dump(GOOD | (fields or {}))
        (path / "submission.yaml").write_text(text)
        (path / "submission.py").write_text(source)
        return Folder("submissions", "mine", path)

    return make


def test_good(folder):
    fields = {
        "references": ["arXiv:1"],
        "space": {"lr": {"min": 1e-3, "max": 1, "scaling": "log"}, "kind": {"values": ["a", "b"]}},
        "points": [{"lr": 0.2}, {"lr": 0.3, "steps": 4}],
    }
    info = submission.read_info(folder(fields))
    assert info.space["lr"] == submission.Dimension(1e-3, 1.0, "log")
    assert info.space["kind"].values == ("a", "b")
    assert info.points == ({"lr": 0.2}, {"lr": 0.3, "steps": 4})
    assert info.defaults == GOOD["defaults"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": "yours"}, "name is 'yours', but the folder is called 'mine'"),
        ({"tuning": "externl"}, "tuning: expected one of the choices, got 'externl' (str); did you mean 'external'?"),
        ({"authors": "me"}, "authors: expected"),
        ({"lisence": "MIT"}, "unknown key 'lisence'; did you mean 'licence'?"),
        ({"defaults": {"lr": [1]}}, "defaults.lr: expected"),
        ({"defaults": {1: 2}}, "defaults: key: expected a string, got 1 (int)"),
        ({"space": {"lrr": {"min": 0, "max": 1}}}, "space: 'lrr' has no default; did you mean 'lr'?"),
        ({"points": [{"lr": 1.0}, {"step": 1}]}, "points[1]: 'step' has no default; did you mean 'steps'?"),
        ({"space": {"lr": {"min": 1, "max": 1}}}, "space.lr: expected min < max"),
        ({"space": {"lr": {"min": 1}}}, "space.lr: expected min < max"),
        ({"space": {"lr": {}}}, "space.lr: expected min < max"),
        (
            {"space": {"lr": {"min": 0, "max": 1, "scaling": "log"}}},
            "space.lr: scaling: log needs min above 0, got 0; raise it",
        ),
        ({"space": {"lr": {"min": 2, "max": 1}}}, "space.lr: expected min < max, or values; got min 2.0, max 1.0"),
        ({"space": {"lr": {"min": math.nan, "max": 1}}}, "space.lr: expected min < max, or values; got min nan"),
        (
            {"space": {"lr": {"min": 0, "max": math.inf}}},
            "space.lr: expected min < max, or values; got min 0.0, max inf",
        ),
        ({"space": {"kind": {"min": 0, "max": 1}}}, "space.kind: a range is for numbers, and the default is 'a'; list"),
        ({"space": {"nesterov": {"min": 0, "max": 1}}}, "space.nesterov: a range is for numbers"),
        ({"space": {"steps": {"values": [1, 2.5]}}}, "space.steps: values: expected int like the default 3, got 2.5"),
        ({"points": [{"kind": 1}]}, "points[0].kind: expected str like the default 'a', got 1"),
        ({"defaults": {"lr": math.nan}}, "defaults.lr: expected a finite number, got nan"),
        ({"space": {"lr": {"min": 0, "max": 1, "scaling": "cubic"}}}, "space.lr: scaling: expected one of the choices"),
        ({"requires": "scikit-learn"}, "requires: expected"),
        (
            {"requires": ["scikit-learn", "../data"]},
            "requires: expected the name of a package, as pip calls it, got '../",
        ),
        (
            {"space": {"lr": {"values": [0.05], "min": 0.01, "max": 1.0}}},
            "space.lr: has 'values', 'min', 'max' at once",
        ),
        ({"space": {"lr": {"values": [0.05], "scaling": "linear"}}}, "space.lr: has 'values', 'scaling' at once"),
        ({"space": {"lr": {"values": [1, 1.0]}}}, "space.lr: values: one is there twice"),
        ({"space": {"steps": {"min": 1.4, "max": 5}}}, "space.steps: the default 3 is a whole number, and so must min"),
        ({"points": [{"lr": 10**400}]}, "points[0].lr: expected a finite number, got 1000"),
        (
            yaml.safe_dump(GOOD) + "space: {lr: {min: 0.1, max: 1}}\nspace: {}\n",
            "'space' is there twice, in lines 12 and 13; keep one of them",
        ),
        ("defaults: {lr: 0.1, lr: 0.2}\n", "'lr' is there twice, in lines 1 and 1"),
        ("defaults:\n  lr: 0.1\n  'lr': 0.2\n", "'lr' is there twice, in lines 2 and 3"),
        ("", "expected a mapping with the fields of SubmissionInfo, got None"),
        ("name: [", "not valid YAML"),
        ("name: mine\n", "the field 'description' is missing; it must be a string"),
    ],
)
def test_bad_yaml_names_file_and_field(folder, fields, says):
    with pytest.raises(SubmissionError) as caught:
        submission.read_info(folder(fields))
    assert "mine/submission.yaml: " in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_that_is_wrong_is_told_at_once(folder):
    wrong = {"name": 3, "licence": None, "lisence": "MIT", "space": {"lr": {"min": "1e-3"}, "kind": {"mxa": 1}}}
    with pytest.raises(SubmissionError) as caught:
        submission.read_info(folder(wrong))
    told = str(caught.value).splitlines()
    places = [line.partition("submission.yaml: ")[2] for line in told]
    assert [place.split(":")[0] for place in places] == [
        "unknown key 'lisence'; did you mean 'licence'? known keys",
        "name",
        "licence",
        "space.kind",
        "space.lr",
    ]
    with pytest.raises(SubmissionError) as caught:
        submission.read_info(
            folder({"name": "yours", "space": {"a": {}, "lr": {}}, "points": [{"b": 1, "steps": 0.5}]})
        )
    assert len(str(caught.value).splitlines()) == 5


@pytest.mark.parametrize("kind", ["submission.yaml", "tuning_search_space.json"])
@pytest.mark.parametrize(
    "spoil", [lambda p: p.write_bytes(b"name: \xff\xfe"), lambda p: p.unlink() or p.symlink_to(".")]
)
def test_a_file_that_cannot_be_read_is_refused(folder, kind, spoil):
    made = folder()
    (made.path / "tuning_search_space.json").write_text("{}")
    assert submission.read_info(made)
    spoil(made.path / kind)
    if (made.path / kind).is_file():
        with pytest.raises(SubmissionError, match=rf"mine/{kind}: not valid"):
            submission.read_info(made)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"lr": {"min": 1, "max": 2}, "lr": {"min": 3, "max": 4}}', "'lr' is there twice"),
        ('{"lr": {"min": 1, "min": 0.5, "max": 2}}', "'min' is there twice"),
        ('{"lr": {"feasible_points": [1], "values": [2]}}', "has 'values', 'feasible_points' at once"),
        ('{"lr": {"feasible_points": [1], "max": 2}}', "has 'feasible_points', 'max' at once"),
        ('[{"lr": 1, "lr": 2}]', "'lr' is there twice"),
    ],
)
def test_a_search_space_in_json_that_says_two_things(folder, text, says):
    made = folder()
    (made.path / "tuning_search_space.json").write_text(text)
    with pytest.raises(SubmissionError) as caught:
        submission.read_info(made)
    assert "tuning_search_space.json: " in str(caught.value)
    assert says in str(caught.value)


def test_every_road_to_a_point_gives_the_same_types(folder):
    """So that one point is one trial: by the list, the space, its corners, a search, and hp.NAME."""
    made = folder({"space": {"lr": {"values": [0, 1, 2]}}, "points": [{"lr": 1}, {"lr": -0.0}]})
    info = submission.read_info(made)
    values = [point["lr"] for point in (*info.points, *search_space.corner_points(info))]
    values += [point["lr"] for point in search_space.draw_points(info, ["lr"], 20, 0)]
    values += [submission.choose_point(made, info, {"lr": typed})["lr"] for typed in (1, -0.0, 2.0)]
    assert set(map(repr, values)) == {"0.0", "1.0", "2.0"}


def test_missing_yaml(folder):
    made = folder()
    (made.path / "submission.yaml").unlink()
    with pytest.raises(SubmissionError, match=r"submission\.yaml is missing; it holds name, description"):
        submission.read_info(made)


def test_point_takes_the_types_of_the_defaults(folder):
    made = folder()
    info = submission.read_info(made)
    point = submission.choose_point(made, info, {"lr": 1, "steps": 4, "nesterov": False})
    assert point == {"lr": 1.0, "steps": 4, "nesterov": False, "kind": "a"}
    assert type(point["lr"]) is float
    assert info.defaults == GOOD["defaults"], "the defaults stay as they are"
    for name, value in (("lr", True), ("lr", "1"), ("steps", 1.5), ("steps", True), ("nesterov", 1), ("kind", 2)):
        with pytest.raises(SubmissionError, match=rf"hp\.{name}: expected \w+ like the default .* got {value!r}"):
            submission.choose_point(made, info, {name: value})
    with pytest.raises(SubmissionError, match=r"hp\.lr: expected a finite number, got inf"):
        submission.choose_point(made, info, {"lr": math.inf})
    with pytest.raises(SubmissionError, match=r"hp\.lrr: .* no such hyperparameter; did you mean 'lr'"):
        submission.choose_point(made, info, {"lrr": 1.0})


def test_build_adapts_optax_and_passes_algorithms(folder):
    made = folder(source="import optax\ndef build(task, hp):\n    hp['lr'] = 0\n    return optax.sgd(0.1)\n")
    point = {"lr": 0.1}
    assert isinstance(build_algorithm(made, None, point), Algorithm)
    assert point == {"lr": 0.1}, "build works on a copy"


def test_build_adapts_what_has_an_init_and_an_update(folder):
    source = "import optax\ndef build(task, hp): return optax.MultiSteps(optax.sgd(0.1), 2)\n"
    assert isinstance(build_algorithm(folder(source=source), None, {}), Algorithm)


def test_build_returns_the_algorithm_itself(folder):
    source = "from harness.api import Algorithm\nMINE = Algorithm(None, None)\ndef build(task, hp): return MINE\n"
    assert build_algorithm(folder(source=source), None, {}) == Algorithm(None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "expected a function build(task, hp), found none"),
        ("build = 3\n", "expected a function build(task, hp), found 3"),
        ("def build(task): ...\n", "build must take (task, hp): too many positional arguments"),
        ("def build(task, hp, more): ...\n", "build must take (task, hp): missing a required argument: 'more'"),
        ("def build(task, hp): return 3\n", "got int"),
        ("import optax\ndef build(task, hp): return optax.adam\n", "got function; call it: return adam(...)"),
        ("import optax\ndef build(task, hp): return optax.MultiSteps\n", "got type"),
        ("def build(task, hp):\n    return hp['nope']\n", "submission.py:2 (build): KeyError in build: 'nope'"),
        ("from optax import adamm\n", "submission.py:1 (<module>): ImportError in import: cannot import name 'adamm'"),
    ],
)
def test_bad_build_names_file_and_cause(folder, source, says):
    made = folder(source=source)
    with pytest.raises(SubmissionError) as caught:
        build_algorithm(made, None, {"lr": 0.1})
    assert says in str(caught.value)
    assert str(Path("mine/submission.py")) in str(caught.value)


def test_every_transformation_of_optax_is_one():
    """`build` tells an optax transformation by its type; those with extra arguments must count."""
    assert isinstance(optax.polyak_sgd(), optax.GradientTransformation)


def test_the_adapters_old_name_still_imports(tmp_path):
    (tmp_path / "mine").mkdir()
    code = "from harness.optax_adapter import from_optax\nimport optax\n"
    code += "build = lambda task, hp: from_optax(optax.sgd(1.0))\n"
    (tmp_path / "mine/submission.py").write_text(code)
    folder = Folder("submissions", "mine", tmp_path / "mine")
    assert isinstance(build_algorithm(folder, None, {}), Algorithm)
