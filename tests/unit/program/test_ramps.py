"""Shorter ways in than a folder: a single file, and the dotted name of a function."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.campaign import config, hyperparameters
from harness.check import static
from harness.cli import main as cli
from harness.errors import ConfigError, SubmissionError
from harness.program import ramps, submission
from harness.program.build import build_algorithm

FILE = '''"""SGD, in one file.

More of it.
"""
import optax
DEFAULTS = {"learning_rate": 0.05, "nesterov": True}
SPACE: dict = {"learning_rate": {"min": 0.001, "max": 1.0, "scaling": "log"}}


def build(task, hp):
    return optax.sgd(hp["learning_rate"], momentum=0.9, nesterov=hp["nesterov"])
'''


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mine.py"
    file.write_text(text)
    return str(file)


def test_a_file_is_a_submission_with_what_it_says(tmp_path: Path) -> None:
    folder = ramps.find(written(tmp_path, FILE))
    info = submission.read_info(folder)
    assert (folder.name, info.name, info.description) == ("mine", "mine", "SGD, in one file.")
    assert info.defaults == {"learning_rate": 0.05, "nesterov": True}
    assert info.space["learning_rate"].scaling == "log" and info.tuning == "external"
    assert (folder.path / "submission.py").read_text() == FILE


def test_an_edited_file_is_another_submission(tmp_path: Path) -> None:
    one = ramps.find(written(tmp_path, FILE))
    again = ramps.find(written(tmp_path, FILE))
    other = ramps.find(written(tmp_path, FILE.replace("0.9", "0.95")))
    assert one.source_hash == again.source_hash != other.source_hash


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("DEFAULTS = dict(learning_rate=0.1)\n", "mine.py:1: DEFAULTS must be written out"),
        ("DEFAULTS = [0.1]\n", "expected DEFAULTS = {'learning_rate': 0.001}, got [0.1]"),
        ("def build(:\n", "mine.py:1: SyntaxError"),
    ],
)
def test_a_file_that_cannot_be_read_so_is_an_error_at_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SubmissionError) as error:
        ramps.find(written(tmp_path, text))
    assert told in str(error.value)


def test_errors_name_the_file_and_not_its_copy(tmp_path: Path) -> None:
    name = written(tmp_path, "DEFAULTS = {}\n\n\ndef build(task, hp):\n    return hp['rate']\n")
    with pytest.raises(SubmissionError) as error:
        build_algorithm(ramps.find(name), None, {})  # type: ignore[arg-type]
    assert f"{name}:5 (build): KeyError" in str(error.value)


def test_a_bare_name_finds_the_file_that_lies_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"unknown submission 'mine'; .* and for \./mine\.py\)"):
        ramps.find("mine")
    written(tmp_path, FILE)
    assert ramps.find("mine") == ramps.find("mine.py")
    words = ["mine.py", "./mine", "mine", "a/mine.py", "optax.contrib.muon", "my.package:mine"]
    assert list(map(ramps.called, words)) == ["mine"] * 4 + ["optax.contrib.muon", "my.package.mine"]
    assert cli.main(["show", "mine"]) == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SPACE = {'lr': {'min': 0.1, 'max': 1.0}}", "SPACE: 'lr' has no default; DEFAULTS: none found"),
        ("DEFAULTS = {'lr': 0.1}\nSPACE = {'lr': {'min': 2.0, 'max': 1.0}}", "SPACE.lr: expected min < max"),
        ("DEFAULTS = {'lr': '1e-3'}", "DEFAULTS.lr: YAML reads 1e-3 as text"),
        ("REQUIRES = ['a b']", "REQUIRES: expected the name of a package"),
    ],
)
def test_what_a_file_says_wrongly_is_told_in_its_own_words(tmp_path: Path, text: str, told: str) -> None:
    name = written(tmp_path, text)
    with pytest.raises(SubmissionError) as error:
        submission.read_info(ramps.find(name))
    assert str(error.value).startswith(f"{name}: {told}")


def test_a_hyperparameter_that_a_function_lacks_is_told_by_its_name() -> None:
    folder = ramps.find("optax.contrib.muon")
    with pytest.raises(SubmissionError, match=r"^hp\.foo: optax\.contrib\.muon has no such hyperparameter; defaults: "):
        submission.choose_point(folder, submission.read_info(folder), {"foo": 1})


def test_no_such_file() -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        ramps.find("nowhere/mine.py")


def test_a_function_has_the_hyperparameters_of_its_signature() -> None:
    folder = ramps.find("optax.contrib.muon")
    info = submission.read_info(folder)
    assert folder.name == "optax.contrib.muon" and info.required == ("learning_rate",)
    assert (info.defaults["ns_steps"], info.defaults["beta"], info.defaults["nesterov"]) == (5, 0.95, True)
    assert "weight_decay_mask" not in info.defaults and info.defaults["schedule"] == "constant"
    assert "optax.contrib.muon (optax " in info.description


def test_what_has_no_default_is_asked_for_and_searched_over(tmp_path: Path) -> None:
    folder = ramps.find("optax.contrib.muon")
    info = submission.read_info(folder)

    def points(*words: str) -> hyperparameters.Points:
        run = config.compose([f"out={tmp_path}", *words])
        return hyperparameters.points_of(folder, info, run.rules, run)

    with pytest.raises(ConfigError, match=r"no default for learning_rate; give one, as in hp\.learning_rate=0\.001"):
        points()
    assert points("hp.learning_rate=0.02").studies[0][0]["learning_rate"] == 0.02
    assert len({point["learning_rate"] for point in points("rules=tuned").studies[0]}) > 1


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("optax.contrib.muno", "optax.contrib has no 'muno'; near are muon"),
        ("nopackage.adam", "no package 'nopackage' is installed"),
        ("optax.contrib", "is module, expected a function"),
        ("optax.masked", "its parameter 'inner' has no default and is no number"),
    ],
)
def test_a_name_that_is_no_factory_says_why(name: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:  # what was typed is wrong: exit code 2
        ramps.find(name)
    assert told in str(error.value)


def test_check_asks_no_page_of_them(tmp_path: Path) -> None:
    for name in (written(tmp_path, FILE), "optax.contrib.muon"):
        info, findings = static.look_at(ramps.find(name))
        assert info is not None
        assert findings == []


def test_new_writes_what_the_dotted_name_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "mine", "--optax", "optax.contrib.schedule_free_adamw"]) == 0
    text = (tmp_path / "submissions/mine/submission.py").read_text()
    ramp = ramps.find("optax.contrib.schedule_free_adamw")
    assert text == (ramp.path / "submission.py").read_text()
    assert "evaluated_at(made, optax.contrib.schedule_free_eval_params, batches)" in text
    assert submission.read_info(ramps.find("mine")).required == ()
