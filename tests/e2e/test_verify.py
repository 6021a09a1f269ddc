"""`harness verify`, `publish` and `merge` on real runs of toys, and on what a forger makes of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.check import command as check_command
from harness.check.export import toys
from harness.check.findings import Report as CheckReport
from harness.cli import main as cli
from harness.errors import RunFolderError, SubmissionError
from harness.machine import hardware
from harness.machine.cache import cache_folder
from harness.program import discovery, store
from harness.record import pack, run_folder
from harness.record.result import Status
from harness.verify import by_rules, command, curvature, examined, from_log, packed_sources, publish, records, rerun
from harness.verify.findings import Finding

AMPLE = 1000.0  # times the budget
ALGORITHMS = Path(__file__).resolve().parents[1] / "algorithms"


def ample_steps() -> int:
    return round(AMPLE) * discovery.workload_info(discovery.find("workloads", "quadratic")).budget_steps


@pytest.fixture(scope="module")
def runs(trial_below: Callable[..., Path], run_worker: Callable[..., Any], tmp_path_factory: Any) -> Path:
    """Three runs that reach the target: a plain one, one with eval_variables, one whose `control` sets batch sizes."""
    root: Path = tmp_path_factory.mktemp("verify") / "runs"
    budget_steps = ample_steps()
    for name in ("polyak", "ema", "batch_ramp"):
        path = trial_below(root, "quadratic", ALGORITHMS / name, studies=1, trials=1, budget_steps=budget_steps)
        assert run_worker(path).status is Status.TARGET_REACHED
    return root


@pytest.fixture(autouse=True)
def ample(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ruleset gives toys a budget that starting does not use up."""
    real = by_rules.ruleset
    monkeypatch.setattr(by_rules, "ruleset", lambda name: replace(real(name), budget_factor=AMPLE))


@pytest.fixture
def copied(runs: Path, tmp_path: Path) -> Path:
    """A copy of the run that reaches its target, to forge."""
    (original,) = (runs / "quadratic" / "polyak").iterdir()
    place = tmp_path / "runs" / "quadratic" / "polyak" / original.name
    shutil.copytree(original, place)
    return place


def told(found: list[Finding], verdict: str = "differs") -> dict[str, str]:
    return {f"{one.check}: {one.what}": one.text for one in found if one.verdict == verdict}


def by_reading(path: Path) -> list[Finding]:
    """All that is found without a process."""
    record = records.of_folder(path)
    trial, info = record.trial, record.info
    return [*command.identity(record), *from_log.look(trial, info), *by_rules.look(trial, info)]


def test_real_runs_are_found_to_hold(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(runs), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["fine"]
    *each, together = said["records"]
    assert len(each) == 3
    for one in each:
        fine = {f["check"] for f in one["findings"] if f["verdict"] == "ok"}
        assert fine == {"identity", "log", "rules", "sources", "program", "metrics"}
        assert [f for f in one["findings"] if f["verdict"] == "unchecked" and f["what"] != "validation_slice"] == []
        texts = {f["what"]: f["text"] for f in one["findings"] if f["check"] == "metrics"}
        assert texts["validation"] == texts["test"] == "the same bits"
    assert {f["check"] for f in together["findings"]} == {"campaign"}


def test_curvature_where_runs_ended(runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """The Hessian of a quadratic is the same everywhere; what lies beside the records is not computed again."""
    before = {path: path.read_bytes() for path in runs.rglob("result.json")}
    words = ["curvature", str(runs), "--json", "--only", "quadratic"]
    assert cli.main(words) == 0
    first = json.loads(capsys.readouterr().out)
    assert [(one["submission"], one["status"]) for one in first["runs"]] == [
        (name, "target_reached") for name in ("batch_ramp", "ema", "polyak")
    ]
    values = [one["lambda_max"] for one in first["runs"]]
    assert values == pytest.approx([values[0]] * 3, rel=1e-4) and 0.4 < values[0] < 0.8
    assert {path: path.read_bytes() for path in runs.rglob("result.json")} == before
    assert len(list(runs.rglob("curvature.json"))) == 3

    real, asked = curvature.answers, []

    def answers(request: Any) -> Any:
        asked.extend(folder for case in request.cases for folder in case.folders)
        return real(request)

    monkeypatch.setattr(curvature, "answers", answers)
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out) == first and not asked
    (ema,) = (runs / "quadratic" / "ema").iterdir()
    held = (ema / "evaluated.npz").read_bytes()
    (polyak,) = (runs / "quadratic" / "polyak").iterdir()
    (ema / "curvature.json").unlink()
    try:
        (ema / "evaluated.npz").write_bytes((polyak / "evaluated.npz").read_bytes())
        assert cli.main(["curvature", str(runs)]) == 0
        out = capsys.readouterr().out
    finally:
        (ema / "evaluated.npz").write_bytes(held)
    assert asked == [str(ema)]
    assert "left out: evaluated.npz is not what its result has the hash of" in out and "polyak" in out


# ---- forged records ----


def edited(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    """Change a JSON file."""

    def forge(path: Path) -> None:
        held = json.loads((path / name).read_text())
        change(held)
        (path / name).write_text(json.dumps(held))

    return forge


def log_lines(change: Callable[[list[dict[str, Any]]], None]) -> Callable[[Path], None]:
    """Change the log's events."""

    def forge(path: Path) -> None:
        events = [run_folder.from_line(line) for line in (path / "log.jsonl").read_bytes().splitlines()]
        change(events)
        (path / "log.jsonl").write_bytes(b"".join(map(run_folder.to_line, events)))

    return forge


def both(*forgers: Callable[[Path], None]) -> Callable[[Path], None]:
    def forge(path: Path) -> None:
        for one in forgers:
            one(path)

    return forge


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def set_item(*keys: Any, value: Any) -> Callable[[Any], None]:
    def change(held: Any) -> None:
        for key in keys[:-1]:
            held = held[key]
        held[keys[-1]] = value(held[keys[-1]]) if callable(value) else value

    return change


def faster(held: dict[str, Any]) -> None:
    held["time_to_target"] = {k: v and v / 2 for k, v in held["time_to_target"].items()}


def hit_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    return next(m for m in of(events, "measurement") if m["met"])


def zero(events: list[dict[str, Any]]) -> None:
    hit_of(events)["scored"] = HIT_ZERO


def met_sooner(events: list[dict[str, Any]]) -> None:
    of(events, "measurement")[0]["met"] = True


def backwards(events: list[dict[str, Any]]) -> None:
    of(events, "chunk")[2]["t"] = of(events, "chunk")[1]["t"] - 0.01


def reordered(events: list[dict[str, Any]]) -> None:
    one, other = (i for i, e in list(enumerate(events)) if e["event"] == "chunk" and e["step"] in picked(events))
    events[one], events[other] = events[other], events[one]


def picked(events: list[dict[str, Any]]) -> list[int]:
    return [chunk["step"] for chunk in of(events, "chunk")[1:3]]


def shorter(events: list[dict[str, Any]]) -> None:
    """All chunks took half of their time, and all that is scored is half: consistent within the log."""
    for chunk in of(events, "chunk"):
        chunk["seconds"] /= 2
        for clocks in (chunk["scored"], chunk["spent"]):
            clocks |= {name: value and value / 2 for name, value in clocks.items()}


def dropped(kind: str, number: int) -> Callable[[list[dict[str, Any]]], None]:
    return lambda events: events.remove(of(events, kind)[number])


HIT_ZERO = {"wall": 0.0, "cpu": 0.0, "calibrated": 0.0, "energy": None}
FORGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a time": (edited("result.json", faster), "log: time to target"),
    "a metric": (edited("result.json", set_item("test", "loss", value=0.1)), "log: validation and test"),
    "the best value": (edited("result.json", set_item("best", value=0.1)), "log: best and last"),
    "steps": (edited("result.json", set_item("steps", value=lambda n: n - 1)), "log: steps and examples"),
    "a status": (edited("result.json", set_item("status", value="stopped")), "log: status"),
    "a measurement": (log_lines(met_sooner), "log: met"),
    "a hit of no time": (
        both(log_lines(zero), edited("result.json", set_item("time_to_target", value=HIT_ZERO))),
        "log: scored time of measurements",
    ),
    "calibrated seconds": (
        both(
            log_lines(lambda events: hit_of(events)["scored"].update(calibrated=1e-3)),
            edited("result.json", set_item("time_to_target", "calibrated", value=1e-3)),
        ),
        "log: calibrated seconds",
    ),
    "a clock that runs backwards": (log_lines(backwards), "log: time goes forward"),
    "reordered events": (log_lines(reordered), "log: chunks"),
    "shorter chunks": (log_lines(shorter), "log: chunks sum to the train span"),
    "a chunk left out": (log_lines(dropped("chunk", 3)), "log: chunks"),
    "a measurement left out": (log_lines(dropped("measurement", 1)), "log: measured when due"),
    "a second attempt left out": (edited("result.json", set_item("attempts", value=2)), "log: attempts"),
    "a span": (
        edited("result.json", set_item("ledger", "train", "wall_s", value=lambda s: s / 2)),
        "log: spans sum to wall time",
    ),
    "another seed": (edited("spec.json", set_item("spec", "seed", value=7)), "identity: id"),
    "another seed and its id": (
        both(edited("spec.json", set_item("spec", "seed", value=7)), lambda path: restated(path)),
        "log: spec id",
    ),
    "an easier target": (
        both(edited("spec.json", set_item("spec", "target", value=9.0)), lambda path: restated(path)),
        "rules: quadratic at version",
    ),
    "a larger budget": (
        both(edited("spec.json", set_item("spec", "budget_steps", value=10**6)), lambda path: restated(path)),
        "log: spec id",
    ),
    "flags": (
        edited("result.json", set_item("fingerprint", "flags", "XLA_FLAGS", value=lambda f: f + " --xla_fast=true")),
        "rules: flags",
    ),
    "the hash of what was evaluated": (
        edited("result.json", set_item("evaluated", value="0" * 64)),
        "log: hash of what was evaluated",
    ),
    "a number that the log does not tell": (
        edited("result.json", set_item("peak_bytes", value=lambda count: count + 1)),
        "log: result as it was written",
    ),
    "an event that lacks its numbers": (log_lines(lambda e: of(e, "chunk")[0].pop("metrics")), "log: events"),
}  # fmt: skip


def test_a_run_that_departs_from_its_rules_is_no_forgery_and_no_entry(
    trial_below: Callable[..., Path], run_worker: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"studies": 2, "trials": 1, "budget_steps": ample_steps(), "stop": "horizon"}
    path = trial_below(tmp_path / "runs", "quadratic", ALGORITHMS / "polyak", **own)
    assert run_worker(path).status is Status.HORIZON_REACHED
    assert cli.main(["verify", str(path)]) == 0
    out = capsys.readouterr().out
    assert "rules     no entry   rules quick: not by the rules: stop=horizon (the rules have target)\n" in out
    assert "\nnothing differs; 1 run is not by the rules (-v lists" in out
    edited("spec.json", set_item("spec", "studies", value=1))(path)
    assert cli.main(["publish", str(path), "-o", str(tmp_path / "mine.tar.xz")]) == 2
    err = capsys.readouterr().err
    assert "is no entry by the rules quick: stop=horizon (the rules have target); run it without that" in err
    assert not (tmp_path / "mine.tar.xz").exists()


def restated(path: Path) -> None:
    """State the id that follows from the spec, and call the folder by it."""
    spec, _ = run_folder.read_spec(path)
    edited("spec.json", set_item("id", value=spec.id))(path)
    path.rename(path.parent / Path(spec.folder).name)


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_record_is_found(copied: Path, what: str) -> None:
    assert told(by_reading(copied)) == {}
    forge, line = FORGED[what]
    forge(copied)
    (path,) = copied.parent.iterdir()
    found = told(by_reading(path))
    assert any(name.startswith(line) for name in found), found
    assert all(text for text in found.values())


def test_what_cannot_be_read_is_told_beside_the_rest(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("spec.json", "result.json", "log.jsonl"):
        broken = copied.parent.with_name(name) / copied.name
        shutil.copytree(copied, broken)
        lines = (broken / name).read_text().splitlines()
        (broken / name).write_text("\n".join([lines[0], "{", *lines[1:]]))
        assert cli.main(["verify", str(broken)]) == 1
        out = capsys.readouterr().out
        assert "identity  DIFFERS    record: " in out
        assert name in out
    damaged = copied.parent / "x.tar.xz"
    pack.write(damaged, pack.About("", {}, "cpu", {}, (), (), False), {})
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert cli.main(["verify", str(damaged)]) == 1
    assert "take it as it was published" in capsys.readouterr().out
    assert cli.main(["verify", str(copied.parent / "nothing")]) == 2


def test_forged_variables_and_metrics_are_found_by_evaluation(copied: Path, tmp_path: Path) -> None:
    """Records that hold together: log and result tell the same."""
    better, swapped, cut = (copied.parent.with_name(name) / copied.name for name in ("better", "swapped", "cut"))
    for place in (better, swapped, cut):
        shutil.copytree(copied, place)
    edited("result.json", set_item("test", "loss", value=0.1))(better)
    log_lines(lambda events: of(events, "final")[0]["metrics"]["test"].update(loss=0.1))(better)
    with np.load(swapped / "evaluated.npz") as held:
        arrays = [held[f"arr_{n}"] for n in range(len(held.files))]
    arrays[0] = arrays[0] + np.float32(1e-3)
    np.savez(swapped / "evaluated.npz", *arrays)
    (cut / "evaluated.npz").write_bytes((cut / "evaluated.npz").read_bytes()[:-100])
    found = [told(one) for one in examined.look([records.of_folder(path) for path in (copied, better, swapped, cut)])]
    assert found[0] == {}
    assert list(found[1]) == ["metrics: test"]
    assert "expected 0.1, found " in found[1]["metrics: test"]
    assert set(found[2]) >= {"metrics: hash of what was evaluated", "metrics: validation", "metrics: test"}
    assert "cannot be read" in found[3]["metrics: what was evaluated"]


def test_another_program_under_the_name_is_found(copied: Path, tmp_path: Path) -> None:
    record = records.of_folder(copied)
    spec = record.trial.spec
    places = []
    for name, change in (
        ("as it is", None),
        ("cut", "cut"),
        ("facts", "facts"),
        ("swapped", "swapped"),
        ("older", "older"),
    ):
        place = tmp_path / name
        for program in (spec.workload_program, spec.program):
            shutil.copytree(store.root() / str(program), place / str(program))
        own = place / str(spec.program)
        if change == "cut":
            (step,) = own.glob("step_*.mlir")
            step.write_bytes(step.read_bytes()[:-50])
        elif change == "facts":
            edited("manifest.json", set_item("functions", "init_opt", "constant_bytes", value=0))(own)
            edited("manifest.json", set_item("functions", "init_opt", "sha256", value="0" * 64))(own)
            edited("manifest.json", set_item("sources", "versions", value={}))(own)
        elif change == "swapped":
            (step,) = own.glob("step_*.mlir")
            step.write_bytes((own / "init_opt.mlir").read_bytes())
        elif change == "older":  # made by a version that counted less, and the cost of more
            edited("manifest.json", set_item("functions", "init_opt", "least", value=0.0))(own)
            edited("manifest.json", set_item("functions", "init_opt", "flops", value=192.0))(own)
        places.append(replace(record, programs=place))
    found = [told(one) for one in examined.look(places)]
    assert found[0] == {}
    what = "program: the submission's program"
    assert "is no exported function" in found[1][what]
    assert "of init_opt is " in found[2][what]
    assert "step_" in found[3][what]
    assert "takes" in found[3][what]
    assert found[4] == {}


# ---- trained again ----


SAME = ("steps", "losses", "measurements", "final state", "evaluated variables", "validation and test")


def test_trained_again_it_does_the_same(runs: Path) -> None:
    with records.opened([runs]) as found:
        for record in (one for one in found[str(runs)] if "batch_ramp" not in one.place):
            again = list(rerun.look(record))
            assert told(again) == {}, record.place
            fine = {one.what for one in again if one.verdict == "ok"}
            assert fine >= {f"same {what}" for what in SAME} | {"time"}


def test_a_record_that_holds_together_is_found_by_training_again(copied: Path) -> None:
    """Its final hash and a loss are others, in log and result alike."""
    edited("result.json", set_item("final_hash", value="0" * 64))(copied)
    kept = store.sha256((copied / "result.json").read_bytes())

    def forge(events: list[dict[str, Any]]) -> None:
        of(events, "chunk")[1]["metrics"]["loss"][0] = 0.25
        of(events, "end")[-1]["result_sha256"] = kept

    log_lines(forge)(copied)
    assert told(by_reading(copied)) == {}
    found = told(list(rerun.look(records.of_folder(copied))))
    assert set(found) == {"rerun: same losses", "rerun: same final state"}


def test_on_another_machine_it_is_to_end_within_the_spread_over_seeds(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = run_folder.read_trial(copied)
    edited("result.json", set_item("fingerprint", "cpu", value="Another"))(copied)
    assert again.result is not None
    loss = again.result.validation["loss"]
    info = records.of_folder(copied).info
    assert info is not None
    known = replace(info, target=replace(info.target, spread=0.1 * loss))
    monkeypatch.setattr(records.Record, "info", property(lambda _: known))

    def compared() -> list[Finding]:
        return list(rerun.compare(records.of_folder(copied), again))

    assert told(compared()) == {}
    lines = told(compared(), "ok")
    assert "the same steps, losses at most 0.0e+00 apart" in lines["rerun: steps and losses"]
    assert "cpu of the machine is another here" in lines["rerun: steps and losses"]
    assert "0.00 spreads over seeds apart" in lines["rerun: final loss"]
    edited("result.json", set_item("validation", "loss", value=0.5 * loss))(copied)
    assert "5.00 spreads over seeds apart, at most 3 are expected" in told(compared())["rerun: final loss"]
    (metrics,) = examined.look([records.of_folder(copied)])
    assert "expected" in told(metrics)["metrics: validation"]
    assert "within 0.001, since cpu of the machine is another here" in told(metrics)["metrics: validation"]
    assert "within 0.001" in told(metrics, "ok")["metrics: test"]


def test_a_time_that_the_same_machine_does_not_come_near_is_found(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time that was made shorter in log, ledger and result alike."""
    again, forged = run_folder.read_trial(copied), run_folder.read_trial(copied)
    for event in forged.events:
        if "scored" in event:
            event["scored"] = {name: value and value / 2 for name, value in event["scored"].items()}
    assert rerun._time(forged, again, "").text.endswith("on the calibrated clock, too short to judge")
    monkeypatch.setattr(rerun, "ENOUGH_S", 0.0)
    monkeypatch.setattr(rerun, "_error", lambda trial: 9.0)
    found = rerun._time(forged, again, "")
    assert (found.verdict, "up to +60% left open" in found.text) == ("differs", True), "no error excuses any time"
    half = run_folder.read_trial(copied)
    for event in half.events:
        if "scored" in event:
            event["scored"] = {name: value and value / 1.5 for name, value in event["scored"].items()}
    found = rerun._time(half, again, "")
    assert (found.verdict, "stalls" in found.text) == ("unchecked", True), "an error leaves it open, and makes it no ok"
    monkeypatch.setattr(rerun, "_error", lambda trial: 0.0)
    assert rerun._time(half, again, "").verdict == "differs"
    found = rerun._time(forged, again, "")
    assert found.verdict == "differs"
    assert "+100.0% on the calibrated clock, at most +25% is expected" in found.text
    assert rerun._time(forged, again, "cpu").verdict == "ok", "another machine takes another time"
    found = rerun._time(again, again, "")
    assert (found.verdict, "+0.0%" in found.text, "at most +25% is expected" in found.text) == ("ok", True, True)


# ---- packs ----


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> None:
    """`harness check` passes; one test below runs it."""
    monkeypatch.setattr(publish, "check_submissions", lambda folders, say=str: None)


@pytest.fixture
def packed(runs: Path, tmp_path: Path, passing: None, capsys: pytest.CaptureFixture[str]) -> Path:
    file = tmp_path / "mine.tar.xz"
    assert cli.main(["publish", str(runs), "-o", str(file), "--with-states"]) == 0
    assert "3 trials and 4 programs" in capsys.readouterr().out
    return file


def test_a_pack_is_verified_and_scored_where_nothing_else_is(
    packed: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    about, members = pack.read(packed)
    assert {one.name for one in about.submissions} == {"polyak", "batch_ramp", "ema"}
    assert about.loads_with["jax"]
    text = b"".join(data for name, data in members.items() if name.endswith("spec.json"))
    assert str(tmp_path.parent).encode() not in text, "no path of this machine"
    monkeypatch.setattr(store, "read", lambda name: pytest.fail("a pack brings its programs"))
    assert cli.main(["verify", str(packed), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    for one in said["records"][:-1]:
        fine = {f["check"] for f in one["findings"] if f["verdict"] == "ok"}
        assert fine == {"identity", "log", "rules", "sources", "program", "metrics"}
        assert [f for f in one["findings"] if f["verdict"] == "unchecked" and f["what"] != "validation_slice"] == []
    assert cli.main(["score", str(packed), "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert cli.main(["score", str(runs), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["time_to_target"] == scored["time_to_target"]


def test_a_pack_without_states_says_what_it_cannot_check(runs: Path, tmp_path: Path, passing: None) -> None:
    file = tmp_path / "small.tar.xz"
    about = publish.publish([runs / "quadratic" / "polyak"], file)
    again = publish.publish([runs / "quadratic" / "polyak"], tmp_path / "again.tar.xz")
    assert (about.content, file.read_bytes()) == (again.content, (tmp_path / "again.tar.xz").read_bytes())
    with records.opened([file]) as found:
        (left,) = [told(one, "unchecked") for one in examined.look(found[str(file)])]
    assert "--with-states" in left["metrics: validation and test"]


def test_a_pack_is_trained_again_without_the_store(
    packed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "xla").symlink_to(cache_folder() / "xla")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    with records.opened([packed]) as found:
        (record,) = [one for one in found[str(packed)] if "batch_ramp" in one.place]
        again = list(rerun.look(record))
        assert told(again) == {}
        assert {one.what for one in again if one.verdict == "ok"} > {"control", "same steps", "same final state"}
        without = replace(record, submission=None)
        assert (
            "its `control` decides, and its sources are not here"
            in told(list(rerun.look(without)), "unchecked")["rerun: rerun"]
        )


def test_what_is_not_to_be_published(runs: Path, copied: Path, tmp_path: Path, make_trial: Any, passing: None) -> None:
    def refused(match: str, path: Path) -> None:
        with pytest.raises(RunFolderError, match=match):
            publish.publish([path], tmp_path / "x.tar.xz")
        assert not (tmp_path / "x.tar.xz").exists()

    refused("is planned: ; `harness run` goes on with it", make_trial("quadratic", "adamw"))
    spec = edited("spec.json", set_item("spec", "studies", value=3))
    spec(copied)
    refused("missing are polyak on quadratic by quick, seed=0: study 1, 2", copied.parent)
    edited("spec.json", set_item("spec", "studies", value=1))(copied)
    edited("spec.json", set_item("spec", "max_steps", value=5))(copied)
    refused(r"is a smoke test \(max_steps=5\)", copied)
    edited("spec.json", set_item("spec", "max_steps", value=None))(copied)
    other_program = both(
        edited("spec.json", set_item("spec", "submission_hash", value="0" * 12)),
        edited("spec.json", set_item("spec", "program", value="0" * 64)),
    )
    other_program(copied)
    refused("have changed since it ran .* another program", copied)
    edited("spec.json", set_item("options", "submission_path", value="/nowhere"))(copied)
    refused("are gone from /nowhere; put them back", copied)
    with pytest.raises(RunFolderError, match="of one machine"):
        other = shutil.copytree(copied, copied.with_name("other"))
        edited("result.json", set_item("fingerprint", "cpu", value="Another"))(other)
        publish._machine([run_folder.read_trial(path) for path in (copied, other)])
    with pytest.raises(RunFolderError, match="is a pack already"):
        publish.publish([runs / "quadratic" / "polyak"], tmp_path / "y.tar.xz")
        publish.publish([tmp_path / "y.tar.xz"], tmp_path / "z.tar.xz")


def test_what_check_has_findings_about_is_not_published(
    make_trial: Any,
    run_worker: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(check_command, "demo", list)
    monkeypatch.setattr(check_command, "toys", lambda: toys()[:1])  # one does
    faults = Path(__file__).resolve().parents[1] / "faults" / "returns_nan"
    path = make_trial("quadratic", faults, studies=1, trials=1, budget_steps=ample_steps())
    assert run_worker(path).status is Status.DIVERGED
    file = tmp_path / "nan.tar.xz"
    assert cli.main(["publish", str(path), "-o", str(file)]) == 1
    assert "is not published: `harness check" in capsys.readouterr().err
    assert not file.exists()
    failing = CheckReport("mine", "/x/mine", (), frozenset({"export"}))
    monkeypatch.setattr(publish, "check", lambda folder: failing)
    with pytest.raises(SubmissionError, match=r"fails metadata, .*determinism"):
        publish.check_submissions([records.of_folder(path).submission])


def test_a_pack_brings_no_workload(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passing: None
) -> None:
    """One that is found by a path would be imported."""
    evil = tmp_path / "evil"
    shutil.copytree(discovery.find("workloads", "quadratic").path, evil)
    (evil / "workload.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    for key, value in (("options", {"workload_path": str(evil)}), ("spec", {"workload": "./evil"})):
        place = tmp_path / f"{key}.tar.xz"
        if not place.exists():
            publish.publish([copied], place)
        about, members = pack.read(place)
        (name,) = (n for n in members if n.endswith("/spec.json"))
        held = json.loads(members[name])
        held[key] |= value
        pack.write(place, about, members | {name: json.dumps(held).encode()})
        with records.opened([place]) as found:
            ((record,),) = found.values()
            assert record.home is None or record.home.path != evil


# ---- merged ----


@pytest.fixture
def two(runs: Path, tmp_path: Path, passing: None) -> Iterator[tuple[Path, Path]]:
    files = tmp_path / "one.tar.xz", tmp_path / "two.tar.xz"
    publish.publish([runs / "quadratic" / "polyak"], files[0])
    publish.publish([runs / "quadratic" / "ema", runs / "quadratic" / "batch_ramp"], files[1])
    yield files


def rewritten(file: Path, name: str, change: Callable[[Any], None], about: Callable[[pack.About], pack.About]) -> Path:
    """A pack that holds together, with a JSON member changed."""
    old, members = pack.read(file)
    (found,) = (n for n in members if n.endswith(name))
    held = json.loads(members[found])
    change(held)
    other = file.with_name(f"other-{file.name}")
    pack.write(other, about(old), members | {found: json.dumps(held).encode()})
    return other


def test_packs_of_one_machine_are_joined(two: tuple[Path, Path], runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "both.tar.xz"
    assert cli.main(["merge", str(two[0]), str(two[1]), str(two[0]), "-o", str(out)]) == 0
    whole = publish.publish([runs], tmp_path / "whole.tar.xz")
    assert pack.read(out)[0] == whole
    assert out.read_bytes() == (tmp_path / "whole.tar.xz").read_bytes()


def test_the_sources_of_a_pack_make_its_programs(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checked(file: Path) -> list[str]:
        with records.opened([file]) as found:
            return list(packed_sources.check_programs(found[str(file)]))

    assert checked(two[0]) == []
    about, members = pack.read(two[0])
    (name,) = (name for name in members if name.endswith("/submission.py"))
    edited = members[name].replace(b"def build", b"import jax.numpy as jnp\n\n\ndef build")
    assert edited != members[name]
    pack.write(tmp_path / "edited.tar.xz", about, members | {name: edited})
    assert checked(tmp_path / "edited.tar.xz") == [], "other text, the same program"
    another = members[name].replace(b"1e-6", b"1e-5")
    assert another != members[name]
    pack.write(tmp_path / "another.tar.xz", about, members | {name: another})
    with pytest.raises(SubmissionError, match=r"polyak in this pack make program \w{12}, and \w{12} ran"):
        checked(tmp_path / "another.tar.xz")
    pack.write(tmp_path / "none.tar.xz", about, members | {name: b"x = 1\n"})
    with pytest.raises(SubmissionError, match="the sources of polyak in this pack make no program"):
        checked(tmp_path / "none.tar.xz")
    monkeypatch.setattr(hardware, "packages", lambda: {"jax": "0.1"})
    (note,) = checked(tmp_path / "another.tar.xz")
    assert "is not checked: made under jax " in note


def test_packs_that_do_not_go_together_are_refused(two: tuple[Path, Path], tmp_path: Path) -> None:
    one, other = two
    kept = lambda about: about  # noqa: E731
    slower = rewritten(one, "result.json", set_item("wall_s", value=99.0), kept)
    with pytest.raises(RunFolderError, match=r"result.json is another file in .*other-one.tar.xz than in those before"):
        publish.merge([one, slower], tmp_path / "x.tar.xz")
    machine = rewritten(
        one,
        "result.json",
        set_item("fingerprint", "cores", value=99),
        lambda about: replace(about, machine=about.machine | {"cores": 99}),
    )
    with pytest.raises(RunFolderError, match=r"is of cores 99, .*; a board is of one machine and one jax"):
        publish.merge([other, machine], tmp_path / "x.tar.xz")
    flags = rewritten(one, "result.json", set_item("fingerprint", "flags", "XLA_FLAGS", value="--xla_fast=true"), kept)
    with pytest.raises(RunFolderError, match=r"XLA_FLAGS is .* in .* and '--xla_fast=true'|XLA_FLAGS is '--xla_fast"):
        publish.merge([other, flags], tmp_path / "x.tar.xz")
    about, members = pack.read(one)
    named = replace(about, submissions=(replace(about.submissions[0], source_hash="ffff"),))
    pack.write(tmp_path / "named.tar.xz", named, members)
    with pytest.raises(RunFolderError, match="a name stands for one submission"):
        publish.merge([one, tmp_path / "named.tar.xz"], tmp_path / "x.tar.xz")
    assert not (tmp_path / "x.tar.xz").exists()
