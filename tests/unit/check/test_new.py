"""`harness new`: what it writes, what it refuses, and what it tells to type."""

from __future__ import annotations

import shlex

import pytest

from harness.check import new
from harness.cli import main as cli
from harness.program import discovery, submission


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_PATH", raising=False)
    return tmp_path


@pytest.mark.parametrize("options", [[], ["--full"]])
def test_writes_a_submission_by_its_name(here, options, capsys):
    assert cli.main(["new", "mine", *options]) == 0
    folder = discovery.find("submissions", "mine")
    assert folder.path == here / "submissions/mine"
    assert sorted(path.name for path in folder.path.iterdir()) == sorted(new.FILES)
    assert submission.read_info(folder).name == "mine"
    assert (folder.path / "README.md").read_text().startswith("# mine\n")
    assert ("Algorithm(" in (folder.path / "submission.py").read_text()) == bool(options)
    captured = capsys.readouterr()
    assert captured.out.endswith("next:\n  harness check mine\n  harness run mine workload=quadratic stop=horizon\n")
    assert "warning" not in captured.out + captured.err


def test_a_folder_that_takes_the_name_of_a_file_is_told(here, capsys):
    (here / "mine.py").touch()
    assert cli.main(["new", "mine"]) == 0
    assert "warning: mine means this folder from now on; the file is mine.py\n" in capsys.readouterr().out


@pytest.mark.parametrize("template", sorted(path.name for path in new.TEMPLATES.iterdir() if path.is_dir()))
def test_a_template_is_short(template):
    source = (new.TEMPLATES / template / "submission.py").read_text()
    body = source[source.index("def build") :]
    assert len(body.splitlines()) <= {"minimal": 10, "full": 26}[template]


def test_a_path_is_taken_as_it_is_and_told_so_that_it_can_be_typed(here, capsys):
    assert cli.main(["new", "./work/mine"]) == 0
    assert (here / "work/mine/submission.py").is_file()
    assert capsys.readouterr().out.endswith(
        "  harness check work/mine\n  harness run work/mine workload=quadratic stop=horizon\n"
    )
    assert cli.main(["new", "./with space/mine"]) == 0
    assert shlex.split(capsys.readouterr().out.splitlines()[-2])[-1] == "with space/mine"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my-opt", "'my-opt': expected letters, digits and underscores, as in 'my_opt'"),
        ("1st", "'1st': expected letters, digits and underscores, as in 'my_1st'"),
        ("class", "as in 'my_class'"),
        ("./v1.2", "as in 'v1_2'"),
    ],
)
def test_bad_names_are_refused(here, name, says, capsys):
    assert cli.main(["new", name]) == 2
    assert says in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_nothing_is_overwritten(here, capsys):
    assert cli.main(["new", "mine"]) == 0
    (here / "submissions/mine/submission.py").write_text("mine")
    assert cli.main(["new", "mine"]) == 2
    assert "submissions/mine is there already; choose another name, or remove it first" in capsys.readouterr().err
    assert (here / "submissions/mine/submission.py").read_text() == "mine"


def test_a_name_that_hides_another_is_told(here, capsys):
    assert cli.main(["new", "adamw"]) == 0
    assert "warning: there is a submission called adamw already; this one hides " in capsys.readouterr().out
    assert cli.main(["new", "./other/muon"]) == 0
    assert "called muon already; another is at " in capsys.readouterr().out
