"""The run folder: what a killed process leaves is read for what it is, and damage is refused, never guessed."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.errors import MachineError, RunFolderError
from harness.program.manifest import Contract
from harness.record import curvature, plain_data, run_folder
from harness.record.files import temporary_of, write_atomic
from harness.record.readings import Calibration, Reading, Scored
from harness.record.result import FAILED, UNFINISHED, Measurement, Result, Status, interpolated_crossing
from harness.record.run_folder import RunFolder
from harness.record.spec import EXPECTED, SOURCES, Options, TrialSpec
from harness.trial import evaluated

OPTIONS = Options("/w", "/s")


def make_spec(**fields: Any) -> TrialSpec:
    base: dict[str, Any] = {
        "schema": 1, "workload": "w", "workload_version": 0, "workload_hash": "abc", "metric": "loss", "mode": "min",
        "target": 0.5, "step_hint": 200, "batch_size": 32, "budget_steps": 300, "reference_step_s": 0.005,
        "submission": "s", "submission_hash": "def", "hyperparameters": {"lr": 0.1, "n": 2, "on": True, "kind": "x"},
        "rules": "quick", "stop": "target", "clock": "calibrated", "score_compile": False, "compile_cap_s": 60.0,
        "free_batch_size": True, "study": 0, "trial": 0, "seed": 0, "tuning": False, "device": "cpu",
        "deterministic": True,
    }  # fmt: skip
    return TrialSpec(**(base | fields))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return run_folder.prepare(tmp_path / "runs", make_spec(), OPTIONS)


def log(path: Path, *events: dict[str, Any]) -> list[bytes]:
    """Write events as the log; return its lines."""
    lines = [(json.dumps({"v": 1} | event) + "\n").encode() for event in events]
    (path / "log.jsonl").write_bytes(b"".join(lines))
    return lines


def kinds(path: Path) -> list[str]:
    return [event["event"] for event in run_folder.read_events(path)]


# ---- the log ----


@pytest.mark.parametrize("name", ["spec.json", "log.jsonl", "result.json"])
def test_a_folder_in_place_of_a_file_is_told_and_stops_nothing_else(path, name):
    (path / name).unlink(missing_ok=True)
    (path / name).mkdir()
    with pytest.raises(RunFolderError, match=rf"{name} cannot be read"):
        run_folder.read_trial(path)


@contextlib.contextmanager
def no_descriptors():
    """Within it this process can open no file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "read",
    [
        run_folder.read_trial,
        run_folder.read_events,
        run_folder.read_spec,
        lambda path: run_folder.read_result(path / "result.json"),
        lambda path: curvature.read(path),
        lambda path: plain_data.read_yaml(path / "x.yaml"),
        lambda path: plain_data.read_json(path / "spec.json"),
        lambda path: evaluated.load(path / "evaluated.npz", Contract("submission", "cpu", (), (), (), ())),
    ],
)
def test_what_the_machine_could_not_read_is_not_damaged(path, read):
    """To remove the folder, as one is told of a damaged one, would lose the trial."""
    for name in ("result.json", "curvature.json", "x.yaml", "evaluated.npz"):
        (path / name).touch()
    with no_descriptors(), pytest.raises(MachineError, match=r"Too many open files; .* raise `ulimit -n`"):
        read(path)


def test_whether_it_has_ended_is_not_guessed(path):
    with run_folder.hold(path) as folder:
        folder.write_result(Result(Status.STOPPED, "", make_spec().id))
        with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
            folder.ended()
        with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
            run_folder.holder(path)


def test_append_only(path):
    folder = RunFolder(path)
    folder.append("start", attempt=1)
    before = (path / "log.jsonl").read_bytes()
    folder.append("chunk", step=1, metrics={"loss": [float("nan"), 1.0]}, scored=Scored(1, 2, 3, None))
    folder.close()
    folder = RunFolder(path)
    folder.append("end", durable=True, status=Status.CRASHED)
    folder.close()
    after = (path / "log.jsonl").read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == 3
    scored = {"wall": 1, "cpu": 2, "calibrated": 3, "energy": None}
    chunk = {"v": 1, "event": "chunk", "step": 1, "metrics": {"loss": [None, 1.0]}, "scored": scored}
    assert run_folder.read_events(path)[1] == chunk
    assert json.loads(after.splitlines()[2])["status"] == "crashed"


def test_every_event_is_in_the_file_at_once(path):
    """A process killed with -9 right after `append` has logged the event."""
    folder = RunFolder(path)
    folder.append("chunk", step=1)
    assert kinds(path) == ["chunk"]
    folder.close()


def test_a_tail_cut_at_any_byte_is_passed_over(path):
    first = {"event": "start"}
    last = {"event": "chunk", "step": 7, "metrics": {"loss": [1.5, None]}, "note": 'quo"te {ü}'}
    lines = log(path, first, {"event": "phase", "phase": "setup"}, last)
    whole = b"".join(lines)
    keep = len(whole) - len(lines[-1])
    for cut in range(keep, len(whole) + 1):
        (path / "log.jsonl").write_bytes(whole[:cut])
        complete = cut >= len(whole) - 1  # the newline itself may be missing
        expected = ["start", "phase"] + ["chunk"] * complete
        assert kinds(path) == expected, f"cut at byte {cut}"
        # The next process closes the line and goes on.
        folder = RunFolder(path)
        folder.append("start", attempt=2)
        folder.append("phase", phase="setup")
        folder.close()
        assert kinds(path) == [*expected, "start", "phase"], f"cut at byte {cut}"


def test_what_stopped_a_trial_is_its_reason_until_it_goes_on(path):
    """By its data or the machine: nobody killed it. The line supersedes nothing, whatever the step it goes on from."""
    begun = [{"event": "start"}, {"event": "attempt", "resume_step": 0}, {"event": "chunk", "step": 5}]
    stopped = {"event": "stopped", "why": "train_1.bin: token 3 is 500; then run again to go on"}
    log(path, *begun, stopped)
    trial = run_folder.read_trial(path)
    assert (trial.status, trial.reason) == (Status.INTERRUPTED, stopped["why"])
    log(path, *begun, stopped, {"event": "start"})
    assert run_folder.read_trial(path).reason == "killed; run again to go on"
    log(path, *begun, stopped, {"event": "start"}, {"event": "attempt", "resume_step": 5})
    assert [kind for kind in kinds(path) if kind not in ("start", "attempt")] == ["chunk", "stopped"]


def test_killed_twice_in_the_middle_of_a_line(path):
    lines = log(path, {"event": "start"}, {"event": "chunk", "step": 1})
    (path / "log.jsonl").write_bytes(lines[0] + lines[1][:9] + b"\n" + lines[0][:12] + b"\n" + lines[0] + lines[1])
    assert kinds(path) == ["start", "start", "chunk"]


def test_the_end_may_follow_a_cut_line(path):
    """The launcher logs the end of a worker that was killed."""
    lines = log(path, {"event": "start"}, {"event": "chunk", "step": 1}, {"event": "end", "status": "hung"})
    (path / "log.jsonl").write_bytes(lines[0] + lines[1][:9] + b"\n" + lines[2])
    assert kinds(path) == ["start", "end"]


def test_a_bit_that_is_turned_over_changes_no_event_unnoticed(path):
    """Of a line that more follow: each bit, that of the newline too."""
    folder = RunFolder(path)
    for step in (1, 2, 3, 4):
        folder.append("chunk", step=step, metrics={"loss": [1.25]})
    folder.close()
    whole, events = (path / "log.jsonl").read_bytes(), run_folder.read_events(path)
    first, second = whole.splitlines(keepends=True)[:2]
    assert events[1] == {"v": 1, "event": "chunk", "step": 2, "metrics": {"loss": [1.25]}}, "the sum is for the reader"
    passed = 0
    for bit in range(8 * len(first), 8 * len(first + second)):
        turned = bytearray(whole)
        turned[bit // 8] ^= 1 << bit % 8
        (path / "log.jsonl").write_bytes(turned)
        try:
            found = run_folder.read_events(path)
        except RunFolderError as error:
            assert "remove the folder" in str(error)
        else:
            passed += 1
            assert len(found) == 4
            assert found[1].items() >= events[1].items(), f"bit {bit}"
    assert passed < 88, "but for the name of the sum"


@pytest.mark.parametrize("damage", [b"\x00\xff garbage", b"{", b"[1]", b"null", b'"event"', b'{"v": 1}', b"17"])
def test_a_damaged_line_in_the_middle_is_refused_with_its_number(path, damage):
    lines = log(path, {"event": "start"}, {"event": "chunk", "step": 1}, {"event": "chunk", "step": 2})
    (path / "log.jsonl").write_bytes(lines[0] + damage + b"\n" + lines[2])
    with pytest.raises(RunFolderError, match=r"log\.jsonl: line 2 is damaged; remove the folder .* to run the trial"):
        run_folder.read_events(path)


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_another_schema_is_refused(path, version):
    lines = log(path, {"event": "start"}, {"event": "chunk", "step": 1, "v": version})
    with pytest.raises(RunFolderError, match=rf"line 2 has schema {version}, this harness reads 1"):
        run_folder.read_events(path)
    (path / "log.jsonl").write_bytes(lines[0] + b'{"event": "chunk", "step": 1}\n')
    with pytest.raises(RunFolderError, match="line 2 has schema None"):
        run_folder.read_events(path)


def test_what_a_resumed_attempt_does_again_supersedes(path):
    log(
        path,
        {"event": "start", "attempt": 1},
        {"event": "attempt", "attempt": 1, "resume_step": 0},
        {"event": "control", "step": 0, "answer": "a"},
        {"event": "chunk", "step": 8},
        {"event": "control", "step": 8, "answer": "b"},
        {"event": "chunk", "step": 16},
        {"event": "measurement", "step": 16},
        {"event": "checkpoint", "step": 16},
        {"event": "control", "step": 16, "answer": "lost with the process"},
        {"event": "chunk", "step": 24, "by": 1},
        {"event": "measurement", "step": 24, "by": 1},
        {"event": "end", "status": "interrupted"},
        {"event": "start", "attempt": 2},
        {"event": "attempt", "attempt": 2, "resume_step": 16},
        {"event": "control", "step": 16, "answer": "c"},
        {"event": "chunk", "step": 24, "by": 2},
        {"event": "end", "status": "horizon_reached"},
    )
    events = run_folder.read_events(path)
    assert [(e["event"], e.get("step", e.get("attempt"))) for e in events if e["event"] != "end"] == [
        ("start", 1), ("attempt", 1), ("control", 0), ("chunk", 8), ("control", 8), ("chunk", 16), ("measurement", 16),
        ("checkpoint", 16), ("start", 2), ("attempt", 2), ("control", 16), ("chunk", 24),
    ]  # fmt: skip
    assert [e["answer"] for e in events if e["event"] == "control"] == ["a", "b", "c"]
    assert [e["by"] for e in events if "by" in e] == [2]
    assert [e["status"] for e in events if e["event"] == "end"] == ["horizon_reached"]


def test_an_attempt_without_a_checkpoint_starts_over(path):
    log(
        path,
        {"event": "start"},
        {"event": "attempt", "resume_step": 0},
        {"event": "control", "step": 0},
        {"event": "chunk", "step": 8},
        {"event": "measurement", "step": 8},
        {"event": "start"},
        {"event": "attempt", "resume_step": 0},
    )
    assert kinds(path) == ["start", "attempt", "start", "attempt"]


# ---- the spec ----


def test_preparing_again_takes_up_the_folder(tmp_path, path):
    (path / "log.jsonl").write_text("x")
    again = run_folder.prepare(tmp_path / "runs", make_spec(), Options("/moved", "/s", checkpoint_s=5))
    assert again == path
    assert (path / "log.jsonl").read_text() == "x"
    assert run_folder.read_spec(path) == (make_spec(), Options("/moved", "/s", checkpoint_s=5)), (
        "the newest paths count"
    )


def test_another_spec_is_refused_by_the_first_field_that_differs(tmp_path, path):
    data = json.loads((path / "spec.json").read_text())
    data["spec"] |= {"submission_hash": "old", "budget_steps": 299}
    (path / "spec.json").write_text(json.dumps(data))
    with pytest.raises(RunFolderError, match=r"holds another spec: budget_steps is 299 there and 300 here"):
        run_folder.prepare(tmp_path / "runs", make_spec(), OPTIONS)


def test_each_field_of_the_spec_is_in_its_identity(path):
    changed = {
        "mode": "max", "target": None, "hyperparameters": {"lr": 0.2}, "stop": "horizon", "clock": "wall",
        "device": "gpu", "max_steps": 7, "variant": "wide", "counts": "mean", "steps": 300, "program": "12",
        "workload_program": "34", "sharding": "fsdp",
    }  # fmt: skip
    ids = {make_spec().id}
    for f in dataclasses.fields(TrialSpec):
        old = getattr(make_spec(), f.name)
        if f.name in EXPECTED:
            new = 7
        elif f.name in changed:
            new = changed[f.name]
        elif isinstance(old, bool):
            new = not old
        else:
            new = old + ("x" if isinstance(old, str) else 1)
        ids.add(make_spec(**{f.name: new}).id)
        if f.name in SOURCES:
            programs = {"program": "12", "workload_program": "34"}
            same = make_spec(**programs).id == make_spec(**programs | {f.name: new}).id
            assert same, "beside programs, sources are no part of the identity"
    assert len(ids) == 1 + len(dataclasses.fields(TrialSpec)) - len(EXPECTED), "all but how many there are beside it"
    assert run_folder.read_spec(path)[0].id == path.name.rsplit("-", 1)[1] == make_spec().id


def test_one_device_has_the_id_that_it_had_before_there_were_several():
    ids = {make_spec(program="12", workload_program="34", devices=devices).id for devices in (1, 2, 8)}
    assert "da8fdd6ca9" in ids
    assert len(ids) == 3


def test_older_records_keep_their_ids_and_are_read(tmp_path):
    """A spec as the first version wrote it: without the fields that came later."""
    old = plain_data.to_plain(make_spec())
    for name in ("counts", "steps", "program", "workload_program", "devices", "sharding", *EXPECTED):
        del old[name]
    old["clock"] = "steps"  # the name of calibrated seconds then
    plain = json.dumps(old, sort_keys=True, separators=(",", ":"))
    assert make_spec(studies=3, trials=5).id == hashlib.sha256(plain.encode()).hexdigest()[:10]
    path = run_folder.prepare(tmp_path / "old", make_spec(), OPTIONS)
    (path / "spec.json").write_text(json.dumps({"id": path.name, "spec": old, "options": plain_data.to_plain(OPTIONS)}))
    assert run_folder.read_spec(path)[0] == make_spec()
    assert run_folder.prepare(tmp_path / "old", make_spec(studies=6), OPTIONS) == path, (
        "more studies are no other trial"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "spec.json cannot be read"),
        ("[]", "spec.json cannot be read"),
        ('{"spec": {}}', "spec.json cannot be read"),
        ('{"spec": {}, "options": {}}', "the field 'schema' is missing"),
        ('{"spec": {"colour": 1}, "options": {}}', "unknown key 'colour'"),
    ],
)
def test_a_broken_spec_is_refused(path, text, says):
    (path / "spec.json").write_text(text)
    with pytest.raises(RunFolderError, match=f"(?s){says}.*remove the folder {path} to run the trial anew"):
        run_folder.read_trial(path)


def test_no_run_folder(tmp_path):
    with pytest.raises(RunFolderError, match=r"is no run folder: it has no spec\.json"):
        run_folder.read_spec(tmp_path)


# ---- the lock ----

HOLD = """if True:
    import sys
    from pathlib import Path
    from harness.record import run_folder
    with run_folder.hold(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
"""


def test_the_holder_is_told_and_the_lock_goes_with_its_process(path):
    log(path, {"event": "start"})
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert f"process {other.pid} on" in run_folder.holder(path)
        assert run_folder.read_trial(path).status == Status.RUNNING
        with pytest.raises(RunFolderError, match=rf"is held by process {other.pid} on .*; wait for it or stop it"):
            with run_folder.hold(path):
                pass
        other.kill()
    assert run_folder.holder(path) is None
    assert run_folder.read_trial(path).status == Status.INTERRUPTED
    with run_folder.hold(path) as folder:
        folder.append("start")
        text = (path / "lock").read_text()
        assert text.count("process") == 1, "the name of the one before is gone"
    assert run_folder.holder(path) is None


def test_asking_who_holds_a_folder_does_not_take_it_from_a_starting_trial(path, monkeypatch):
    """`harness list` asks while a worker starts: both must get what they want."""
    import fcntl

    asking = (path / "lock").open("a+")
    fcntl.flock(asking, fcntl.LOCK_SH)
    monkeypatch.setattr(run_folder.time, "sleep", lambda s: asking.close())  # it is done by the next try
    with run_folder.hold(path) as folder:
        folder.append("start")
    assert kinds(path) == ["start"]


# ---- the result and the status ----

CALIBRATION = Calibration(0.01, 0.02, {32: 1.5, 8: 0.5}, eval_variables_ratio=4.0, pairs=10, baseline_source="doctor")
RESULT = Result(
    status=Status.TARGET_REACHED, reason="loss met 0.5", spec_id="abc", steps=20, examples=640,
    time_to_target=Scored(1.0, 2.0, 3.0, None), steps_to_target=16, interpolated_steps_to_target=14.5, best=0.25,
    last=0.5, validation={"loss": 0.5, "accuracy": None}, test={"loss": 0.75}, ledger={"train": Reading(1, 2, None)},
    wall_s=10.0, train_step_s=0.5, calibration=CALIBRATION,
    cost={"32": {"gradient_calls": 1.0, "forward_examples": 32.0, "exact": True}}, peak_bytes=1 << 40,
    state_bytes={"params": 4, "opt_state": 8, "model_state": 0}, final_hash="f", attempts=2, bitwise=False,
    fingerprint={"cpu": "x", "cores": 2, "packages": {"jax": "0.10", "torch": None}, "flags": {}},
)  # fmt: skip


@pytest.mark.parametrize("result", [RESULT, Result(Status.CRASHED, "why", "abc")])
def test_result_round_trip(path, result):
    folder = RunFolder(path)
    folder.write_result(result)
    folder.close()
    trial = run_folder.read_trial(path)
    assert trial.result == result
    assert (trial.status, trial.reason) == (result.status, result.reason)
    told = {"status": str(result.status), "reason": result.reason}
    sha256 = hashlib.sha256((path / "result.json").read_bytes()).hexdigest()
    assert trial.events == [{"v": 1, "event": "end"} | told | {"result_sha256": sha256}]


def test_nan_in_a_result_is_null(path):
    nan = float("nan")
    folder = RunFolder(path)
    folder.write_result(dataclasses.replace(RESULT, best=nan, last=float("inf"), test={"loss": nan}))
    folder.close()
    assert "NaN" not in (path / "result.json").read_text()
    assert "Infinity" not in (path / "result.json").read_text()
    back = run_folder.read_trial(path).result
    assert (back.best, back.last, back.test) == (None, None, {"loss": None})


def test_a_result_is_old_or_new_never_a_part(path, monkeypatch):
    write_atomic(path / "result.json", plain_data.to_plain(RESULT))
    with pytest.raises(TypeError):  # dies while writing
        write_atomic(path / "result.json", {"a": "written so far", "b": object()})
    assert run_folder.read_trial(path).result == RESULT
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # dies before it is put in place
        write_atomic(path / "result.json", plain_data.to_plain(dataclasses.replace(RESULT, steps=21)))
    assert run_folder.read_trial(path).result == RESULT


def test_what_a_killed_process_leaves_of_a_file_goes_when_it_is_written_again(path):
    code = """if True:
        import os, sys
        from pathlib import Path
        from harness.record.files import temporary_of
        temporary_of(Path(sys.argv[1])).write_text("so far")
        os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", code, str(path / "result.json")], check=False)
    (left,) = path.glob(".result.json.*")
    mine = temporary_of(path / "result.json")
    assert not left.exists()
    mine.write_text("of a process that lives")
    write_atomic(path / "spec.json", {})
    assert mine.exists()
    assert temporary_of(path / "result.json") == mine
    assert mine.exists(), "it is no killed process's"


def test_status_follows_from_what_is_there(path):
    assert run_folder.read_trial(path).status == Status.PLANNED
    RunFolder(path).close()
    assert run_folder.read_trial(path).status == Status.PLANNED, "opened, nothing logged"
    log(path, {"event": "start"})
    trial = run_folder.read_trial(path)
    assert (trial.status, trial.result) == (Status.INTERRUPTED, None)
    assert "run again" in trial.reason
    with run_folder.hold(path) as folder:
        assert run_folder.read_trial(path).status == Status.RUNNING
        folder.write_result(RESULT)
        assert run_folder.read_trial(path).status == Status.RUNNING, "until the process lets go"
    assert run_folder.read_trial(path).status == Status.TARGET_REACHED
    assert FAILED.isdisjoint(UNFINISHED)
    assert Status.DIVERGED not in FAILED | UNFINISHED


def test_measurements_of_a_trial(path):
    one = Measurement(16, 512, {"loss": 0.75, "accuracy": float("nan")}, Scored(1, 2, 3, None), False)
    two = Measurement(24, 768, {"loss": 0.5}, Scored(2, 3, 4, 5.0), True)
    three = dataclasses.replace(two, step=32, examples=1024)
    folder = RunFolder(path)
    folder.append("start")
    assert run_folder.read_trial(path).hit is None
    for m in (one, two, three):
        folder.append("measurement", t=1.5, **vars(m))
    folder.close()
    trial = run_folder.read_trial(path)
    first = dataclasses.replace(one, metrics={"loss": 0.75, "accuracy": None})
    assert trial.measurements == [first, two, three]
    assert trial.hit == two


def test_find_trials(tmp_path):
    root = tmp_path / "runs"
    specs = [make_spec(), make_spec(seed=1), make_spec(workload="v"), make_spec(submission="x.failed-1")]
    paths = [run_folder.prepare(root, s, OPTIONS) for s in specs]
    moved = paths[1].with_name(paths[1].name + ".failed-1")
    paths[1].rename(moved)
    paths[1] = run_folder.prepare(root, specs[1], OPTIONS)
    (root / "w/notes").mkdir()
    assert run_folder.find_trials(root) == sorted(paths)
    assert run_folder.find_trials(root / "v") == [paths[2]]
    assert run_folder.find_trials(paths[0]) == [paths[0]]
    assert run_folder.find_trials(moved) == [moved], "asked for by name, one that was moved aside is shown"
    assert run_folder.find_trials(tmp_path / "nothing") == []


# ---- interpolation ----


def crossing(*points: tuple[int, float | None], target: float = 1.0, mode: str = "min") -> float | None:
    met = lambda v: v is not None and (v <= target if mode == "min" else v >= target)  # noqa: E731
    measurements = [Measurement(s, s, {"loss": v}, Scored(0, 0, 0, None), met(v)) for s, v in points]
    return interpolated_crossing(measurements, "loss", target)


def test_interpolated_crossing_by_hand():
    assert crossing((100, 3.0), (200, 2.0), (300, 0.5), (400, 0.1)) == pytest.approx(200 + 1.0 / 1.5 * 100)
    assert crossing((10, 2.0), (20, 1.0)) == 20, "met exactly at the measurement"
    assert crossing((10, 0.9), (20, 0.5)) == 10, "met at the first"
    assert crossing((10, 2.0), (20, 1.5)) is None
    assert crossing((10, 2.0), (20, None), (30, 0.5)) == 30, "no line through a measurement that is not a number"
    assert crossing((10, 2.0), (20, 0.5), (30, 2.0), (40, 0.5)) == pytest.approx(10 + 10 / 1.5), "the first counts"
    assert crossing((100, 0.5), (200, 0.9), target=0.8, mode="max") == pytest.approx(100 + 0.3 / 0.4 * 100)
    assert crossing() is None
