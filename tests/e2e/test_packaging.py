"""The wheel's content, the lock, and what the two commands say when they cannot start."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ("workloads", "submissions", "configs")
LANES = ("3.11.9", "3.12.9", "3.13.9")


@pytest.fixture(scope="module")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the wheel is made from, with leftovers that must stay out of it."""
    tree = tmp_path_factory.mktemp("source")
    for folder in ("harness", *BUNDLED):
        shutil.copytree(ROOT / folder, tree / folder)
    for file in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / file, tree)
    (tree / "tests").mkdir()
    (tree / "tests" / "test_planted.py").touch()
    for folder in ("harness", *BUNDLED):
        (tree / folder / "__pycache__").mkdir(exist_ok=True)
        (tree / folder / "__pycache__" / "planted.cpython-311.pyc").touch()
        (tree / folder / "planted.pyc").touch()
    (tree / "runs" / "planted").mkdir(parents=True)
    (tree / "runs" / "planted" / "log.jsonl").touch()
    return tree


@pytest.fixture(scope="module")
def wheel_file(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline with the locked hatchling."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=source_tree, check=True, capture_output=True, timeout=120)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(wheel_file: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(wheel_file) as archive:
        yield archive


def _sources(folder: Path) -> set[str]:
    """Every file in the folder, relative to it, but for compiled code."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in files if path.suffix != ".pyc"}


def test_wheel_has_one_import_name(wheel: zipfile.ZipFile) -> None:
    top_level = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top_level if not name.endswith(".dist-info")} == {"harness"}


def test_wheel_carries_the_package_and_the_bundled_folders(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for folder in BUNDLED:
        expected = {f"harness/_bundled/{folder}/{file}" for file in _sources(ROOT / folder)}
        assert expected, f"{folder} is empty"
        assert {name for name in names if name.startswith(f"harness/_bundled/{folder}/")} == expected
    package = {name for name in names if name.startswith("harness/") and not name.startswith("harness/_bundled/")}
    assert package == {f"harness/{file}" for file in _sources(ROOT / "harness")}


def test_wheel_leaves_leftovers_out(wheel: zipfile.ZipFile) -> None:
    assert [name for name in wheel.namelist() if "planted" in name or "__pycache__" in name] == []


def test_wheel_metadata(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "License-Expression: Apache-2.0" in wheel.read(f"{info}/METADATA").decode()
    assert "harness = harness.cli.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_the_wheel_works_without_a_clone(wheel_file: Path, tmp_path: Path) -> None:
    """Install the wheel in an empty environment and run what it brings, in an empty folder.

    The dependencies are those of this environment, so that no second jax is downloaded. That the versions which an
    installer finds in a registry fit together is not shown here.
    """
    place, home = tmp_path / "empty", tmp_path / "environment"
    place.mkdir()
    venv.create(home, with_pip=True)
    (site,) = home.glob("lib/python3*/site-packages")
    known = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HARNESS_CACHE": str(tmp_path / "cache")}

    def call(*words: str) -> str:
        command = [str(home / "bin" / words[0]), *words[1:]]
        done = subprocess.run(command, cwd=place, env=known, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    call("python", "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", str(wheel_file))
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")  # the .pth files there do not count

    (adamw,) = json.loads(call("harness", "show", "adamw", "--json"))["found"]
    assert Path(adamw["path"]) == site / "harness/_bundled/submissions/adamw"
    table = call("harness", "run", "adamw", "nadamw", "workload=quadratic", "stop=horizon", "device=cpu")
    assert re.search(r"^nadamw +horizon_reached ", table, re.MULTILINE)
    scored = json.loads(call("harness", "score", "--json"))
    assert scored["status"] == {name: {"quadratic": "horizon_reached"} for name in ("adamw", "nadamw")}
    assert sorted(path.name for path in place.iterdir()) == ["runs"]


def test_editable_install_copies_nothing(source_tree: Path, tmp_path: Path) -> None:
    """A copy of workloads/ in the environment would go stale and be found before the real one."""
    build = "import hatchling.build, sys; hatchling.build.build_editable(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source_tree, check=True, timeout=120)
    (path,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        assert len(names) == 1
        assert archive.read(names[0]).decode().split() == [str(source_tree)]


def _pins(lock: Path) -> Iterator[tuple[Requirement, list[str]]]:
    """Yield each pin of a lock with its hashes; anything else in the file is an error."""
    text = re.sub(r"^ *#.*\n", "", lock.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    for line in text.splitlines():
        requirement, *hashes = re.split(r" +--hash=", line.strip())
        assert re.match(r"[a-z0-9-]+==[^ ]+( ; .+)?$", requirement), f"not a pin: {line[:80]!r}"
        yield Requirement(requirement), hashes


@pytest.mark.parametrize("lock", sorted(ROOT.glob("requirements*.lock")), ids=lambda path: path.name)
def test_lock_is_hashed_and_names_no_address(lock: Path) -> None:
    pins = list(_pins(lock))
    assert len(pins) > 50
    for requirement, hashes in pins:
        assert hashes, f"{requirement.name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), requirement.name
    assert "://" not in lock.read_text()
    assert not re.search(r"(^|\s)(/|file:|-c |-r |-i )", lock.read_text())


@pytest.mark.parametrize("python", LANES)
def test_lock_satisfies_pyproject(python: str) -> None:
    """Every direct dependency, of use, of development and of the build, has one fitting pin in each lane."""
    major, minor, _ = python.split(".")
    environment = {"python_full_version": python, "python_version": f"{major}.{minor}", "sys_platform": "linux"}
    versions: dict[str, str] = {}
    for pin, _ in _pins(ROOT / "requirements.lock"):
        if pin.marker is None or pin.marker.evaluate(environment):
            name = canonicalize_name(pin.name)
            assert name not in versions, f"{name} is pinned twice"
            versions[name] = next(iter(pin.specifier)).version

    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    direct = chain(pyproject["project"]["dependencies"], *pyproject["dependency-groups"].values())
    for requirement in map(Requirement, direct):
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is not in requirements.lock; run scripts/lock"
        assert requirement.specifier.contains(versions[name], prereleases=True), (str(requirement), versions[name])


def _start(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | variables
    command = ["bash", str(ROOT / script)]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def old_python(tmp_path: Path) -> Path:
    """A program that answers as Python 3.10 would."""
    path = tmp_path / "python3.10"
    path.write_text("#!/bin/sh\necho 'cpython 3.10 linux x86_64'\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("script", ["scripts/run", "scripts/test", ".ci/run"])
def test_commands_refuse_an_old_python(script: str, old_python: Path, tmp_path: Path) -> None:
    result = _start(script, PYTHON=str(old_python), VENV=str(tmp_path / "venv"))
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"error: PYTHON={old_python} is cpython 3.10 linux x86_64; the harness needs CPython 3.11, 3.12 or 3.13\n"
    )
    assert list(tmp_path.glob("venv*")) == []


def test_commands_name_what_is_missing(tmp_path: Path) -> None:
    venv = str(tmp_path / "venv")
    assert "PYTHON=no-such-python: no such command" in _start("scripts/run", PYTHON="no-such-python", VENV=venv).stderr
    assert "error: no missing.lock in " in _start("scripts/run", LOCK="missing.lock", VENV=venv).stderr
    assert "INSTALLER=conda: it is uv or pip" in _start("scripts/run", INSTALLER="conda", VENV=venv).stderr


def test_commands_leave_a_folder_alone_that_is_no_environment(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    result = _start("scripts/run", PYTHON=sys.executable, VENV=str(tmp_path / "mine"), INSTALLER="pip")
    assert result.returncode == 1
    assert "is there and is no virtual environment" in result.stderr
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize("script", ["scripts/run", "scripts/test", "scripts/lock", ".ci/run"])
def test_commands_are_executable(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
