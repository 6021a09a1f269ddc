"""`harness data`: what it says and returns, and that no interruption leaves a set that is not whole."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli import main as cli
from harness.data import get as getting
from harness.data import store
from harness.data.specs import DATASETS, Arrays, DataSet, File
from harness.errors import DataError

ROOT = Path(__file__).resolve().parents[3]
TEXT = b"to be or not to be" * 100


def prepare(path: Path) -> Arrays:
    content = path.read_bytes()
    if content != TEXT:
        raise DataError(f"{path}: {len(content)} bytes of another text")
    return {"train": np.frombuffer(TEXT, np.uint8), "test": np.frombuffer(TEXT[:40], np.uint8)}


def toy(name: str = "toy", **changes: Any) -> DataSet:
    hash_ = store.content_sha256({"train": np.frombuffer(TEXT, np.uint8), "test": np.frombuffer(TEXT[:40], np.uint8)})
    file = File("toy.txt", None, None, len(TEXT), (f"{name}/toy.txt",))
    fields = {"source": "https://example.org", "licence": "CC0", "citation": "none", "prepared_bytes": 1840}
    return DataSet(**({"name": name, "what": "a toy", "sha256": hash_, "files": (file,), "prepare": prepare}
                      | fields | changes))  # fmt: skip


def child(mode: str, mirror: str) -> int:
    """What a subprocess runs: a get that says `here` and stops at a sync, or in its preparation until told to go."""
    before = int(mode) if mode.isdigit() else 10
    real, seen = os.fsync, []
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

    def fsync(descriptor: int) -> None:
        seen.append(descriptor)
        if len(seen) > before:
            print("here", flush=True)
            time.sleep(60)
        real(descriptor)

    def slowly(path: Path) -> Arrays:
        print("here", flush=True)
        deadline = time.monotonic() + 60
        while not (path.parent / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return prepare(path)

    os.fsync = fsync
    DATASETS["toy"] = toy(prepare=prepare if mode.isdigit() else slowly)
    return cli.main(["data", "get", "toy", "--mirror", mirror])


CHILD = "import runpy, sys; sys.exit(runpy.run_path(sys.argv[1])['child'](*sys.argv[2:]))"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    monkeypatch.setitem(DATASETS, "toy", toy())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    for name in ("toy", "other"):
        (tmp_path / "mirror" / name).mkdir(parents=True)
        (tmp_path / "mirror" / name / "toy.txt").write_bytes(TEXT)
    return tmp_path / "mirror"


@pytest.fixture
def start(mirror: Path):
    """Return a function that starts `child`, and make sure that none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def run(mode: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CHILD, __file__, mode, str(mirror)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def data(*words: object) -> int:
    return cli.main(["data", *map(str, words)])


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"the process ended with {process.wait()} before it said {word}")


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("toy", ".toy.lock"))


def test_get_once(folder: Path, mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data("get", "toy", "--mirror", mirror) == 0
    assert f"toy: ready in {folder / 'toy'}" in capsys.readouterr().out
    assert bytes(store.load("toy")["train"]) == TEXT
    assert store.read_meta("toy")["source"] == str(mirror / "toy" / "toy.txt")
    made = (folder / "toy" / "meta.json").stat()
    assert data("get", "toy", "--mirror", "/nowhere") == 0, "nothing is needed any more"
    assert "nothing to get" in capsys.readouterr().out
    assert (folder / "toy" / "meta.json").stat() == made
    assert leftovers(folder) == []
    assert sorted(path.name for path in mirror.iterdir()) == ["other", "toy"], "a mirror stays as it is"


def test_a_damaged_set_is_made_anew(folder: Path, mirror: Path) -> None:
    data("get", "toy", "--mirror", mirror)
    array = folder / "toy" / "train.npy"
    array.write_bytes(array.read_bytes()[:-1] + b"!")
    assert data("verify", "toy") == 3
    assert data("get", "toy", "--mirror", mirror) == 0
    assert data("verify", "toy") == 0


def test_what_comes_with_the_harness_needs_no_getting(capsys: pytest.CaptureFixture[str]) -> None:
    assert data("get", "digits", "grammar") == 0
    assert "digits: comes with the harness, nothing to get" in capsys.readouterr().out


def test_one_that_fails_does_not_stop_the_others(
    folder: Path, mirror: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "other", toy("other"))
    (mirror / "other" / "toy.txt").write_bytes(TEXT[:-1])
    assert data("get", "other", "toy", "--mirror", mirror) == 3
    assert f"other{os.sep}toy.txt: 1799 bytes of another text" in capsys.readouterr().err
    assert [store.state(name)[0] for name in ("other", "toy")] == ["missing", "ready"]
    assert (mirror / "other" / "toy.txt").read_bytes() == TEXT[:-1], "a mirror's file is not ours to move"


def test_get_all(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in DATASETS if name not in ("toy", "digits")]:
        monkeypatch.delitem(DATASETS, name)
    assert data("get", "--all", "--mirror", mirror) == 0
    assert store.state("toy")[0] == "ready"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gte"], "unknown action 'gte'; did you mean 'get'?"),
        (["get"], "name data sets to get, or all of them with --all"),
        (["get", "tinyshakespear"], "did you mean 'tinyshakespeare'?"),
        (["list", "--all"], "takes no --all"),
        (["verify", "--mirror", "x"], "takes no --mirror"),
        (["get", "toy", "--miror", "x"], "did you mean '--mirror'?"),
    ],
)
def test_a_slip_is_exit_code_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert data(*words) == 2
    assert message in capsys.readouterr().err


def test_list_says_how_each_stands(folder: Path, mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def states() -> dict[str, str]:
        assert data("list") == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        return {line[0]: line[1] for line in lines if len(line) > 1}

    assert (states()["digits"], states()["toy"]) == ("embedded", "missing")
    data("get", "toy", "--mirror", mirror)
    assert states()["toy"] == "ready"
    (folder / "toy" / "meta.json").unlink()
    assert states()["toy"] == "damaged"
    workloads = Path("workloads") / "reader"
    workloads.mkdir(parents=True)
    (workloads / "workload.py").write_text("INFO = 3")  # broken: passed over
    data()
    out = capsys.readouterr().out
    assert f"folder: {folder}" in out
    assert "resnet_digits" in next(line for line in out.splitlines() if line.startswith("digits"))


def test_verify(folder: Path, mirror: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data("get", "toy", "--mirror", mirror)
    assert data("verify", "toy", "digits") == 0
    assert f"toy: whole, content sha256 {DATASETS['toy'].sha256}" in capsys.readouterr().out
    array = folder / "toy" / "test.npy"
    array.write_bytes(array.read_bytes()[:-1] + b"!")
    assert data("verify", "toy", "digits") == 3
    captured = capsys.readouterr()
    assert "mend it with: harness data get toy" in captured.err
    assert "digits: whole" in captured.out


# ---- what goes wrong


def test_a_download_that_is_something_else_is_kept_aside(
    folder: Path, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a download from a mirror whose copy is damaged: only the preparation can tell."""
    downloads = getting.downloads("toy")
    for n in (1, 2):
        downloads.mkdir(parents=True, exist_ok=True)
        (downloads / "toy.txt").write_bytes(TEXT[:-n])
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(DATASETS, "toy", toy(files=(File("toy.txt", "http://127.0.0.1:9/toy.txt", None, 1800, ()),)))
            assert data("get", "toy") == 3
        assert f"Refused and kept as {downloads}{os.sep}toy.txt.corrupt-{n}" in capsys.readouterr().err
    assert [path.stat().st_size for path in sorted(downloads.iterdir())] == [1799, 1798]
    assert store.state("toy")[0] == "missing"


def test_a_download_is_removed_once_the_set_is_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = getting.downloads("toy")
    downloads.mkdir(parents=True)
    (downloads / "toy.txt").write_bytes(TEXT)
    monkeypatch.setitem(DATASETS, "toy", toy(files=(File("toy.txt", "http://127.0.0.1:9/toy.txt", None, 1800, ()),)))
    assert data("get", "toy") == 0
    assert not list(downloads.iterdir())


def test_too_little_space_is_told_before_anything_is_done(
    folder: Path, mirror: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "toy", toy(prepared_bytes=2**60))
    assert data("get", "toy", "--mirror", mirror) == 3
    assert f"{folder} has" in (said := capsys.readouterr().err)
    assert "HARNESS_DATA" in said
    assert leftovers(folder) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fails_meanwhile(
    folder: Path, mirror: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def save(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(store.np, "save", save)
        assert data("get", "toy", "--mirror", mirror) == 3
    said = capsys.readouterr().err
    assert os.strerror(code) in said
    assert ("make room" in said) == (code != errno.EIO)
    assert leftovers(folder) == []
    assert data("get", "toy", "--mirror", mirror) == 0


def test_a_folder_that_cannot_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "file" / "data"))
    assert data("get", "toy") == 3
    assert f"{tmp_path / 'file'}" in (said := capsys.readouterr().err)
    assert "HARNESS_DATA" in said


@pytest.mark.parametrize("moment", ["preparing", "0", "1", "2", "3"])
def test_a_kill_leaves_nothing_that_verifies(folder: Path, mirror: Path, start: Any, moment: str) -> None:
    """Within the preparation, and at each sync: of two arrays, of meta.json, of the folder before it is renamed."""
    process = start(moment)
    wait_for(process, "here")
    process.kill()
    process.wait()
    assert store.state("toy")[0] == "missing"
    assert data("verify", "toy") == 3
    assert leftovers(folder) == ([] if moment == "preparing" else [".toy.making"])
    assert data("get", "toy", "--mirror", mirror) == 0
    assert leftovers(folder) == []


def test_ctrl_c_exits_130_and_cleans_up(folder: Path, start: Any) -> None:
    process = start("0")
    wait_for(process, "here")
    getting.downloads("toy").mkdir(parents=True)
    (getting.downloads("toy") / "toy.txt.part").write_bytes(bytes(2**20))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "toy.txt.part, 1.0 MiB" in out
    assert "type the same again" in out
    assert leftovers(folder) == ["downloads"]


def test_two_at_once_prepare_once(folder: Path, mirror: Path, start: Any) -> None:
    first = start("preparing")
    wait_for(first, "here")
    second = start("preparing")
    wait_for(second, "another process is at it; waiting")
    (mirror / "toy" / "go").touch()
    said = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    assert "nothing to get" in said[1]
    assert "here" not in said[1], "the second has not prepared it again"
    store.verify("toy")
    assert leftovers(folder) == []
