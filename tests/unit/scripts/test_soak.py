"""The judges of scripts/soak.py: each is seen to find what it is there for, in what trials really write."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.program import discovery
from harness.record import run_folder
from harness.record.result import Status

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the soak reads /proc")


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def undisturbed(trial_below, run_worker, tmp_path_factory):
    """The output folder of a trial that nobody disturbed."""
    out = tmp_path_factory.mktemp("undisturbed")
    source = ROOT / "tests/algorithms/batch_ramp"
    path = trial_below(out, "quadratic", source, stop="horizon", max_steps=120, budget_steps=10**6, checkpoint_s=0.0)
    assert run_worker(path).status == Status.HORIZON_REACHED
    return out


@pytest.fixture
def desk(undisturbed, tmp_path):
    """A desk whose campaign came to the same as the undisturbed one."""
    from faults.desk import Desk, Home
    from faults.forms import Form

    home, form = Home(tmp_path / "home"), Form("control", ())
    shutil.copytree(undisturbed, home.reference(form))
    made = Desk(home, form, tmp_path / "round-0")
    shutil.copytree(undisturbed, made.out)
    return made


@pytest.fixture
def path(desk):
    (found,) = desk.trials()
    return found


def judged(desk):
    """Return what the judges of a finished campaign find."""
    from faults.rounds import Outcome, judge

    outcome = Outcome(0, "kind", "control", True)
    judge(desk, outcome)
    return outcome


def edit(file, change):
    held = json.loads(file.read_text())
    change(held)
    file.write_text(json.dumps(held))


def edit_log(path, change):
    events = [run_folder.from_line(line) for line in (path / "log.jsonl").read_bytes().splitlines()]
    for event in events:
        change(event)
    (path / "log.jsonl").write_bytes(b"".join(map(run_folder.to_line, events)))


def test_the_same_campaign_is_fine(desk):
    assert judged(desk).odd == []


def test_a_trial_that_is_gone_is_lost(desk, path):
    shutil.rmtree(path)
    assert ["is not there" in one for one in judged(desk).lost] == [True]


def test_a_trial_that_is_not_finished_is_lost(desk, path):
    (path / "result.json").unlink()
    assert ["is interrupted (killed; run again to go on)" in one for one in judged(desk).lost] == [True]


def test_a_trial_that_ended_otherwise_is_lost(desk, path):
    edit(path / "result.json", lambda held: held.update(status="crashed", reason="SIGSEGV"))
    assert ["is crashed (SIGSEGV)" in one for one in judged(desk).lost] == [True]


def test_a_trial_that_cannot_be_read_is_lost(desk, path):
    (path / "spec.json").write_text("{")
    assert ["cannot be read" in one for one in judged(desk).lost] == [True]


def test_a_trial_besides_is_told(desk, path):
    spec, options = run_folder.read_spec(path)
    other = path.with_name("study1-trial0-another")
    shutil.copytree(path, other)
    assert any(f"{other.name} is there besides" in one for one in judged(desk).lost)
    assert spec.submission_hash
    assert options.submission_path


def bump(name):
    def change(event):
        if event["event"] == name == "chunk":
            event["metrics"]["loss"][0] += 1e-7
        elif event["event"] == name == "measurement":
            event["metrics"]["loss"] += 1e-7
        elif event["event"] == name == "control":
            event["answer"]["batch_size"] *= 2

    return change


@pytest.mark.parametrize(
    ("named", "plant"),
    [
        ("losses", lambda path: edit_log(path, bump("chunk"))),
        ("measurements", lambda path: edit_log(path, bump("measurement"))),
        ("control", lambda path: edit_log(path, bump("control"))),
        ("final state", lambda path: edit(path / "result.json", lambda held: held.update(final_hash="0" * 64))),
        ("evaluated variables", lambda path: edit(path / "result.json", lambda held: held.update(evaluated="0" * 64))),
        ("validation and test", lambda path: edit(path / "result.json", lambda held: held["test"].update(loss=0.5))),
        ("their file", lambda path: (path / "evaluated.npz").write_bytes(b"x")),
    ],
)
def test_a_bit_that_differs_is_found(desk, path, named, plant):
    plant(path)
    found = judged(desk)
    assert [one for one in found.differing if f"{named} differ" in one], found.odd


def test_a_ledger_that_does_not_sum_is_found(desk, path):
    edit(path / "result.json", lambda held: held["ledger"]["train"].update(wall_s=held["wall_s"] + 1))
    assert [one for one in judged(desk).unbalanced if "spans sum to wall time" in one]


@pytest.mark.parametrize(
    "left",
    [
        "runs/HERE/.result.json.machine-1-2",
        "runs/HERE/checkpoints/7.orbax-checkpoint-tmp/d",
        "runs/HERE/something",
        "runs/plans/.plan.json.machine-1-2",
        "tmp/scratch",
        "cache/programs/.new-machine-1-x/manifest.json",
        "cache/programs/index/.key.json.machine-1-2",
    ],
)
def test_what_is_left_over_is_found(desk, path, left):
    desk.own_cache = desk.folder / "cache"
    file = desk.folder / left.replace("HERE", str(path.relative_to(desk.out)))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("x")
    assert judged(desk).left


def test_a_checkpoint_of_before_is_left_over(desk, path):
    for step in ("4", "8"):
        (path / "checkpoints" / step).mkdir(parents=True, exist_ok=True)
    assert any("checkpoints of steps" in one for one in judged(desk).left)


def test_a_process_that_is_left_is_found():
    from faults import judges

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert [one for one in judges.strays(0.2) if f"process {process.pid}: " in one]
        process.communicate()
    assert not judges.strays(5.0)


def test_a_status_that_a_fault_cannot_give_is_told(desk, path):
    from faults import judges

    assert judges.after(desk) == []
    (path / "result.json").unlink()
    assert judges.after(desk) == [], "interrupted, with a reason"
    with run_folder.hold(path):
        assert "is running" in judges.after(desk)[0]
    shutil.copy(next(desk.home.folder.rglob("result.json")), path)
    edit(path / "result.json", lambda held: held.update(status="hung", reason="no sign of life"))
    assert "is hung: no sign of life" in judges.after(desk)[0]
    assert judges.after(desk, Status.HUNG) == []
    edit(path / "result.json", lambda held: held.update(reason=""))
    assert "for no reason" in judges.after(desk, Status.HUNG)[0]


def test_the_table_counts_by_kind_and_a_loss_ends_in_exit_code_1():
    import soak
    from faults.rounds import Outcome

    fine = Outcome(0, "Ctrl-C", "grammar", False, faults=[("kill", "a", []), ("Ctrl-C", "b", [])])
    assert soak.verdict([fine.plain()]) == 0
    lines = soak.table([fine.plain()], ["kill", "Ctrl-C", "clock"])
    assert [line.split()[:4] for line in lines[2:]] == [
        ["kill", "1", "0", "1"], ["Ctrl-C", "1", "0", "1"], ["clock", "0", "0", "0"], ["all", "2", "0", "2"],
    ]  # fmt: skip
    for name in ("lost", "differing", "unbalanced", "left"):
        wrong = Outcome(1, "kill", "control", True, faults=[("kill", "a", [])], **{name: ["something"]})
        assert soak.verdict([fine.plain(), wrong.plain()]) == 1
        column = 4 + ("lost", "differing", "unbalanced", "left").index(name)
        cells = soak.table([fine.plain(), wrong.plain()], ["kill"])[2].split()
        assert (cells[:4], cells[column]) == (["kill", "2", "1", "1"], "1")
    odd = Outcome(1, "kill", "control", True, faults=[("kill", "a", ["exit code 5"])])
    assert soak.verdict([odd.plain()]) == 1
    skipped = Outcome(1, "disk", "control", True, skipped="needs root")
    assert soak.verdict([skipped.plain()]) == 1, "no fault struck"
    assert soak.table([skipped.plain()], ["disk"])[-1] == "disk was skipped: needs root"


def test_draws_are_the_seed_s_and_every_kind_comes():
    from faults.forms import FORMS
    from faults.kinds import KINDS
    from faults.rounds import drawn

    def draws(seed):
        made = [drawn(number, seed, KINDS, FORMS) for number in range(4 * len(KINDS))]
        return [(kind.name, form.name, draw.random()) for kind, form, draw in made]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)
    names = [kind for kind, _, _ in draws(1)]
    assert all(names.count(kind.name) == 4 for kind in KINDS)
    assert 0.3 < sum(form.toy for form in FORMS for _, name, _ in draws(1) if name == form.name) / len(names) < 0.7


def test_the_toy_on_a_file_is_the_toy(tmp_path, monkeypatch):
    from faults import forms

    forms.write_toys(tmp_path)
    monkeypatch.setenv("HARNESS_PATH", str(tmp_path))
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    assert discovery.workload_info(discovery.find("workloads", "toy_file")).name == "toy_file"
    assert (tmp_path / "data" / forms.DATA_FILE).is_file()
