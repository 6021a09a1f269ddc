"""Scores from run folders: what counts, times to target, what is missing, and the table."""

from __future__ import annotations

import itertools
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from written_runs import write_run

from harness.errors import ConfigError, RunFolderError
from harness.record import run_folder
from harness.record.readings import Calibration
from harness.record.result import Result, Status
from harness.record.run_folder import Trial
from harness.record.spec import Clock, TrialSpec
from harness.report import run_summary, score_files, scores
from harness.scoring import outcomes, score, selection
from harness.scoring.selection import select

SPEC = TrialSpec(
    schema=1, workload="w1", workload_version=1, workload_hash="aaaa", metric="loss", mode="min", target=0.5,
    step_hint=600, batch_size=32, budget_steps=1000, reference_step_s=0.01, submission="adamw", submission_hash="s1",
    hyperparameters={"learning_rate": 0.01}, rules="quick", stop="target", clock="calibrated", score_compile=False,
    compile_cap_s=60.0, free_batch_size=True, study=0, trial=0, seed=0, tuning=False, device="cpu", deterministic=True,
)  # fmt: skip

MACHINE: dict[str, Any] = {
    "cpu": "Some CPU", "cores": 2, "device": "cpu", "packages": {"jax": "0.10.2", "jaxlib": "0.10.2"},
    "flags": {"GLIBC_TUNABLES": "a=1", "XLA_FLAGS": ""},
}  # fmt: skip


def under(**settings: str) -> dict[str, Any]:
    """The machine with other packages, or other variables."""
    packages = {name: value for name, value in settings.items() if name in ("jax", "jaxlib")}
    flags = {name: value for name, value in settings.items() if name not in packages}
    return MACHINE | {"packages": MACHINE["packages"] | packages, "flags": MACHINE["flags"] | flags}


def trial(
    path: Path,
    hit: float | None = None,
    *,
    status: Status | None = None,
    fingerprint: dict[str, Any] | None = None,
    written: float = 1000.0,
    energy: float | None = None,
    **changes: Any,
) -> Trial:
    """A trial measured twice, whose second measurement meets the target after `hit` seconds on the calibrated clock."""
    spec = replace(SPEC, **changes)
    programs = {"program": f"of {spec.submission_hash}", "workload_program": f"of {spec.workload_hash}"}
    spec = replace(spec, **programs | changes)
    folder = path / spec.folder
    events = [measurement(100, 0.9, 0.5 if hit is None else hit / 2, met=False, energy=energy)]
    if hit is not None:
        events.append(measurement(200, 0.4, hit, met=True, energy=energy))
        events.append(measurement(250, 0.3, hit + 1, met=True, energy=energy))
    if status is None:
        status = Status.BUDGET_EXHAUSTED if hit is None else Status.TARGET_REACHED
    best = 0.9 if hit is None else 0.3
    held = MACHINE if fingerprint is None else fingerprint
    result = Result(status, "", spec.id, best=best, test={"loss": 0.45}, fingerprint=held)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_text("{}")
    os.utime(folder / "spec.json", (written, written))
    return Trial(folder, spec, status, "", events, result)


def measurement(step: int, loss: float, seconds: float, *, met: bool, energy: float | None = None) -> dict[str, Any]:
    clocks = {"wall": 2 * seconds, "cpu": 3 * seconds, "calibrated": seconds, "energy": energy}
    return {
        "v": 1, "event": "measurement", "step": step, "examples": 32 * step, "metrics": {"loss": loss},
        "scored": clocks, "met": met,
    }  # fmt: skip


# ---- times


def medians(trials: list[Trial], clock: Clock = "calibrated") -> dict[str, dict[str, float | None]]:
    return score.score(trials).times[clock]


def test_time_is_that_of_the_first_hit(tmp_path: Path) -> None:
    trials = [trial(tmp_path, 8.0), trial(tmp_path, None, submission="muon")]
    assert medians(trials) == {"adamw": {"w1": 8.0}, "muon": {"w1": None}}
    assert medians(trials, "wall") == {"adamw": {"w1": 16.0}, "muon": {"w1": None}}
    assert medians(trials, "cpu") == {"adamw": {"w1": 24.0}, "muon": {"w1": None}}
    found = score.score(trials)
    assert [found.steps(name, "w1") for name in ("adamw", "muon")] == [200, None]
    assert [found.test(name, "w1") for name in ("adamw", "muon")] == [0.45, 0.45]


def test_only_the_log_decides_what_met_the_target(tmp_path: Path) -> None:
    # Whether a value meets the target is settled when it is measured (equality does); scoring takes `met` from the log.
    reached = trial(tmp_path, 8.0)
    assert outcomes.outcome(reached).times == {"wall": 16.0, "cpu": 24.0, "calibrated": 8.0}
    for event in reached.events:
        event["met"] = False
    assert not outcomes.outcome(reached).reached


@pytest.mark.parametrize(("mode", "easy", "hard"), [("min", 0.5001, 0.5), ("max", 0.4999, 0.5)])
def test_a_value_on_each_side_of_the_target(tmp_path: Path, mode: Any, easy: float, hard: float) -> None:
    from harness.api import LossKind
    from harness.program.workload import Target, WorkloadInfo

    info = WorkloadInfo("w1", "", "loss", mode, Target(0.5, 1, 100, 0.01), 32, 600, 10, LossKind.SOFTMAX_CROSS_ENTROPY)
    outside = trial(tmp_path, 8.0, mode=mode)
    inside = trial(tmp_path, 8.0, mode=mode, submission="muon")
    for one, value in (outside, easy), (inside, hard):
        for event in one.events:
            event["metrics"]["loss"] = value
            event["met"] = info.meets(value)
    assert medians([outside, inside]) == {"adamw": {"w1": None}, "muon": {"w1": 4.0}}


@pytest.mark.parametrize(("mode", "value"), [("min", 0.5001), ("max", 0.4999), ("min", None)])
def test_a_hit_on_the_wrong_side_is_refused(tmp_path: Path, mode: Any, value: float | None) -> None:
    wrong = trial(tmp_path, 8.0, mode=mode)
    for event in wrong.events:
        event["metrics"]["loss"] = value
        event["met"] = True
    with pytest.raises(
        RunFolderError, match=rf"step 100 is marked as meeting the target.* loss is {value}.*\({mode}\)"
    ):
        score.score([wrong])


def test_a_damaged_measurement_is_named(tmp_path: Path) -> None:
    for broken in ({"met": None}, {"scored": None}, {"metrics": None}, {"scored": {"wall": 1.0}}):
        one = trial(tmp_path, 8.0)
        for name, value in broken.items():
            if value is None:
                del one.events[1][name]
            else:
                one.events[1][name] = value
        with pytest.raises(RunFolderError, match=r"log.jsonl: a measurement is damaged \(KeyError"):
            score.score([one])


def test_no_time_is_no_time(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"time to target is 0\.0 on the calibrated clock; expected more than 0"):
        score.score([trial(tmp_path, 0.0)])


@pytest.mark.parametrize(
    "status", [Status.CRASHED, Status.OUT_OF_MEMORY, Status.HUNG, Status.INTERRUPTED, Status.RUNNING, Status.PLANNED]
)
def test_a_failed_or_unfinished_trial_has_no_time(tmp_path: Path, status: Status) -> None:
    assert medians([trial(tmp_path, 8.0, status=status)]) == {"adamw": {"w1": None}}


@pytest.mark.parametrize("status", [Status.HORIZON_REACHED, Status.DIVERGED, Status.BUDGET_EXHAUSTED, Status.STOPPED])
def test_a_hit_counts_whatever_came_after_it(tmp_path: Path, status: Status) -> None:
    assert medians([trial(tmp_path, 8.0, status=status)]) == {"adamw": {"w1": 8.0}}


def test_median_over_studies_with_misses_as_infinity(tmp_path: Path) -> None:
    def of(*times: float | None) -> tuple[float | None, str]:
        found = score.score([trial(tmp_path, t, study=i) for i, t in enumerate(times)])
        return found.times["calibrated"]["adamw"]["w1"], found.status("adamw", "w1")

    assert of(6.0, None, 10.0) == (10.0, "target_reached")
    assert of(6.0, None, None) == (None, "budget_exhausted")
    assert of(6.0, 8.0) == (7.0, "target_reached")
    assert of(6.0, None) == (None, "budget_exhausted")


def test_the_fastest_trial_of_a_study_counts(tmp_path: Path) -> None:
    assert medians([trial(tmp_path, t, trial=i) for i, t in enumerate([9.0, None, 7.0])]) == {"adamw": {"w1": 7.0}}


def test_energy_that_was_not_measured_cannot_rank(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="energy clock was not measured there; rank by another: wall, cpu, cali"):
        score.score([trial(tmp_path, 8.0)], clock="energy")
    found = score.score([trial(tmp_path, 8.0, energy=50.0)], clock="energy")
    assert (found.clock, found.unit, found.times["energy"]) == ("energy", "joules", {"adamw": {"w1": 50.0}})


def test_every_clock_has_its_own_standings(tmp_path: Path) -> None:
    slow = trial(tmp_path, 8.0, energy=10.0)
    quick = trial(tmp_path, 4.0, submission="muon", energy=40.0)
    found = score.score([slow, quick], baseline="adamw")
    assert {c: on.score["muon"].value for c, on in found.standings.items()} == pytest.approx(
        {"calibrated": 1.0, "wall": 1.0, "cpu": 1.0, "energy": 0.0}
    )
    assert {c: on.speed_up["muon"].ratio.value for c, on in found.standings.items()} == pytest.approx(
        {"calibrated": 2.0, "wall": 2.0, "cpu": 2.0, "energy": 0.25}
    )


# ---- what is missing


def both(path: Path, rows: dict[str, list[float | None]], **changes: Any) -> list[Trial]:
    return [
        trial(path, t, submission=name, study=i, **changes) for name, row in rows.items() for i, t in enumerate(row)
    ]


def test_a_missing_study_is_a_miss_unless_it_is_allowed(tmp_path: Path) -> None:
    trials = both(tmp_path, {"adamw": [6.0, 7.0, 8.0], "muon": [4.0, 5.0]})
    found = score.score(trials)
    assert found.times["calibrated"]["muon"]["w1"] == 5.0  # 4, 5 and a miss
    assert "missing, counted as missed: muon on w1: 1 of 3 trials (study 2 of 3); --allow-missing" in "\n".join(
        found.notes
    )
    found = score.score(trials, allow_missing=True)
    assert found.times["calibrated"]["muon"]["w1"] == 4.5
    assert "missing, left out of the median: muon on w1: 1 of 3 trials (study 2 of 3)" in found.notes
    (gap,) = found.gaps
    assert (gap.submission, gap.workload, gap.studies, gap.trials, gap.trials_expected) == ("muon", "w1", (2,), 1, 3)


def test_who_was_asked_for_fewer_studies_has_none_missing(tmp_path: Path) -> None:
    """A folder of one seed beside one of six: the first has its time, and the others what they had without it."""
    six = {"adamw": [6.0, 6.1, 6.2, 6.3, 6.4, 6.5], "sgd": [12.0, 12.1, 12.2, 12.3, 12.4, 12.5]}
    trials = both(tmp_path, six, studies=6)
    alone = score.score(trials)
    found = score.score([*trials, *both(tmp_path, {"muon": [4.0]}, studies=1)])
    assert found.times["calibrated"]["muon"]["w1"] == 4.0
    assert found.scores["muon"] == 1.0
    assert "muon: 1 of the 6 studies that others have, and scored on these; studies=6 runs the others" in found.notes
    assert not any("missing" in note for note in found.notes)
    told = {(pair.a, pair.b): pair.separable for pair in found.ranking.pairs}
    assert told == {("muon", "adamw"): None, ("muon", "sgd"): None, ("adamw", "sgd"): True}
    assert [pair.separable for pair in alone.ranking.pairs] == [True]
    assert [gap.submission for gap in found.gaps] == ["muon"], "no board takes it"
    short = score.score([*trials, *both(tmp_path, {"lamb": [4.0]}, studies=6)])
    assert short.times["calibrated"]["lamb"]["w1"] is None, "it was asked for six"


def test_an_unfinished_study_is_missing(tmp_path: Path) -> None:
    trials = [*both(tmp_path, {"adamw": [6.0, 8.0, 9.0]}), trial(tmp_path, 4.0, submission="muon")]
    for study, status in ((1, Status.RUNNING), (2, Status.INTERRUPTED)):
        trials.append(trial(tmp_path, 1.0, submission="muon", study=study, status=status))
    found = score.score(trials)
    assert found.times["calibrated"]["muon"]["w1"] is None
    told = "1 of 3 studies finished; 1 interrupted, 1 running"
    again = "go on with `harness run muon workload=w1 rules=quick`, and what else it began with"
    assert f"muon on w1: {told}, counted as missed so far: {again}" in found.notes
    assert (found.standing("muon", "w1"), found.standing("adamw", "w1")) == (told, "target_reached")
    found = score.score(trials, allow_missing=True)
    assert found.times["calibrated"]["muon"]["w1"] == 4.0
    assert "1 running, left out of the median so far" in "\n".join(found.notes)


def test_a_missing_trial_is_reported(tmp_path: Path) -> None:
    trials = [trial(tmp_path, 6.0 + i, study=s, trial=i) for s in (0, 1) for i in (0, 1, 2)][:-1]
    found = score.score(trials)
    assert "missing, the fastest of the others counts: adamw on w1: 1 of 6 trials" in found.notes


def test_a_study_that_failed_throughout_is_a_miss_and_named(tmp_path: Path) -> None:
    trials = [*both(tmp_path, {"adamw": [6.0, 8.0]}), trial(tmp_path, None, study=2, status=Status.CRASHED)]
    for allowed in (False, True):
        found = score.score(trials, allow_missing=allowed)
        assert found.times["calibrated"]["adamw"]["w1"] == 8.0
        assert "failed, counted as missed: study 2 of adamw on w1 (crashed)" in found.notes


def test_studies_with_different_hyperparameters_are_named(tmp_path: Path) -> None:
    trials = [trial(tmp_path, 6.0, study=i, hyperparameters={"learning_rate": 0.1 * i}) for i in (1, 2)]
    assert "the studies of adamw on w1 were run with different hyperparameters" in score.score(trials).notes


def test_the_baseline_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no submission 'adam' to be the baseline; did you mean 'adamw'"):
        score.score([trial(tmp_path, 8.0)], baseline="adam")


# ---- what counts


def test_smoke_tests_variants_and_tuning_trials_are_left_out(tmp_path: Path) -> None:
    kept = trial(tmp_path, 8.0)
    others = [
        trial(tmp_path, 1.0, max_steps=20),
        trial(tmp_path, 1.5, variant="wide"),
        trial(tmp_path, 2.0, tuning=True),
    ]
    found = selection.select([kept, *others])
    assert found.trials == (kept,)
    assert any("1 trial on held-out variants" in note for note in found.notes)
    assert any("1 trial run with max_steps" in note for note in found.notes)
    assert any("1 trial run on tuning seeds" in note for note in found.notes)


def test_a_trial_that_went_on_from_another_ones_checkpoint_is_left_out(tmp_path: Path) -> None:
    """Copied from a run over other devices, say: its log holds the start of both, and its times are no one's."""
    kept, mixed = trial(tmp_path, 8.0), trial(tmp_path, 1.0, study=1)
    for one in (kept, mixed):
        one.events.insert(0, {"event": "start", "spec_id": one.spec.id})
    mixed.events.insert(0, {"event": "start", "spec_id": replace(mixed.spec, devices=8).id})
    kept, mixed = (replace(one, result=one.result and replace(one.result, attempts=2)) for one in (kept, mixed))
    found = selection.select([kept, mixed])
    assert found.trials == (kept,)
    assert any("1 trial that went on from the checkpoint of another" in note for note in found.notes)
    held_out = [replace(one, spec=replace(one.spec, variant="wide")) for one in (kept, mixed)]
    assert [one.path for one in selection.select_variants(held_out).trials] == [kept.path]


def test_older_sources_of_a_submission_are_superseded(tmp_path: Path) -> None:
    old = [trial(tmp_path, 5.0, workload=w, submission_hash="old", written=1.0) for w in ("w1", "w2")]
    new = trial(tmp_path, 8.0, submission_hash="new", written=2.0)
    other = trial(tmp_path, 9.0, submission="muon", written=1.0)
    found = selection.select([*old, new, other])
    assert found.trials == (new, other)
    assert "left out: 2 trials of adamw on w1, w2, which older code of it ran; the newest is scored" in found.notes


def test_a_first_try_on_a_toy_supersedes_nothing_that_is_scored(tmp_path: Path) -> None:
    scored = trial(tmp_path, 5.0, submission_hash="old", written=1.0)
    toys = [trial(tmp_path, 1.0, workload="toy", submission_hash=h, written=w) for h, w in (("old", 1.0), ("new", 2.0))]
    found = selection.select([scored, *toys], {"toy"})
    assert [(t.spec.workload, t.spec.submission_hash) for t in found.trials] == [("toy", "new"), ("w1", "old")]
    assert [(t.spec.workload, t.spec.submission_hash) for t in selection.select([scored, *toys]).trials] == [
        ("toy", "new")
    ]


def test_sources_that_come_to_the_same_program_are_one_version(tmp_path: Path) -> None:
    """A comment was edited: what ran before stays scored. Where a program differs, the older source is superseded."""
    old = [trial(tmp_path, 5.0, workload=w, submission_hash="old", program="p", written=1.0) for w in ("w1", "w2")]
    new = trial(tmp_path, 8.0, workload="w1", study=1, submission_hash="new", program="p", written=2.0)
    assert len(select([*old, new]).trials) == 3
    edited = trial(tmp_path, 8.0, workload="w1", study=1, submission_hash="new", program="q", written=2.0)
    assert select([*old, edited]).trials == (edited,)


def test_records_that_are_older_than_programs_are_marked(tmp_path: Path) -> None:
    old = trial(tmp_path, 5.0, workload_program=None, program=None)
    new = trial(tmp_path, 5.0, submission="muon")
    marked = [note for note in select([old, new]).notes if note.startswith("older than programs: adamw ran")]
    assert marked, "of the same workload sources, so they are compared"
    assert not [note for note in select([new]).notes if "older than programs" in note]
    with pytest.raises(RunFolderError, match="workload_program of w1"):
        select([new, trial(tmp_path, 5.0, workload_program="another")])


def test_what_is_flagged_of_a_program_is_told(tmp_path: Path) -> None:
    made = trial(tmp_path, 5.0)
    flagged = replace(made, result=replace(made.result, flagged=("half of the products",)))
    assert "flagged: adamw on w1: half of the products" in select([flagged]).notes


def test_an_older_hyperparameter_point_is_superseded(tmp_path: Path) -> None:
    old = trial(tmp_path, 5.0, hyperparameters={"learning_rate": 0.1}, written=1.0)
    new = trial(tmp_path, 8.0, written=2.0)
    for order in itertools.permutations([old, new]):
        found = selection.select(order)
        assert found.trials == (new,)
        assert (
            f"left out: {old.path} ran with learning_rate=0.1 earlier; {new.path} (newer) is scored; "
            f"`harness score {old.path}` shows it"
        ) in found.notes


def test_the_point_that_was_asked_for_last_counts(tmp_path: Path) -> None:
    defaults = trial(tmp_path, 5.0, written=1.0)
    experiment = trial(tmp_path, 8.0, hyperparameters={"learning_rate": 0.1}, written=2.0)
    assert selection.select([defaults, experiment]).trials == (experiment,)
    run_folder.ask_again(defaults.path)
    assert selection.select([defaults, experiment]).trials == (defaults,)


def test_an_experiment_by_hand_stands_behind_the_defaults_whatever_their_dates(tmp_path: Path) -> None:
    defaults = trial(tmp_path, 5.0, written=1.0)
    experiment = trial(
        tmp_path, None, status=Status.DIVERGED, hyperparameters={"learning_rate": 1e6}, by_hand=True, written=2.0
    )
    for order in itertools.permutations([defaults, experiment]):
        found = selection.select(order)
        assert found.trials == (defaults,)
        assert (
            f"left out: {experiment.path} ran with learning_rate=1000000.0 by hp.NAME, an experiment; {defaults.path} "
            f"is scored; `harness score {experiment.path}` shows it"
        ) in found.notes
    found = selection.select([experiment])
    assert found.trials == (experiment,)
    assert "at a point that hp.NAME gave, not at its own: adamw" in found.notes


def test_the_log_makes_a_run_folder_newer(tmp_path: Path) -> None:
    first = trial(tmp_path, 5.0, seed=1, written=1.0)
    second = trial(tmp_path, 8.0, written=2.0)
    (first.path / "log.jsonl").write_text("")
    os.utime(first.path / "log.jsonl", (3.0, 3.0))
    found = selection.select([first, second])
    assert found.trials == (first,)
    assert "left out: 1 trial of adamw on w1 under seed=0; those under seed=1 are scored" in found.notes


def test_studies_of_two_seeds_are_never_mixed(tmp_path: Path) -> None:
    five = [trial(tmp_path, 5.0, study=n, written=1.0) for n in range(5)]
    later = trial(tmp_path, 1.0, seed=1, written=9.0)
    elsewhere = trial(tmp_path, 1.0, seed=1, workload="w2")
    found = selection.select([*five, later, elsewhere])
    assert found.trials == (*five, elsewhere)
    by_hand = [trial(tmp_path, 2.0, study=n, seed=2, by_hand=True) for n in range(7)]
    begun = [trial(tmp_path, status=Status.INTERRUPTED, study=n, seed=3) for n in range(7)]
    assert selection.select([*five, later, *by_hand, *begun]).trials == tuple(five)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rules": "external"}, "rules is 'quick'.*'external'"),
        ({"clock": "wall"}, "clock is 'calibrated'.*'wall'"),
        ({"device": "gpu"}, "device is 'cpu'.*'gpu'"),
        ({"deterministic": False}, "deterministic is True.*False"),
        ({"devices": 8}, "devices is 1.*8"),
        ({"target": 0.4}, "target of w1 is 0.5.*0.4"),
        ({"workload_version": 2}, "workload_version of w1 is 1.*2"),
        ({"workload_hash": "bbbb"}, "workload_program of w1 is 'of aaaa'.*'of bbbb'"),
        ({"reference_step_s": 0.02}, "reference_step_s of w1"),
        ({"fingerprint": MACHINE | {"cpu": "Another CPU"}}, "cpu of the machine is 'Some CPU'.*'Another CPU'"),
        ({"fingerprint": MACHINE | {"cores": 64}}, "cores of the machine is 2.*64"),
        ({"fingerprint": under(jax="0.11.2")}, "the version of jax is '0.10.2'.*'0.11.2'"),
        ({"fingerprint": under(jaxlib="0.10.3")}, "the version of jaxlib is '0.10.2'.*'0.10.3'"),
        ({"fingerprint": under(XLA_FLAGS="--xla_cpu_enable_fast_math=true")}, "XLA_FLAGS is ''.*fast_math=true'"),
        ({"fingerprint": under(GLIBC_TUNABLES="glibc.malloc.check=3")}, "GLIBC_TUNABLES is 'a=1'.*check=3'"),
        ({"fingerprint": under(GLIBC_TUNABLES="")}, "GLIBC_TUNABLES is 'a=1' .*''"),
        ({"fingerprint": under(OMP_NUM_THREADS="1")}, "OMP_NUM_THREADS is ''.*'1'"),
        ({"fingerprint": under(JAX_ENABLE_X64="1")}, "JAX_ENABLE_X64 is ''.*'1'"),
        ({"fingerprint": under(HARNESS_ATTENTION="xla")}, "HARNESS_ATTENTION is ''.*'xla'"),
        ({"fingerprint": under(XLA_PYTHON_CLIENT_ALLOCATOR="platform")}, "CLIENT_ALLOCATOR is ''.*'platform'"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    trials = [trial(tmp_path, 8.0), trial(tmp_path, 9.0, submission="muon", **changes)]
    with pytest.raises(RunFolderError, match=named) as caught:
        selection.select(trials)
    assert str(trials[0].path) in str(caught.value)
    assert str(trials[1].path) in str(caught.value)
    assert re.search("out=DIR|--rules", str(caught.value)), "how to score them apart"


def test_other_images_are_refused(tmp_path: Path) -> None:
    held = [MACHINE | {"images": {"imagenet": index, "pillow": "12.0.0"}} for index in ("1f", "2e")]
    trials = [trial(tmp_path, 8.0, fingerprint=held[0]), trial(tmp_path, 9.0, submission="muon", fingerprint=held[1])]
    with pytest.raises(RunFolderError, match=r"the images of w1 is .*1f.*2e"):
        selection.select(trials)


def test_what_changes_no_number_is_no_difference(tmp_path: Path) -> None:
    """Two processes of one campaign have another card, and caches elsewhere; an older record holds less."""
    caches = "--xla_gpu_per_fusion_autotune_cache_dir=/here --xla_gpu_experimental_autotune_cache_mode=X"
    same = [under(), under(JAX_PLATFORMS="cpu", CUDA_VISIBLE_DEVICES="1"), under(XLA_FLAGS=caches), under(XLA_FLAGS="")]
    older = [{"cpu": "Some CPU", "cores": 2}, {"packages": {"jax": "0.10.2"}}, {"flags": {"GLIBC_TUNABLES": "a=1"}}]
    trials = [trial(tmp_path, 8.0, study=i, fingerprint=held) for i, held in enumerate([*same, *older])]
    for order in (trials, trials[::-1]):
        assert len(select(order).trials) == 7


def test_gpus_are_compared_by_the_card_and_not_by_the_host(tmp_path: Path) -> None:
    card = {"cpu": "Some CPU", "cores": 2, "device": "A card"}
    one = trial(tmp_path, 8.0, device="gpu", fingerprint=card)
    other_host = trial(tmp_path, 9.0, device="gpu", submission="muon", fingerprint=card | {"cpu": "Another CPU"})
    assert len(selection.select([one, other_host]).trials) == 2
    other_card = trial(tmp_path, 9.0, device="gpu", submission="muon", fingerprint=card | {"device": "Another card"})
    with pytest.raises(RunFolderError, match="device of the machine is 'A card'"):
        selection.select([one, other_card])


def test_a_crash_without_a_fingerprint_can_be_compared(tmp_path: Path) -> None:
    crashed = trial(tmp_path, None, status=Status.CRASHED, submission="muon", fingerprint={})
    assert len(selection.select([trial(tmp_path, 8.0), crashed]).trials) == 2


def test_notes_tell_what_a_reader_has_to_know(tmp_path: Path) -> None:
    notes = score.score(
        [
            trial(tmp_path, 8.0, workload_version=0),
            trial(tmp_path, 8.0, workload_version=0, submission="muon"),
            trial(tmp_path, None, workload="w2", status=Status.INTERRUPTED),
            trial(tmp_path, None, workload="w3", target=None),
        ]
    ).notes
    expected = ["w1: the target is provisional", "w3 has no target",
                "adamw on w2: 0 of 1 study finished; 1 interrupted, counted as missed so far: go on with `harness run",
                "one study: no interval",
                "muon was not run on w2: counted as missed"]  # fmt: skip
    for text in expected:
        assert any(text in note for note in notes), text


def test_a_submission_on_toys_alone_has_no_score_and_moves_none(tmp_path: Path) -> None:
    trials = [trial(tmp_path, 8.0), trial(tmp_path, 9.0, submission="muon")]
    expected = score.score(trials, {"toy"}).scores
    found = score.score([*trials, trial(tmp_path, 1.0, workload="toy", submission="mine")], {"toy"})
    assert found.scores == expected | {"mine": None}
    assert any("without a score: mine" in note for note in found.notes)
    assert not any("mine was not run on w1" in note for note in found.notes)
    assert score_files.as_json(found)["scores"]["mine"] == {"score": None, "low": None, "high": None}
    assert score_files.as_csv(found).splitlines()[-1].startswith(",mine,,")


def test_an_uncertain_step_ratio_is_told_where_it_ranks(tmp_path: Path) -> None:
    def measured(error: float | None) -> Trial:
        found = trial(tmp_path, 8.0)
        assert found.result is not None
        ratio = Calibration(0.01, 0.02, {32: 1.5}, eval_variables_ratio=0.0, pairs=10, step_ratio_error=error)
        return replace(found, result=replace(found.result, calibration=ratio))

    said = "the yardstick is uncertain by 14% for adamw on w1; "
    assert any(said in note for note in score.score([measured(0.142)]).notes)
    assert not any(said in note for note in score.score([measured(0.142)], clock="wall").notes)
    for error in (0.09, None):
        assert not any("uncertain" in note for note in score.score([measured(error)]).notes)


def test_times_of_two_versions_of_the_clock_are_not_compared(tmp_path: Path) -> None:
    def timed(version: int, **fields: Any) -> Trial:
        found = trial(tmp_path, 8.0, **fields)
        assert found.result is not None
        held = Calibration(0.01, 0.02, {32: 1.5}, eval_variables_ratio=0.0, pairs=10, clock_version=version)
        return replace(found, result=replace(found.result, calibration=held))

    score.score([timed(3), timed(3, submission="muon")])
    with pytest.raises(RunFolderError, match="the version of the calibrated clock"):
        score.score([timed(2), timed(3, submission="muon")])


def test_order_of_the_records_is_irrelevant(tmp_path: Path) -> None:
    trials = [
        trial(tmp_path, 8.0, workload=w, submission=s, study=i, hyperparameters={"learning_rate": lr}, written=when)
        for w in ("w1", "w2")
        for s in ("adamw", "muon")
        for i, lr, when in ((0, 0.1, 1.0), (0, 0.2, 2.0), (1, 0.1, 1.0))
    ]
    expected = score.score(trials)
    assert score.score(trials[::-1]) == expected
    assert score.score(trials[5:] + trials[:5]) == expected


# ---- the table


def sample(path: Path) -> list[Trial]:
    return [
        trial(path, 8.0),
        trial(path, 4.0, submission="muon"),
        trial(path, 6.0, workload="w2"),
        trial(path, None, workload="w2", submission="muon", status=Status.DIVERGED),
    ]


def test_times_on_a_workload_are_shown_while_the_campaign_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = [tmp_path / write_run(tmp_path, s, submission=n).folder for n, s in (("adamw", 8.0), ("muon", 4.0))]
    run_summary.print_first_study(ran)
    blank, head, columns, *rows = capsys.readouterr().out.splitlines()
    assert (blank, head) == ("", "lm: loss at most 0.5, version 1")
    assert columns.split()[0] == "submission"
    assert [row.split()[:4] for row in rows] == [
        ["muon", "target_reached", "4.000", "1.000"],
        ["adamw", "target_reached", "8.000", "2.000"],
        [],
    ]
    run_summary.print_first_study([tmp_path / write_run(tmp_path, 8.0, max_steps=20).folder])
    assert capsys.readouterr().out == "", "a smoke test has no times"
    (ran[0] / "result.json").write_text("{")
    run_summary.print_first_study(ran)
    assert capsys.readouterr().out == "", "damage is told by the summary, and ends no trial"


def test_table_in_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores.print_scores(sample(tmp_path))
    expected = """\
ruleset quick, ranked by calibrated seconds

w1: loss at most 0.5, version 1
submission  status          time to target  x best  steps  wall s  cpu s  test loss
muon        target_reached           4.000   1.000    200   8.000  12.00     0.4500
adamw       target_reached           8.000   2.000    200   16.00  24.00     0.4500

w2: loss at most 0.5, version 1
submission  status                time to target  x best  steps  wall s  cpu s  test loss
adamw       target_reached                 6.000   1.000    200   12.00  18.00     0.4500
muon        diverged        missed (best 0.9000)       -      -       -      -     0.4500

score: performance profile up to 4 times the best, over w1, w2
submission  score  x best (geometric mean)  targets reached
adamw       0.833                    1.414           2 of 2
muon        0.500                        -           1 of 2

note: one study: no interval, so a small difference may be chance; `harness run ... studies=7` runs more seeds
note: a time is that of the first measurement that meets the target; the one before it came earlier by 50% for adamw \
on w1 (steps 100 and 200), 50% for adamw on w2 (steps 100 and 200), 50% for muon on w1 (steps 100 and 200): \
differences within that are not resolved
"""
    assert capsys.readouterr().out == expected


def test_a_miss_says_how_near_it_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The median of the best metrics of the studies that missed; nothing without a target, or while a trial goes on."""

    def shown(*trials: Trial) -> str:
        scores.print_scores(trials)
        return capsys.readouterr().out

    far, near = trial(tmp_path, None, study=0), trial(tmp_path, None, study=1)
    near = replace(near, result=replace(near.result, best=0.52))
    hit = trial(tmp_path, 8.0, study=2)
    assert "missed (best 0.9000)" in shown(far)
    assert "missed (best 0.7100)" in shown(far, near, hit)
    assert "missed (best" not in shown(far, hit, trial(tmp_path, 7.0, study=1)), "the median study reached it"
    assert "missed (" not in shown(trial(tmp_path, None, target=None))
    assert "missed (" not in shown(far, trial(tmp_path, None, study=1, status=Status.INTERRUPTED))
    alone = replace(far, result=replace(far.result, best=None))
    assert "missed (" not in shown(alone)


def test_public_seeds_are_told_where_several_studies_count(tmp_path: Path) -> None:
    def told(*trials: Trial) -> bool:
        return any(note.startswith("seed 0 is public") for note in score.score(trials).notes)

    assert told(trial(tmp_path, 8.0), trial(tmp_path, 8.0, study=1))
    assert told(trial(tmp_path, 8.0, studies=6)), "the others are still to come"
    assert not told(trial(tmp_path, 8.0, studies=1))
    assert not told(trial(tmp_path, 8.0, seed=5), trial(tmp_path, 8.0, seed=5, study=1))


def test_one_submission_is_told_what_to_add(tmp_path: Path) -> None:
    for name, other in ("adamw", "nadamw"), ("muon", "adamw"):
        notes = score.score([trial(tmp_path, 8.0, submission=name)]).notes
        assert f"Only one submission here, so ratios say nothing; add another, for example {other}." in notes


def test_a_toy_is_shown_and_not_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = score.score(sample(tmp_path), unscored={"w2"})
    assert found.scores == {"adamw": pytest.approx(2 / 3), "muon": 1.0}
    assert found.times["calibrated"]["adamw"]["w2"] == 6.0
    assert "shown but not part of the score: w2" in found.notes


def test_workloads_that_are_gone_count_as_no_toys() -> None:
    assert scores.unscored_workloads({"no_such_workload"}) == set()


def test_no_trials(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"no trials found in some/runs; `harness run` makes some"):
        scores.print_scores([], where="some/runs")


def test_smoke_tests_alone_give_notes_and_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores.print_scores([trial(tmp_path, 8.0, max_steps=20)])
    assert "smoke tests are never ranked" in capsys.readouterr().out
    scores.print_scores([trial(tmp_path, 8.0, max_steps=20)], json=True)
    assert json.loads(capsys.readouterr().out)["scores"] == {}


def test_energy_is_shown_where_every_hit_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores.print_scores([trial(tmp_path, 8.0, energy=1234.5)])
    out = capsys.readouterr().out
    assert "energy J" in out
    assert "1234.50" in out


def test_a_column_names_its_clock_and_unit_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores.print_scores([trial(tmp_path, 8.0)], clock="wall")
    out = capsys.readouterr().out
    assert "  calibrated s  " in out and "calibrated calibrated" not in out


def test_versions_that_were_looked_at_are_told(tmp_path: Path) -> None:
    """Each edit after a look fits the metric a little; seeds of one version are one look, and searches are none."""
    runs = [
        trial(tmp_path, 10.0, submission="mine", submission_hash=f"s{n}", study=k) for n in range(3) for k in (0, 1)
    ]
    runs += [trial(tmp_path, 9.0, submission="mine", submission_hash="s9", tuning=True), trial(tmp_path, 11.0)]
    found = score.score(runs)
    assert found.looks == {"adamw": 1, "mine": 3}
    assert any(note.endswith("as far as the runs here tell: mine 3") for note in found.notes)
    assert score_files.as_json(found)["looks"] == {"adamw": 1, "mine": 3}
