"""Every command has `--json`: one object on standard output and nothing else there."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import fake_place
import pytest
import written_runs

from harness.cli import main as cli
from harness.machine import hardware, load
from harness.record import pack
from harness.record.pack import About, Source
from harness.report import doctor
from harness.verify import publish

ROOT = Path(__file__).resolve().parents[3]
RUN = ("suite=mine", "device=cpu", "tensorboard=false")
ABOUT = About(
    harness="0.1.0", loads_with={"jax": "0.10.2"}, device="cpu", machine={"cpu": "Some CPU", "cores": 2},
    rules=("quick",), submissions=(Source("mine", "abc", "submissions/mine-abc/mine", None),), states=False,
)  # fmt: skip
MEMBERS = {"trials/w/mine/study0-trial0-0123456789/spec.json": b"{}"}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_json(name: str) -> None:
    parser = importlib.import_module(f"harness.cli.{cli.COMMANDS[name]}").parser()
    flags = {flag: action for action in parser._actions for flag in action.option_strings}
    assert "--json" in flags, f"harness {name} has no --json: see add_json in harness/cli/parser.py"
    assert flags["--json"].nargs == 0
    table = [line for line in (ROOT / "AGENTS.md").read_text().splitlines() if line.startswith("| `")]
    assert any(f"`{name}" in line.split("|")[1] for line in table), f"AGENTS.md does not say what {name} --json prints"


def printed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[Any, str]:
    """Return the object that a command prints, and what it says on standard error."""
    capsys.readouterr()
    assert cli.main([*words, "--json"]) == code
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_run_on_a_busy_machine(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "others", lambda: 0.9 * hardware.usable_cores())
    found, err = printed(capsys, "run", *RUN, "good", "max_steps=10")
    assert not found["notes"] and "others use" not in err, "a smoke test is not timed"
    found, err = printed(capsys, "run", *RUN, "good")
    assert len([note for note in found["notes"] if "calibrated seconds allow for most of that" in note]) == 1
    assert f"note: {found['notes'][-1]}\n" in err
    found, err = printed(capsys, "run", *RUN, "good")
    assert not found["notes"] and "others use" not in err, "nothing is left to run"


def packed(*args: Any, **_: Any) -> About:
    return pack.write(args[1], ABOUT, MEMBERS)


def test_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_place.add(place, "crash")
    found, err = printed(capsys, "run", *RUN, "good", "diverge", "crash", code=1)
    outcome = [(trial["submission"], trial["status"], trial["reason"]) for trial in found["trials"]]
    assert outcome[:2] == [("good", "target_reached", "as told"), ("diverge", "diverged", "as told")]
    assert outcome[2][:2] == ("crash", "crashed") and "it broke" in outcome[2][2]
    assert all((place / trial["path"] / "log.jsonl").is_file() for trial in found["trials"])
    assert "task / good 0/0: target_reached" in err and "3 of 3 trials to run" in err
    (table,) = found["scores"]
    assert table["rules"] == "quick" and table["status"]["good"] == {"task": "target_reached"}
    assert found["problems"] == [] and found["variants"] is None

    collected, _ = printed(capsys, "run", *RUN, "good", "--collect")
    assert [trial["submission"] for trial in collected["trials"]] == ["good"] and len(collected["scores"]) == 1


def test_a_smoke_test_is_no_score(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = printed(capsys, "run", *RUN, "good", "max_steps=20")
    assert [trial["max_steps"] for trial in found["trials"]] == [20] and found["scores"] == []


def test_a_submission_that_is_broken_is_a_problem(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_place.add(place, "broken", "name: {}\n")
    found, err = printed(capsys, "run", *RUN, "broken", "good", code=1)
    assert len(found["trials"]) == 1 and "the field 'description' is missing" in found["problems"][0]
    assert found["problems"][0] in err


def test_an_error_leaves_standard_output_empty(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", *RUN, "goood", "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: unknown submission 'goood'")


@pytest.mark.parametrize("words", [("run", "--dry-run", *RUN), ("plan", *RUN), ("plan", *RUN, "-o", "plan.json")])
def test_plans(place: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    found, _ = printed(capsys, *words, "good")
    (trial,) = found["trials"]
    assert (trial["submission"], trial["status"], trial["runs"]) == ("good", "planned", True)
    assert trial["expected_s"] > 0 and found["searches"] == found["later"] == []
    assert found.get("file") == ("plan.json" if "-o" in words else None)


def test_list_and_show(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_place.add(place, "broken", "name: {}\n")
    (place / "configs/suite/odd.yaml").write_text("- 1\n")
    found, _ = printed(capsys, "list")
    rows = {kind: {row["name"]: row for row in held} for kind, held in found.items()}
    assert rows["suites"]["mine"]["workloads"] == ["task"] and rows["suites"]["odd"]["broken"] == "expected a mapping"
    assert rows["rulesets"]["quick"]["clock"] == "auto" and rows["rulesets"]["quick"]["path"] is None
    assert (rows["workloads"]["task"]["target"], rows["workloads"]["task"]["mode"]) == (0.5, "min")
    assert rows["submissions"]["good"]["path"] == str(place / "submissions/good")
    assert "'description' is missing" in rows["submissions"]["broken"]["broken"]

    fake_place.add(place, "task")
    found, _ = printed(capsys, "show", "task")
    assert [(one["kind"], one["name"]) for one in found["found"]] == [("workload", "task"), ("submission", "task")]
    assert found["found"][0]["target"]["value"] == 0.5 and found["found"][0]["metric"] == "loss"
    assert printed(capsys, "show", "mine")[0]["found"][0]["workloads"] == ["task"]


def test_new(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = printed(capsys, "new", "mine")
    assert all((place / found["path"] / file).is_file() for file in found["files"])
    assert found["next"][0] == "harness check mine"


def test_data(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(place / "data"))
    found, err = printed(capsys, "data")
    states = {one["name"]: one["state"] for one in found["datasets"]}
    assert states["digits"] == "embedded" and states["cifar10"] == "missing" and found["folder"] == str(place / "data")
    assert err == ""
    found, err = printed(capsys, "data", "verify", "digits", "cifar10", code=3)
    digits, cifar10 = found["datasets"]
    assert digits["problem"] is None and "harness data get cifar10" in cifar10["problem"]
    assert "digits: whole" in err


def test_doctor(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PROBE", "print('[\"cpu\"]')")
    found, _ = printed(capsys, "doctor", "suite=mine", "device=cpu")
    rows = {row["name"]: row for row in found["findings"]}
    assert rows["task"]["found"] == "loss at most 0.5, version 1" and rows["task"]["state"] == "ok"
    found, _ = printed(capsys, "doctor", "suite=mine", "device=cpu", "workload=task,absent", code=2)
    assert any(line.startswith("absent: unknown workload 'absent'") for line in found["to_do"])


def test_what_reads_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written_runs.campaign(tmp_path / "runs", {"a": 1.0, "b": 1.5}, studies=2)
    found, err = printed(capsys, "watch")
    assert len(found["trials"]) == 8 and "8 trials: 8 target_reached" in err
    one = found["trials"][0]
    assert (one["status"], one["steps"], one["target"], one["best"]) == ("target_reached", 500, 0.5, 0.45)
    assert one["time_to_target"]["wall"] == one["scored"]["wall"] == 2 * one["scored"]["calibrated"]
    assert printed(capsys, "score")[0]["ranks"] == {"a": 1, "b": 2}
    assert printed(capsys, "compare", "a", "b")[0]["overall"]["times_as_fast"] == pytest.approx(1.5)
    found, _ = printed(capsys, "score", "--at", "5,50%")
    classes = found["workloads"]["lm"]["classes"]
    assert found["clock"] == "calibrated" and [(one["name"], one["best"]) for one in classes] == [
        ("5", "a"),
        ("50%", "a"),
    ]
    assert classes[0]["submissions"]["a"]["value"] == 1.2 and classes[0]["end"] == classes[1]["end"] == 5.0
    found, _ = printed(capsys, "report", "--markdown")
    assert "| a (" in found["markdown"] and found["page"] is None and found["figures"] == []


def test_packs(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(publish, "publish", packed)  # which looks at programs, in processes: see tests/e2e
    monkeypatch.setattr(publish, "merge", packed)
    for words in (("publish", "runs"), ("merge", "a.tar.xz")):
        found, _ = printed(capsys, *words, "-o", "b.tar.xz")
        assert (found["path"], found["trials"], found["programs"]) == ("b.tar.xz", 1, 0)
        assert found["content"] and [one["name"] for one in found["submissions"]] == ["mine"]
