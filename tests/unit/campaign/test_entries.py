"""Programs are entered and committed before the nonce of their board is drawn."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from harness.campaign import entries
from harness.errors import ConfigError, HarnessError, RunFolderError
from harness.machine import hardware

ROOT = Path(__file__).resolve().parents[3]


def enter(results: Path, *names: str, **fields: str) -> Path:
    return entries.enter(names, results, **{"suite": "demo", "device": "cpu"} | fields)


def git(where: Path, *words: str) -> None:
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "-C", str(where), *author, *words], check=True, capture_output=True)


@pytest.fixture
def results(tmp_path: Path, no_exports) -> Path:
    git(tmp_path, "init", "-q")
    return tmp_path / "results"


def test_every_point_and_program_is_entered(results: Path) -> None:
    file = enter(results, "muon", "adamw")
    machine = entries.folder_of("cpu", hardware.machine())
    assert file == results / machine / "demo-tuned.entries.json"
    held = entries.read(file)
    assert (held.submissions, held.nonce, held.drawn) == (["adamw", "muon"], None, None)
    assert (held.device, held.platform) == (machine, "cpu")
    assert [(one.workload, one.submission) for one in held.entries] == [
        (workload, name) for workload in ("lm_grammar", "mae_digits", "resnet_digits") for name in ("adamw", "muon")
    ]
    for one in held.entries:
        points = [json.dumps(point.hyperparameters) for point in one.points]
        assert len(set(points)) == len(points) > 1
        assert all(point.program for point in one.points)
        assert one.workload_program
    before = file.read_text()
    enter(results, "adamw")
    assert file.read_text() == before, "entered anew, with the same programs"
    enter(results, "lamb")
    assert entries.read(file).submissions == ["adamw", "lamb", "muon"], "the others stay"


def test_a_ruleset_without_fresh_seeds_has_no_entries(results: Path) -> None:
    with pytest.raises(ConfigError, match="rules quick draw no fresh seeds"):
        enter(results, "adamw", rules="quick")
    assert not results.exists()


def test_what_cannot_be_exported_is_not_entered(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries.processes, "program_ids", lambda wanted, told: [HarnessError("broken")] * len(wanted))
    with pytest.raises(HarnessError, match="broken"):
        enter(results, "adamw")
    assert not results.exists()


def test_a_nonce_is_drawn_once_after_the_commit(results: Path) -> None:
    file = enter(results, "adamw")
    with pytest.raises(RunFolderError, match=r"is in no commit; .* git add .* && git commit -m 'Enter adamw'"):
        entries.draw(file)
    git(results, "add", ".")
    git(results, "commit", "-qm", "Enter")
    enter(results, "muon")
    with pytest.raises(RunFolderError, match="is not in the last commit as it is here"):
        entries.draw(file)
    git(results, "commit", "-qam", "Enter another")
    drawn = entries.draw(file)
    assert drawn == entries.read(file)
    assert drawn.nonce
    assert 0 < drawn.nonce < 2**32
    assert drawn.drawn
    assert drawn.command == (
        f"harness run adamw muon rules=tuned suite=demo device=cpu seed={drawn.nonce} out=runs-demo-tuned"
    )
    git(results, "commit", "-qam", "Draw")
    for late in (lambda: entries.draw(file), lambda: enter(results, "lamb")):
        with pytest.raises(RunFolderError, match=f"has its nonce, {drawn.nonce}, since .* takes a new round: git rm"):
            late()
    assert entries.read(file) == drawn


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.entries.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"is damaged .*git checkout"):
        entries.read(tmp_path / "x.entries.json")
    (tmp_path / "x.entries.json").write_text("{}")
    with pytest.raises(RunFolderError, match="the field 'suite' is missing"):
        entries.read(tmp_path / "x.entries.json")


def test_a_card_names_a_folder() -> None:
    names = {"NVIDIA H200": "h200", "NVIDIA H100 80GB HBM3": "h100", "NVIDIA A100-SXM4-80GB": "a100"}
    names |= {"NVIDIA GeForce RTX 4090": "geforce-rtx-4090", "gpu": "gpu"}
    assert {name: entries.folder_name(name) for name in names} == names


def test_a_machine_names_a_folder() -> None:
    assert entries.folder_of("gpu", {"device": "NVIDIA H200", "cpu": "x", "cores": 2}) == "h200"
    assert (
        entries.folder_of("cpu", {"device": "cpu", "cpu": "Intel(R) Core(TM) i7", "cores": 8})
        == "intel-r-core-tm-i7-8-cores"
    )


def test_the_script(results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_leaderboard.py"))

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["make", "--results", str(results), *words])
        code = int(script["main"]())
        told = capsys.readouterr()
        return code, told.out + told.err

    code, told = call("--enter", "adamw", "--device", "cpu")
    assert (code, "--enter: name the board's suite" in told) == (2, True)
    code, told = call("--enter", "adamw", "--device", "cpu", "--suite", "demo")
    assert code == 0
    assert "adamw; when all are in, commit it, then --draw" in told
    (file,) = results.rglob("demo-tuned.entries.json")
    code, told = call("--draw", str(file))
    assert (code, "is in no commit" in told) == (2, True)
    git(results, "add", ".")
    git(results, "commit", "-qm", "Enter")
    code, told = call("--draw", str(file))
    assert code == 0
    assert f"harness run adamw rules=tuned suite=demo device=cpu seed={entries.read(file).nonce}" in told
