"""Held-out variants: final metrics, gaps to AdamW in spreads, how they move, and that no score holds them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main as cli
from harness.errors import RunFolderError
from harness.record import published, run_folder
from harness.record.readings import Scored
from harness.record.result import Measurement, Result, Status
from harness.record.run_folder import Trial
from harness.record.spec import Options, TrialSpec
from harness.report import leaderboard
from harness.report.variants import print_variants
from harness.scoring import selection, variants
from harness.scoring.variants import Comparison

SPEC = TrialSpec(
    schema=1, workload="mae_digits", workload_version=0, workload_hash="aaaa", metric="loss", mode="min", target=None,
    step_hint=800, batch_size=64, budget_steps=1600, reference_step_s=0.0, submission="adamw", submission_hash="s1",
    hyperparameters={"lr": 0.1}, rules="quick", stop="horizon", clock="calibrated", score_compile=False,
    compile_cap_s=60.0, free_batch_size=True, study=0, trial=0, seed=0, tuning=False, device="cpu", deterministic=True,
    studies=1, trials=1, workload_program="w", program="p", variant="unchanged",
)  # fmt: skip
MACHINE = {"cpu": "Some CPU", "cores": 2, "device": "cpu", "packages": {"jax": "0.10.2"}}

Add = Callable[..., Path]


@pytest.fixture
def add(tmp_path: Path) -> Add:
    """Write a run folder below ./runs whose last measurement is `value`, as a trial writes it."""

    def make(value: float | None, status: Status = Status.HORIZON_REACHED, **fields: Any) -> Path:
        spec = replace(SPEC, **fields)
        path = run_folder.prepare(tmp_path / "runs", spec, Options("w", "s"))
        with run_folder.hold(path) as folder:
            folder.append("attempt", attempt=1, resume_step=0)
            for step, metric in (400, 0.9), (800, value):
                at = Scored(2.0 * step, 3.0 * step, 1.0 * step, None)
                met = spec.target is not None and metric is not None and metric <= spec.target
                folder.append("measurement", **vars(Measurement(step, 64 * step, {"loss": metric}, at, met)))
            folder.write_result(
                Result(status, "", spec.id, steps=800, best=value, last=value, test={"loss": 0.5}, fingerprint=MACHINE)
            )
        return path

    return make


def trials(tmp_path: Path) -> list[Trial]:
    return [run_folder.read_trial(path) for path in run_folder.find_trials(tmp_path / "runs")]


def compared(tmp_path: Path, spread: float | None = 0.01) -> Comparison:
    (found,) = variants.compare(selection.select_variants(trials(tmp_path)).trials, {"mae_digits": spread})
    return found


def table(add: Add) -> None:
    """AdamW and Muon on the workload itself and on two variants: 3 spreads of 0.01 ahead, then 4.5, then 1 behind."""
    for variant, adamw, muon in (("unchanged", 0.40, 0.37), ("wide", 0.39, 0.345), ("norm", 0.50, 0.51)):
        add(adamw, variant=variant)
        add(muon, variant=variant, submission="muon")


def test_gaps_are_leads_in_spreads_and_moves_their_differences(add, tmp_path):
    table(add)
    found = compared(tmp_path)
    assert found.variants == ("unchanged", "wide", "norm")
    assert list(found.finals) == ["adamw", "muon"]
    assert [found.gap("muon", v) for v in found.variants] == pytest.approx([3.0, 4.5, -1.0])
    assert [found.move("muon", v) for v in found.variants] == pytest.approx([0.0, 1.5, -4.0])
    assert [found.gap("adamw", v) for v in found.variants] == [0.0] * 3


def test_a_larger_metric_that_is_better_is_a_lead_too(add, tmp_path):
    for submission, value in ("adamw", 0.40), ("muon", 0.37):
        add(value, submission=submission, mode="max")
    assert compared(tmp_path).gap("muon", "unchanged") == pytest.approx(-3.0)


def test_of_several_seeds_the_median_counts(add, tmp_path):
    for study, value in enumerate((0.40, 0.42, 0.50)):
        add(value, study=study, studies=3)
        add(value - 0.02, study=study, studies=3, submission="muon")
    found = compared(tmp_path)
    assert found.finals["muon"]["unchanged"].value == pytest.approx(0.40)
    assert (found.seeds, found.gap("muon", "unchanged")) == ((3, 3), pytest.approx(2.0))


def test_the_error_of_a_move_follows_from_the_seeds_that_ran(add, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("harness.report.variants._spread", lambda workload: 0.01)
    for variant, of_both in ("unchanged", (0.40, 0.42)), ("wide", (0.30, 0.34)):
        for study, value in enumerate(of_both):
            add(value, study=study, studies=2, variant=variant)
            add(value, study=study, studies=2, variant=variant, submission="muon")
    # Standard errors 0.01 and 0.02 of each submission: sqrt(2 (1 + 4)) spreads.
    assert compared(tmp_path).move_error("muon", "wide") == pytest.approx(10**0.5)
    assert compared(tmp_path).move_error("muon", "unchanged") is None
    add(0.45, study=2, studies=3, variant="wide")
    three = compared(tmp_path).finals["adamw"]["wide"]
    assert three.error == pytest.approx((math.pi / 2) ** 0.5 * statistics.stdev((0.30, 0.34, 0.45)) / 3**0.5)
    add(0.45, submission="lamb")
    add(0.45, submission="lamb", variant="wide")
    assert compared(tmp_path).move_error("lamb", "wide") is None, "one seed"
    print_variants(trials(tmp_path))
    out = capsys.readouterr().out
    assert "1 to 3 seeds, medians" in out
    assert "±" not in next(line for line in out.splitlines() if line.startswith("mae_digits  lamb"))
    assert "±" in next(line for line in out.splitlines() if line.startswith("mae_digits  muon"))


def test_a_run_that_did_not_reach_the_end_has_no_final_metric_and_says_why(add, tmp_path):
    table(add)
    add(None, Status.DIVERGED, submission="lamb")
    add(0.38, Status.STOPPED, submission="lamb", variant="wide")
    add(None, submission="lamb", variant="norm")
    add(0.40, study=0, submission="apollo", variant="norm")
    add(0.40, Status.DIVERGED, study=1, submission="apollo", variant="norm")
    found = compared(tmp_path)
    told = {variant: (final.value, final.why) for variant, final in found.finals["lamb"].items()}
    assert told == {"unchanged": (None, "diverged"), "wide": (None, "stopped"), "norm": (None, "no finite loss")}
    assert found.finals["apollo"]["norm"].why == "1 of 2: diverged", "the seeds that are left are not the median"
    assert [found.move("lamb", v) for v in found.variants] == [None] * 3
    assert found.move("apollo", "wide") is None


def test_without_a_recorded_spread_gaps_are_in_units_of_the_metric(add, tmp_path, capsys):
    table(add)
    assert compared(tmp_path, spread=None).gap("muon", "wide") == pytest.approx(0.045)
    for trial in trials(tmp_path):
        run_folder.prepare(tmp_path / "others", replace(trial.spec, workload="gone"), Options("w", "s"))
        (tmp_path / "others" / replace(trial.spec, workload="gone").folder / "result.json").write_bytes(
            (trial.path / "result.json").read_bytes()
        )
    print_variants([run_folder.read_trial(path) for path in run_folder.find_trials(tmp_path / "others")])
    out = capsys.readouterr().out
    assert "gone: loss after 800 steps, 1 seed; no spread is known: gaps in loss" in out
    assert "0.3450 (+0.0450)" in out
    assert "the unit is" not in out


def test_smoke_tests_small_workloads_and_scored_runs_are_no_part_of_it(add, tmp_path):
    table(add)
    add(0.1, max_steps=7, submission="smoke")
    add(0.1, variant="small", submission="small")
    add(0.1, variant=None, submission="scored")
    add(0.1, tuning=True, submission="tuning")
    assert list(compared(tmp_path).finals) == ["adamw", "muon"]


def test_what_cannot_be_compared_is_refused_and_the_newest_counts(add, tmp_path):
    table(add)
    newer = add(0.2, submission="muon", hyperparameters={"lr": 0.3})
    run_folder.ask_again(newer)
    chosen = selection.select_variants(trials(tmp_path))
    assert len(chosen.trials) == 6
    assert compared(tmp_path).finals["muon"]["unchanged"].value == 0.2
    (note,) = chosen.notes
    assert "ran with lr=0.1 earlier" in note
    assert "`harness score --variants " in note
    add(0.3, submission="other", step_hint=1600)
    with pytest.raises(RunFolderError, match=r"step_hint of mae_digits\+unchanged is (800|1600)"):
        compared(tmp_path)


def test_no_score_and_no_board_holds_a_variant(add, tmp_path):
    scored = {"target": 0.45, "variant": None, "workload_version": 1, "reference_step_s": 0.01, "stop": "target"}
    add(0.40, Status.TARGET_REACHED, **scored)
    before = leaderboard.add([tmp_path / "runs"], tmp_path / "before", "demo")
    table(add)
    for variant in variants.KNOWN:
        add(0.1, variant=variant, submission="held_out_only")
    assert [t.spec.variant for t in selection.select(trials(tmp_path)).trials] == [None]
    after = leaderboard.add([tmp_path / "runs"], tmp_path / "after", "demo")
    assert [file.read_bytes() for file in after] == [file.read_bytes() for file in before]
    assert [(t.spec.submission, t.spec.variant) for t in published.read(after[0])] == [("adamw", None)]


def test_a_schedule_that_is_longer_than_the_run_is_told(add, tmp_path, capsys):
    add(0.40, hyperparameters={"lr": 0.1, "horizon": 1.5})
    add(0.39, hyperparameters={"lr": 0.1, "horizon": 0.8}, submission="muon")
    assert compared(tmp_path).unfinished == {"adamw": 1.5}
    print_variants(trials(tmp_path))
    assert "longer schedules have not decayed: those of adamw (1.5 times)" in capsys.readouterr().out


@pytest.fixture
def desk(add, tmp_path, monkeypatch) -> Path:
    table(add)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.report.variants._spread", lambda workload: 0.01)
    return tmp_path


def test_the_table(desk, capsys):
    assert cli.main(["score", "--variants"]) == 0
    assert (
        capsys.readouterr().out
        == """\
held-out variants: final metrics and, in brackets, the gap to adamw (+ is better)

mae_digits: loss after 800 steps, 1 seed; a gap of 1 is 0.01
submission      unchanged           wide           norm
adamw              0.4000         0.3900         0.5000
muon        0.3700 (+3.0)  0.3450 (+4.5)  0.5100 (-1.0)

how the gap moves: that on the variant less that on the workload itself
workload    submission  wide  norm
mae_digits  muon        +1.5  -4.0

the unit is the seeds' spread: the standard deviation of the baseline's final metric in the runs that set the target
a move is made of four runs, and one seed does not tell how sure it is: if seeds vary as the unit says, ±2; \
studies=3 runs three
unchanged: the workload itself, to the end of its horizon; wide: half as wide again; norm: another normalisation
held-out variants are not in the score
"""
    )


def test_the_json(desk, capsys):
    assert cli.main(["score", "--variants", "--json", "runs"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["reference"]) == (1, "adamw")
    assert set(found["variants"]) == {"unchanged", *variants.KNOWN}
    task = found["workloads"]["mae_digits"]
    assert (task["metric"], task["mode"], task["steps"], task["spread"]) == ("loss", "min", 800, 0.01)
    wide = task["finals"]["muon"]["wide"]
    assert (wide["value"], wide["seeds"], wide["why"]) == (0.345, 1, "")
    assert (wide["gap"], wide["move"]) == (pytest.approx(4.5), pytest.approx(1.5))


def test_where_no_variant_was_run_it_says_how(add, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    add(0.4, variant=None)
    assert cli.main(["score", "--variants"]) == 2
    assert "`harness run NAME variant=all` makes some" in capsys.readouterr().err
