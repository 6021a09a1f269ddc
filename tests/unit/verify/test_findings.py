"""`harness verify`: which findings stand, and what a campaign is."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from written_runs import write_run

from harness.data import get, store
from harness.errors import ConfigError, RunFolderError
from harness.program import discovery
from harness.program.workload import SMALL
from harness.record import pack, run_folder
from harness.verify import by_rules, by_sources, command, examined, publish, rerun
from harness.verify.findings import Finding, Report, print_counts, print_report, unchecked


def test_what_a_rerun_settles_is_not_left_open() -> None:
    kept_none = unchecked("metrics", examined.METRICS, "what was evaluated is not here")
    no_slice = unchecked("metrics", "validation_slice", "the record has none at the last step")
    again = Finding("rerun", rerun.SAME_METRICS, "ok")
    assert command.without_settled([kept_none, no_slice, again]) == [no_slice, again]
    other = Finding("rerun", rerun.SAME_METRICS, "differs", "others")
    for findings in [kept_none, no_slice], [kept_none, other]:
        assert command.without_settled(findings) == findings


def test_a_trial_that_went_on_from_another_ones_checkpoint_is_not_published(tmp_path: Path) -> None:
    spec = write_run(tmp_path, 3.0)
    trial = run_folder.read_trial(tmp_path / spec.folder)
    assert trial.result is not None
    events = [{"event": "start", "spec_id": "another"}, *trial.events]
    mixed = replace(trial, events=events, result=replace(trial.result, attempts=2))
    with pytest.raises(RunFolderError, match="here is a trial that went on from the checkpoint of another"):
        publish.check_records([SimpleNamespace(trial=mixed, place="here")])  # type: ignore[list-item]


def test_what_cannot_be_read_leaves_nothing_unchecked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = write_run(tmp_path, 3.0)
    (tmp_path / spec.folder / "result.json").write_text("{")
    assert command.run([tmp_path]) == 1
    assert "could not be checked" not in capsys.readouterr().out


def packed(root: Path, file: Path) -> Path:
    """A pack of the runs below a folder, without programs or sources."""
    members = {f"trials/{p.relative_to(root).as_posix()}": p.read_bytes() for p in root.rglob("*.json*")}
    pack.write(file, pack.About("0.1.0", {}, "cpu", {"cpu": "Some CPU"}, ("quick",), (), states=False), members)
    return file


def test_one_run_of_a_pack_is_named_as_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = [write_run(tmp_path / "runs", 3.0, study=study, studies=2, trials=1) for study in range(2)]
    file = packed(tmp_path / "runs", tmp_path / "mine.tar.xz")
    monkeypatch.setattr(command, "look", lambda place, of, **how: seen.append((of, how)) or [Report(place, ())])
    run = specs[1].folder.rpartition("/")[2]
    for place, only, count in (
        (f"{file}:trials/{specs[1].folder}", [], 1), (str(file), [run], 1), (f"{file}:trials/lm", [], 2),
        (str(file), ["adamw", "lm"], 2),
    ):  # fmt: skip
        seen: list[Any] = []
        assert command.run([Path(place)], only=only) == 0
        ((of, how),) = seen
        assert (len(of), how["together"]) == (count, count == 2), "one study of two is no campaign"
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"mine.tar.xz:trials/other: no such record is there"):
        command.run([Path(f"{file}:trials/other")])


@pytest.mark.parametrize("at", [2, 10, 100, -4])
def test_a_byte_that_changed_is_a_difference_wherever_it_is(
    tmp_path: Path, at: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "runs", 3.0)
    file = packed(tmp_path / "runs", tmp_path / "packs" / "mine.tar.xz")
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    for place in (file, file.parent):
        assert command.run([place]) == 1
        assert "DIFFERS" in capsys.readouterr().out


def test_two_seeds_are_two_campaigns_and_no_forgery(tmp_path: Path) -> None:
    for study in range(5):
        write_run(tmp_path, 3.0, study=study, studies=5, trials=1, seed=0)
    write_run(tmp_path, 3.0, studies=1, trials=1, seed=1)
    trials = [run_folder.read_trial(path) for path in run_folder.find_trials(tmp_path)]
    found = list(by_rules.campaign(trials))
    assert {one.verdict for one in found if one.what != "one seed"} == {"ok"}
    (told,) = [one for one in found if one.what == "one seed"]
    assert told.verdict == "no entry" and "adamw on lm by quick" in told.text
    (missing, *_) = by_rules.campaign([trial for trial in trials if trial.spec.study != 3])
    assert missing.verdict == "differs" and "adamw on lm by quick, seed=0: study 3" in missing.text


def test_toys_and_other_runs_that_are_no_entries_are_left_out_of_a_pack(tmp_path: Path) -> None:
    def record(**fields: Any) -> Any:
        path = tmp_path / write_run(tmp_path, 3.0, studies=1, trials=1, **fields).folder
        known = discovery.workload_info(discovery.find("workloads", "quadratic"))
        info = known if fields.get("workload") == "quadratic" else None
        return SimpleNamespace(trial=run_folder.read_trial(path), info=info, place=str(path))

    entry = record(free_batch_size=True)
    toy, whole, smoke = record(workload="quadratic"), record(stop="horizon"), record(max_steps=5)
    told: list[str] = []
    assert publish.entries([toy, entry, whole, smoke], told.append) == [entry]
    assert [line.partition("): ")[0] for line in told] == [
        "left out: 1 trial (on a toy", "left out: 1 trial (stop=horizon (the rules have target)",
        "left out: 1 trial (smoke tests",
    ]  # fmt: skip
    assert publish.entries([toy, smoke]) == [toy, smoke]  # the error of each says why


def test_images_are_those_of_the_record_or_nothing_is_evaluated_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw: Callable[..., None]
) -> None:
    """No hash is pinned of a folder of images: the record alone tells which they were."""
    for place, train in (("a", 10), ("b", 11)):
        monkeypatch.setenv("HARNESS_DATA", str(tmp_path / place))
        draw(tmp_path / place / "imagenet", train=train)
        get.get("imagenet", None, lambda *_: None, lambda _: None)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "a"))
    home = discovery.find("workloads", "resnet50_imagenet")
    here = {"imagenet": store.identity("imagenet"), "pillow": importlib.metadata.version("pillow")}
    path = tmp_path / "runs" / write_run(tmp_path / "runs", 3.0).folder
    (path / examined.EVALUATED).touch()
    trial = run_folder.read_trial(path)

    def record(images: dict[str, Any] | None) -> Any:
        assert trial.result is not None
        result = replace(trial.result, fingerprint=trial.result.fingerprint | {"images": images}, evaluated="hash")
        info = discovery.workload_info(home, SMALL)
        return SimpleNamespace(trial=replace(trial, result=result), home=home, info=info, program=lambda kind: path)

    def verdicts(one: Any) -> dict[str, str]:
        return {found.what: found.verdict for found in by_sources.data(one)}

    def case(one: Any) -> Any:
        return examined._case([one], ("cpu", True, path, path, SMALL, "xla"), [0], True)

    same, older = record(here), record(None)
    assert verdicts(same) == {"data set imagenet": "ok", "images of imagenet": "ok"}
    assert case(same).folders == (str(path),) and not by_sources.lacking(same)
    assert verdicts(older)["images of imagenet"] == "unchecked"

    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "b"))
    (_, found) = by_sources.data(same)
    assert found.verdict == "differs" and here["imagenet"] in found.text and store.identity("imagenet") in found.text
    assert case(same).folders == (), "nothing is evaluated on other images"
    (told,) = examined._left_open(same, [], True)
    assert told.verdict == "unchecked" and "those of the trial: images of imagenet" in told.text
    (told,) = rerun.look(same)
    assert told.verdict == "unchecked" and "images of imagenet" in told.text

    versions = {
        "platform": "cpu",
        "device": "cpu",
        "cpu": "Some CPU",
        "cores": 2,
        "packages": {"jax": "0.10.2", "jaxlib": None},
    }
    held = versions | {"images": here}
    assert examined.differing(held, versions) == ""
    assert examined.differing(held | {"images": here | {"pillow": "1.0"}}, versions) == "pillow"


def test_what_is_ok_is_counted_and_what_is_not_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    fine, why = Finding("log", "spans", "ok"), "what was evaluated is not here"
    left = unchecked("metrics", examined.METRICS, why)
    wrong, time = (
        Finding("log", "status", "differs", "expected a"),
        Finding("rerun", "time", "ok", "-18.1%, at most +25%"),
    )
    reports = [Report("a", (fine, fine, left)), Report("b", (fine, wrong, left)), Report("c", (fine, time))]
    for report in reports:
        print_report(report)
    print_counts(reports)
    assert capsys.readouterr().out.splitlines() == [
        "b", "  log       DIFFERS    status: expected a", "c", "  rerun     ok         time: -18.1%, at most +25%",
        "  log       ok         4 things in 3 records", "  rerun     ok         1 thing in 1 record",
        f"  metrics   unchecked  validation and test: {why} (in 2 records, the first a)",
    ]  # fmt: skip
    print_report(reports[0], verbose=True)
    assert capsys.readouterr().out.splitlines() == [
        "a", "  log       ok         spans, spans", f"  metrics   unchecked  validation and test: {why}",
    ]  # fmt: skip
