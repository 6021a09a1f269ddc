"""Records that would make a score better than it is: each is refused, told beside the table, or changes nothing.

What is forged in depth, `harness verify` finds. Elsewhere stand: a time of 0, a hit on the wrong side, a deleted study,
another machine, mixed hyperparameters, older sources (`tests/unit/scoring/test_score.py`).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import SubmissionError
from harness.program.discovery import Folder
from harness.program.submission import MAX_YAML_BYTES, read_info
from harness.record.readings import Calibration
from harness.record.result import Result, Status
from harness.record.run_folder import Trial
from harness.record.spec import TrialSpec
from harness.scoring import score, speeds

SPEC = TrialSpec(
    schema=1, workload="w", workload_version=1, workload_hash="a", metric="loss", mode="min", target=0.5, step_hint=600,
    batch_size=32, budget_steps=1000, reference_step_s=0.01, submission="mine", submission_hash="s",
    hyperparameters={"lr": 0.1}, rules="tuned", stop="target", clock="calibrated", score_compile=False,
    compile_cap_s=60.0, free_batch_size=True, study=0, trial=0, seed=7, tuning=False, device="cpu", deterministic=True,
    workload_program="p1", program="p2",
)  # fmt: skip


def record(study: int, ratio: float, steps: int = 100, *, hit: bool = True, **changes: object) -> Trial:
    """A trial of so many steps, each worth `ratio` steps of the yardstick; a hit at the last."""
    spec = replace(SPEC, study=study, **changes)
    held = Calibration(
        baseline_step_s=0.01, baseline_step_cpu_s=0.02, step_ratio={32: ratio}, eval_variables_ratio=0.0, pairs=9,
        process=f"p{study}.{spec.trial}", steps={32: steps},
    )  # fmt: skip
    clocks = {"wall": 3.0 * steps, "cpu": 3.0, "calibrated": ratio * steps * 0.01, "energy": None}
    event = {"event": "measurement", "step": steps, "metrics": {"loss": 0.4}, "scored": clocks, "met": hit}
    status = Status.TARGET_REACHED if hit else Status.BUDGET_EXHAUSTED
    result = Result(status, "", spec.id, calibration=held)
    return Trial(Path("runs") / spec.folder, spec, status, "", [event], result)


def time_of(*trials: Trial) -> tuple[float, tuple[str, ...]]:
    """Return the time of `mine`, and the notes."""
    found = score.score(trials)
    return found.times["calibrated"]["mine"]["w"], found.notes


# ---- the speed of a program, pooled ----


def test_seeds_that_are_given_up_make_no_other_cheaper():
    """Three studies of seven take steps that cost nothing and miss; the mean of all would halve the others' time."""
    dear, cheap = [record(k, 2.0) for k in range(4)], [record(k, 0.01, hit=False) for k in range(4, 7)]
    honest, _ = time_of(*dear)
    assert honest == pytest.approx(2.0)
    cheated, notes = time_of(*dear, *cheap)
    assert cheated == pytest.approx(honest / speeds.SLOWEST)
    assert "steps that cost 10% more in some process than in the mean, and are charged: mine on w" in notes


def test_points_that_are_given_up_make_no_other_cheaper():
    """A hyperparameter that is an argument decides how much a step works, so that all points have one program."""
    trials = [record(k, 2.0 if t == 0 else 0.01, hit=t == 0, trial=t) for k in range(3) for t in range(5)]
    trials = [replace(t, spec=replace(t.spec, hyperparameters={"lr": float(t.spec.trial)})) for t in trials]
    cheated, notes = time_of(*trials)
    assert cheated == pytest.approx(2.0 / speeds.SLOWEST)
    assert any("and are charged: mine on w" in note for note in notes)


# ---- which trials count ----


def test_seeds_of_one_s_own_are_told():
    mine = [record(k, 1.0, seed=4711) for k in range(3)]
    others = [record(k, 1.1, submission="adamw", program="p3") for k in range(3)]
    _, notes = time_of(*mine, *others)
    assert "different seeds, which may have been chosen for what came of them: 7 by adamw; 4711 by mine" in notes
    _, notes = time_of(*mine)
    assert not any("different seeds" in note for note in notes)


def test_a_seed_that_was_tried_before_is_told(tmp_path):
    """Of several runs of a study the newest counts; the others are named as long as they are there."""
    trials = [record(0, 2.0, seed=1), record(0, 1.0, seed=2)]
    _, notes = time_of(*trials)
    assert any("under seed=" in note and "are scored" in note for note in notes)


def test_a_program_for_each_seed_is_told():
    """It exports another program each time, and each study keeps the one that did best there."""
    trials = [record(k, 1.0, program=f"p{k}") for k in range(3)]
    _, notes = time_of(*trials)
    assert any(note.startswith("the trials of mine on w ran different programs at one point") for note in notes)
    _, notes = time_of(*(record(k, 1.0) for k in range(3)))
    assert not any("different programs" in note for note in notes)


# ---- what was edited ----


def test_the_time_that_a_result_claims_is_not_read(tmp_path):
    """The log decides; what `result.json` says of time, steps and metrics beside it changes no score."""
    one = record(0, 1.0)
    assert one.result is not None
    claimed = replace(one.result, steps_to_target=1, best=0.0, last=0.0, wall_s=0.001, train_step_s=1e-9, steps=1)
    assert time_of(replace(one, result=claimed))[0] == time_of(one)[0]
    slower = replace(one.result, calibration=replace(one.result.calibration, step_ratio={32: 9.0}))
    edited, _ = time_of(replace(one, result=slower), record(1, 1.0), record(2, 1.0))
    assert edited >= time_of(one)[0] / speeds.SLOWEST, "a step ratio in it moves the time by that much at most"


def test_the_order_of_trials_and_of_files_changes_nothing():
    trials = [record(k, 1.0 + 0.01 * k, steps=100 + 10 * k) for k in range(5)]
    assert time_of(*trials) == time_of(*reversed(trials))


# ---- names and metadata ----


@pytest.mark.parametrize("name", ["\u0430damw", "adamw\u200b", "a|b", "x\x1b[2K", "mine\nadamw", "[b]mine", "a b"])
def test_a_name_that_a_table_cannot_tell_from_another_is_refused(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    meta = {"name": name, "description": "d", "authors": ["a"], "licence": "MIT", "tuning": "self", "defaults": {}}
    (folder / "submission.yaml").write_text(json.dumps(meta))
    with pytest.raises(SubmissionError, match="a submission's name is of letters of ASCII") as caught:
        read_info(Folder("submissions", name, folder))
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()


def test_metadata_that_grow_are_refused_in_a_few_words(tmp_path):
    """YAML's aliases: nine lists of nine of the one before."""
    folder = tmp_path / "bomb"
    folder.mkdir()
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    (folder / "submission.yaml").write_text("\n".join([*lines, "name: bomb", "authors: *a8", "defaults: {lr: *a8}"]))
    with pytest.raises(SubmissionError) as caught:
        read_info(Folder("submissions", "bomb", folder))
    assert len(str(caught.value)) < 10_000
    (folder / "submission.yaml").write_bytes(b"# \n" * MAX_YAML_BYTES)
    with pytest.raises(SubmissionError, match=f"at most {MAX_YAML_BYTES} are metadata"):
        read_info(Folder("submissions", "bomb", folder))
