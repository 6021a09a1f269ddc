"""Finding and loading folders: the first place wins, names are suggested, sources are hashed, faults name lines."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.check.advice import advise
from harness.errors import ConfigError, SubmissionError, WorkloadError
from harness.program import discovery
from harness.program.confinement import of_submission
from harness.program.discovery import Folder

ROOT = Path(__file__).resolve().parents[3]


def make(root: Path, name: str, source: str = "def build(task, hp): ...\n", kind: str = "submissions") -> Path:
    path = root / kind / name
    path.mkdir(parents=True)
    (path / discovery._ENTRY[kind]).write_text(source)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder of its own, and a place on HARNESS_PATH."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HARNESS_PATH", f"{os.pathsep}{tmp_path / 'there'}{os.pathsep}")
    return tmp_path / "here"


def test_roots_in_order_each_once(here, monkeypatch):
    there = here.parent / "there"
    assert discovery.roots("submissions") == [ROOT / "submissions"]
    make(here, "a")
    make(there, "b")
    assert discovery.roots("submissions") == [here / "submissions", there / "submissions", ROOT / "submissions"]
    monkeypatch.chdir(ROOT)
    assert discovery.roots("submissions") == [ROOT / "submissions", there / "submissions"]


def test_the_first_place_wins(here):
    there = here.parent / "there"
    make(there, "adamw")
    assert discovery.find("submissions", "adamw").path == there / "submissions/adamw"
    make(here, "adamw")
    assert discovery.find("submissions", "adamw").path == here / "submissions/adamw"
    assert discovery.find_all("submissions")["adamw"].path == here / "submissions/adamw"
    assert discovery.find_all("submissions")["nadamw"].path == ROOT / "submissions/nadamw"


def test_only_folders_with_the_entry_file_are_found(here):
    make(here, "real")
    (here / "submissions/empty").mkdir()
    (here / "submissions/notes.txt").write_text("x")
    found = discovery.find_all("submissions")
    assert "real" in found
    assert {"empty", "notes.txt"}.isdisjoint(found)
    assert list(found) == sorted(found)
    with pytest.raises(ConfigError, match=r"submissions/empty is no submission folder: expected a file submission\.py"):
        discovery.find("submissions", "empty")


def test_by_path(here, monkeypatch):
    path = make(here, "mine")
    for name in (str(path), f"{path}/", "./submissions/mine", "submissions/mine"):
        assert discovery.find("submissions", name) == Folder("submissions", "mine", path)
    monkeypatch.chdir(path)
    assert discovery.find("submissions", ".") == Folder("submissions", "mine", path)
    with pytest.raises(ConfigError, match=r"\./nothing is no submission folder"):
        discovery.find("submissions", "./nothing")


def test_unknown_name_suggests_the_nearest_and_says_where_it_looked(here):
    with pytest.raises(
        ConfigError, match=r"unknown submission 'adamv'; did you mean 'adamw'\? found submissions: "
    ) as e:
        discovery.find("submissions", "adamv")
    assert str(ROOT / "submissions") in str(e.value)


def test_hash_depends_on_python_and_yaml_alone(tmp_path):
    folder = Folder("submissions", "a", make(tmp_path, "a"))
    first = folder.source_hash
    assert len(first) == 12
    for name in ("README.md", "target.json", "notes.pyc"):
        (folder.path / name).write_text("words")
    assert folder.source_hash == first
    copy = tmp_path / "elsewhere/a"
    shutil.copytree(folder.path, copy)
    assert Folder("submissions", "a", copy).source_hash == first, "the place of the folder does not count"

    seen = {first}
    (folder.path / "sub").mkdir()
    for name in ("rule.py", "sub/rule.py", "a.yaml", "b.yml"):
        (folder.path / name).write_text("x = 1\n")
        seen.add(folder.source_hash)
    (folder.path / "rule.py").write_text("x = 2\n")
    seen.add(folder.source_hash)
    (folder.path / "rule.py").rename(folder.path / "rules.py")
    seen.add(folder.source_hash)
    assert len(seen) == 7, "each new file, changed byte and changed name makes another hash"


def test_hash_covers_what_is_imported_from_beside_the_folder(tmp_path):
    folder = Folder("workloads", "a", tmp_path / "workloads/a")
    shared = tmp_path / "workloads/shared"
    for place in (folder.path, shared):
        place.mkdir(parents=True)
    (folder.path / "workload.py").write_text("def load():\n    from ..shared import model\n")
    (shared / "__init__.py").write_text("")
    (shared / "model.py").write_text("from .layers import linear\n")
    (shared / "layers.py").write_text("linear = 1\n")
    (shared / "other.py").write_text("unused = 1\n")
    first = folder.source_hash
    (shared / "other.py").write_text("unused = 2\n")
    assert folder.source_hash == first, "what is not imported does not count"
    (shared / "layers.py").write_text("linear = 2\n")
    assert folder.source_hash != first, "what an imported file imports does"
    (shared / "layers.py").write_text("linear = 1\n")
    assert folder.source_hash == first
    (folder.path / "workload.py").write_text("import json\nfrom pathlib import Path\n")
    assert folder.source_hash != first
    (folder.path / "workload.py").write_text("def broken(:\n")
    assert folder.source_hash, "what cannot be parsed can be hashed"


def test_load_gives_each_folder_a_package_of_its_own(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for root, number in ((one, 1), (two, 2)):
        path = make(root, "same-name", "from .rule import NUMBER\n")
        (path / "rule.py").write_text(f"NUMBER = {number}\n")
    modules = [discovery.load(Folder("submissions", "same-name", r / "submissions/same-name")) for r in (one, two)]
    assert [m.NUMBER for m in modules] == [1, 2]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\nx = = 2\n", r"submission\.py:2: SyntaxError in import: "),
        ("import optix_typo\n", r"submission\.py:1 \(<module>\): ModuleNotFoundError in import: No module named"),
        ("\n\ndef f():\n    return {}['a']\nf()\n", r"submission\.py:4 \(f\): KeyError in import: 'a'"),
        ("raise ValueError\n", r"submission\.py:1 \(<module>\): ValueError in import: no message"),
    ],
)
def test_a_failing_import_names_its_line(tmp_path, source, says):
    path = make(tmp_path, "bad", source)
    with pytest.raises(SubmissionError, match=says):
        discovery.load(Folder("submissions", "bad", path))


def test_faults_of_workloads_and_names(tmp_path):
    path = make(tmp_path, "bad", "1 / 0\n", kind="workloads")
    with pytest.raises(WorkloadError, match=r"workload\.py:1 .*ZeroDivisionError"):
        discovery.load(Folder("workloads", "bad", path))
    path = make(tmp_path, "v1.2")
    assert discovery.load(Folder("submissions", "v1.2", path)).__name__.endswith(".v1_2.submission")
    for name, source in (("none", ""), ("other", "INFO = {}\n")):
        path = make(tmp_path, name, source, kind="workloads")
        with pytest.raises(
            WorkloadError, match=r"expected INFO, a harness\.program\.workload\.WorkloadInfo, got (NoneType|dict)"
        ):
            discovery.workload_info(Folder("workloads", name, path))


def test_a_harness_error_passes_unchanged(tmp_path):
    source = "from harness.errors import DataError\nraise DataError('download it')\n"
    path = make(tmp_path, "data", source, kind="workloads")
    with pytest.raises(Exception, match=r"^download it$") as caught:
        discovery.load(Folder("workloads", "data", path))
    assert type(caught.value).__name__ == "DataError"


def test_a_branch_on_a_traced_array_is_told_with_its_mend_and_none_of_our_frames(tmp_path):
    import jax

    def branches(x):
        return min(x, 1.0)

    try:
        jax.jit(branches)(2.0)
    except Exception as error:  # noqa: BLE001 - whatever jax raises
        told = discovery.blame(tmp_path, "step", error)
    assert told.endswith("cannot look at a traced array: use jnp.where, jnp.minimum or jax.lax.cond")
    assert "\n" not in told
    assert "for jit" not in told


ODD = {
    "a link to nowhere, as Emacs locks a file": lambda mine: (mine / ".#submission.py").symlink_to("nowhere"),
    "a link to nowhere that is not hidden": lambda mine: (mine / "gone.py").symlink_to("nowhere"),
    "a link to itself": lambda mine: (mine / "loop.py").symlink_to("loop.py"),
    "a folder called like a file": lambda mine: (mine / "old.py").mkdir(),
    "a pipe": lambda mine: os.mkfifo(mine / "pipe.py"),
    "a resource fork of macOS": lambda mine: (mine / "._submission.py").write_bytes(b"\x00\x05\x16\x07"),
    "a notebook's copy": lambda mine: make(mine, ".ipynb_checkpoints", "x = 1"),
    "a name in no encoding": lambda mine: Path(os.fsdecode(os.fsencode(mine) + b"/\xff.txt")).write_text("x"),
}


@pytest.mark.parametrize("put", ODD.values(), ids=ODD)
def test_what_editors_and_systems_leave_in_a_folder_is_no_part_of_it(tmp_path, put):
    mine = make(tmp_path, "mine")
    folder = Folder("submissions", "mine", mine)
    before = folder.source_hash
    put(mine)
    assert folder.source_hash == before
    assert discovery.files_of(mine)[0] == mine / "submission.py"
    of_submission(mine, [])
    advise(mine)


def test_odd_imports_and_names_are_hashed(tmp_path):
    (tmp_path / "shared.py").write_text("clip = 1\n")
    dots = "." * 40
    mine = make(tmp_path, "mine", f"from ...shared import clip\nfrom {dots}shared import clip\n")
    folder = Folder("submissions", "mine", mine)
    before = folder.source_hash
    assert discovery.imported([mine / "submission.py"], mine.parent) == set(), "Python refuses to import it"
    (mine / "deep.py").write_text("x = " + "(" * 5000 + ")" * 5000)
    Path(os.fsdecode(os.fsencode(mine) + b"/\xff.py")).write_text("x = 1\n")
    assert folder.source_hash != before


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    mine = make(tmp_path, "mine")

    def refused(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(SubmissionError, match=r"mine/submission\.py cannot be read \(Permission denied\); make it"):
        _ = Folder("submissions", "mine", mine).source_hash


def test_hidden_folders_are_no_submissions(here):
    make(here, ".old")
    assert ".old" not in discovery.find_all("submissions")
