"""AlgoPerf's logs: a tree made by hand, what is refused, and the published sets where they are at hand."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main as cli
from harness.errors import ConfigError, RunFolderError
from harness.scoring import algoperf, score
from harness.scoring.algoperf_targets import Targets, read_targets
from harness.scoring.score import Scores

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = Path(os.environ.get("ALGOPERF_LOGS", ROOT.parent / "shared" / "algoperf"))

CONFIG: dict[str, Any] = {
    "benchmark_version": "0.5",
    "base_workloads": ["ogbg", "wmt"],
    "held_out_workloads": ["ogbg_gelu"],
    "workloads": {
        "ogbg": {"target_metric_name": "mean_average_precision", "validation_target_value": 0.3, "step_hint": 100},
        "ogbg_gelu": {"target_metric_name": "mean_average_precision", "validation_target_value": 0.2, "step_hint": 100},
        "wmt": {"target_metric_name": "loss", "validation_target_value": 2.0, "step_hint": 100},
        "mnist": {"target_metric_name": "accuracy", "validation_target_value": 0.9, "step_hint": 100},
    },
}
METRIC = {"ogbg": "mean_average_precision", "ogbg_gelu": "mean_average_precision", "wmt": "loss"}


def targets(path: Path, **changes: Any) -> Targets:
    file = path / "targets.json"
    file.write_text(json.dumps(CONFIG | changes))
    return read_targets(file)


def log(folder: Path, workload: str, rows: list[tuple[Any, ...]], metric: str | None = None) -> Path:
    """Write a trial's CSV: rows of score and metric; the step is ten times the score."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"accumulated_submission_time,global_step,score,train/loss,validation/{metric or METRIC[workload]}"]
    lines += [f"{t},{10 * t if t != '' else ''},{t},,{value}" for t, value in rows]
    (folder / "eval_measurements.csv").write_text("\n".join(lines) + "\n")
    return folder / "eval_measurements.csv"


def tree(root: Path, submission: str, times: dict[str, list[list[float | None]]], framework: str = "jax") -> None:
    """Write a log for each trial: `times[workload][study][trial]` is when the target is met, None for never."""
    good, bad = {"ogbg": 0.3, "ogbg_gelu": 0.25, "wmt": 1.9}, {"ogbg": 0.1, "ogbg_gelu": 0.1, "wmt": 3.0}
    for workload, studies in times.items():
        for i, trials in enumerate(studies):
            for j, t in enumerate(trials, 1):
                rows: list[tuple[Any, ...]] = [(1.0, bad[workload])]
                rows += [(90.0, bad[workload])] if t is None else [(t, good[workload]), (t + 9, bad[workload])]
                log(root / submission / f"study_{i}" / f"{workload}_{framework}" / f"trial_{j}", workload, rows)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Two submissions, five studies of up to two trials: a is the faster on ogbg, b on wmt."""
    root = tmp_path / "set"
    tree(
        root, "a", {"ogbg": [[10, 12], [8, None], [14, 9], [None, 20], [11]], "ogbg_gelu": [[5]] * 5, "wmt": [[20]] * 5}
    )
    tree(root, "b", {"ogbg": [[20]] * 5, "ogbg_gelu": [[6]] * 5, "wmt": [[10]] * 5}, framework="pytorch")
    return root


def scored(
    path: Path, where: Path, *, compat: bool = False, targets_file: Targets | None = None, **options: Any
) -> Scores:
    known = targets_file or targets(where)
    return score.score_logs(algoperf.read_logs(path, known), known, compat=compat, **options)


# ---- the rules, by hand


def test_scores_by_hand(logs: Path, tmp_path: Path) -> None:
    found = scored(logs, tmp_path, self_tuning=True)
    assert found.times["wall"] == {
        "a": {"ogbg": 10.0, "ogbg_gelu": 5.0, "wmt": 20.0},  # the smallest of each study: 10, 8, 9, 20, 11
        "b": {"ogbg": 20.0, "ogbg_gelu": 6.0, "wmt": 10.0},
    }
    assert found.times["steps"]["a"]["ogbg"] == 100.0
    assert found.scores == {"a": pytest.approx((1 + 2 / 3) / 2), "b": pytest.approx((2 / 3 + 1) / 2)}
    assert found.ranking is not None
    assert found.ranking.score["a"].range is not None
    assert found.ranking.workloads == ("ogbg", "wmt")
    assert found.status("a", "ogbg") == "target_reached"


def test_the_number_of_the_evaluation_decides_in_compat(tmp_path: Path) -> None:
    # Trial 1 meets the target at its second evaluation, after 50 s; trial 2 at its third, after 30 s.
    at = tmp_path / "set" / "a" / "study_0" / "wmt_jax"
    log(at / "trial_1", "wmt", [(1.0, 3.0), (50.0, 1.9)])
    log(at / "trial_2", "wmt", [(1.0, 3.0), (20.0, 3.0), (30.0, 1.9)])
    log(at / "trial_3", "wmt", [(1.0, 3.0), (60.0, 1.9)])  # as early as trial 1, and slower
    known = targets(tmp_path, base_workloads=["wmt"], held_out_workloads=[])
    assert scored(tmp_path / "set", tmp_path, targets_file=known).times["wall"] == {"a": {"wmt": 30.0}}
    compat = scored(tmp_path / "set", tmp_path, targets_file=known, compat=True)
    assert compat.times["wall"] == {"a": {"wmt": 50.0}}
    assert compat.rules == "AlgoPerf 0.5, external tuning, arithmetic of its code"


def test_the_grid_is_compats_alone(logs: Path, tmp_path: Path) -> None:
    exact, grid = scored(logs, tmp_path), scored(logs, tmp_path, compat=True)
    # r = 2 is grid point 33: 66.5 cells of 99 remain, and not 66.
    assert grid.scores["a"] == pytest.approx((1 + 66.5 / 99) / 2)
    assert exact.scores["a"] == pytest.approx((1 + 66 / 99) / 2)


def test_a_variant_that_was_missed_takes_its_workload_away(logs: Path, tmp_path: Path) -> None:
    tree(logs, "a", {"ogbg_gelu": [[None]] * 3})
    assert scored(logs, tmp_path).scores == {"a": pytest.approx(1 / 3), "b": 1.0}
    for study in range(5):
        (logs / f"a/study_{study}/ogbg_gelu_jax/trial_1/eval_measurements.csv").unlink()
    found = scored(logs, tmp_path)
    assert found.scores == {"a": pytest.approx(1 / 3), "b": 1.0}
    assert "missing: a on ogbg_gelu: all 25 trials" in found.notes


def test_studies_that_are_missing_are_left_out_of_the_median(logs: Path, tmp_path: Path) -> None:
    for study in (0, 1):
        (logs / f"a/study_{study}/ogbg_jax/trial_1/eval_measurements.csv").unlink()
        (logs / f"a/study_{study}/ogbg_jax/trial_2/eval_measurements.csv").unlink()
    found = scored(logs, tmp_path, self_tuning=True)
    assert found.times["wall"]["a"]["ogbg"] == 11.0  # of 9, 20, 11
    assert "missing: a on ogbg: 2 of 5 trials (study 0, 1 of 5)" in found.notes
    assert "not all have the same number of studies: from 3 to 5" in found.notes


def test_blank_cells_are_no_numbers(tmp_path: Path) -> None:
    at = tmp_path / "set" / "a" / "study_0" / "wmt_jax"
    log(at / "trial_1", "wmt", [(1.0, ""), ("", 3.0), (20.0, "nan"), (25.0, "-inf"), (30.0, 1.9), (40.0, "")])
    known = targets(tmp_path, base_workloads=["wmt"], held_out_workloads=[])
    assert scored(tmp_path / "set", tmp_path, targets_file=known).times["wall"] == {"a": {"wmt": 30.0}}


def test_strays_and_other_files_do_not_count(logs: Path, tmp_path: Path) -> None:
    log(logs / "a" / "study_0" / "trial_1", "wmt", [(0.1, 0.1)])  # a level too high, as in v0.5's logs
    log(logs / "a" / "study_0" / "wmt_jax" / "trial_1" / "attempt_2", "wmt", [(0.1, 0.1)])
    log(logs / "a" / "study_0" / "wmt_jax" / "trial_1" / "checkpoint_100", "wmt", [(0.1, 0.1)])
    log(logs / "a" / "study_0" / "wmt_jax" / "plots", "wmt", [(0.1, 0.1)])
    log(logs / "a" / "old" / "wmt_jax" / "trial_1", "wmt", [(0.1, 0.1)])
    log(logs / "a" / "study_0" / "plots" / "trial_1", "wmt", [(0.1, 0.1)])
    log(logs, "wmt", [(0.1, 0.1)])
    (logs / "a" / "study_0" / "wmt_jax" / "trial_1" / "measurements.csv").write_text("not,this\none")
    log(logs / "a" / "study_0" / "mnist_jax" / "trial_1", "wmt", [(0.1, 0.1)], metric="accuracy")
    found = scored(logs, tmp_path)
    assert found.times["wall"]["a"]["wmt"] == 20.0
    assert any("CSV files that are in no trial's place" in n and "and 6 more" in n for n in found.notes)
    assert any("trials of mnist, which the targets file does not score" in note for note in found.notes)


def test_a_workload_may_lack_its_framework(logs: Path, tmp_path: Path) -> None:
    for study in range(5):
        (logs / f"a/study_{study}/wmt_jax").rename(logs / f"a/study_{study}/wmt")
    assert scored(logs, tmp_path).times["wall"]["a"]["wmt"] == 20.0


def test_a_tar_file_is_read_like_the_folder(logs: Path, tmp_path: Path) -> None:
    for name, mode in ("logs.tar.gz", "w:gz"), ("logs.tar", "w"):
        with tarfile.open(tmp_path / name, mode) as archive:
            archive.add(logs, "some/prefix/set")
        assert scored(tmp_path / name, tmp_path).times == scored(logs, tmp_path).times


def test_logs_may_be_ranked_by_steps_and_by_no_other_clock(logs: Path, tmp_path: Path) -> None:
    found = scored(logs, tmp_path, clock="steps")
    assert (found.clock, found.unit) == ("steps", "training steps")
    assert found.times["steps"]["b"]["wmt"] == 100.0
    with pytest.raises(ConfigError, match="AlgoPerf's logs have no energy clock"):
        scored(logs, tmp_path, clock="energy")


# ---- what is refused, or told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "global_step,score,validation/loss\n1,2,3\n4,five,6\n7,8,9\n",
            r"trial_1/eval_.*csv, row 3: could not convert.*'five'",
        ),
        ("global_step,score,validation/loss\n1,2\n4,5,6\n", r"row 2: expected 3 cells, got 2"),
        ("global_step,score,validation/loss\n1,2,3,4\n4,5,6\n", r"row 2: expected 3 cells, got 4"),
        ("global_step,validation/loss\n1,2\n", r"expected the column 'score', got global_step, validation/loss"),
        ("global_step,score,validation/accuracy\n1,2,3\n", r"no trial of wmt has the column validation/loss"),
        ("global_step,score,validation/loss\n1,2,3\n4,,1\n", r"row 3: the target is met and score is nan"),
        ("global_step,score,validation/loss\n1,2,1\n2,3,x\n4,5,6\n", r"row 3: could not convert"),  # after the hit
        (
            "global_step,score,validation/loss\n1,-2,1\n",
            r"row 2: the target is met and score is -2.0; expected seconds",
        ),
    ],
)
def test_a_garbled_csv_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "set" / "a" / "study_0" / "wmt_jax" / "trial_1"
    path.mkdir(parents=True)
    (path / "eval_measurements.csv").write_text(content)
    known = targets(tmp_path, base_workloads=["wmt"], held_out_workloads=[])
    with pytest.raises(RunFolderError, match=message):
        scored(tmp_path / "set", tmp_path, targets_file=known)


def test_bytes_that_are_no_text_are_named(logs: Path, tmp_path: Path) -> None:
    file = logs / "a" / "study_0" / "wmt_jax" / "trial_1" / "eval_measurements.csv"
    file.write_bytes(b"\x1f\x8b\xff")
    with pytest.raises(RunFolderError, match=r"wmt_jax/trial_1/eval_measurements.csv is no CSV file"):
        scored(logs, tmp_path)


@pytest.mark.parametrize(
    ("last", "note", "time"),
    [
        ("30.0,300,3", "trials whose last row is cut off, left out", 50.0),
        ("30.0,300,30.0,,1.9", "trials whose last row has no end and may be cut", 30.0),
        ("30.0,300,30.0,,1.9\n", None, 30.0),
    ],
)
def test_a_log_that_is_cut_off_is_told(tmp_path: Path, last: str, note: str | None, time: float) -> None:
    at = tmp_path / "set" / "a" / "study_0" / "wmt_jax"
    log(at / "trial_1", "wmt", [(1.0, 3.0), (50.0, 1.9)])
    file = log(at / "trial_2", "wmt", [(1.0, 3.0)])
    file.write_text(file.read_text() + last)
    known = targets(tmp_path, base_workloads=["wmt"], held_out_workloads=[])
    found = scored(tmp_path / "set", tmp_path, targets_file=known)
    assert found.times["wall"]["a"]["wmt"] == time
    assert (
        any(note in n and "trial_2" in n for n in found.notes)
        if note
        else not any("last row" in n for n in found.notes)
    )


def test_a_trial_without_a_measurement_is_a_miss_and_told(logs: Path, tmp_path: Path) -> None:
    for study in range(3):
        file = logs / "a" / f"study_{study}" / "wmt_jax" / "trial_1" / "eval_measurements.csv"
        file.write_text("" if study else "global_step,score,validation/loss\n")
    found = scored(logs, tmp_path)
    assert found.times["wall"]["a"]["wmt"] is None
    assert any(
        "trials without a measurement, counted as missed: a/study_0" in n and "and 2 more" in n for n in found.notes
    )


def test_a_trial_without_the_metric_is_a_miss_and_told(logs: Path, tmp_path: Path) -> None:
    log(logs / "a" / "study_0" / "wmt_jax" / "trial_1", "wmt", [(1.0, 0.1)], metric="accuracy")
    found = scored(logs, tmp_path)
    assert any("without the column validation/loss, counted as missed: a/study_0/wmt_jax" in n for n in found.notes)


def test_what_looks_wrong_is_told(tmp_path: Path) -> None:
    at = tmp_path / "set" / "a" / "study_0" / "wmt_jax"
    log(at / "trial_1", "wmt", [(5.0, 1.0)])
    log(at / "trial_2", "wmt", [(5.0, 3.0), (4.0, 3.0), (3.0, 3.0)])
    known = targets(tmp_path, base_workloads=["wmt"], held_out_workloads=[])
    notes = scored(tmp_path / "set", tmp_path, targets_file=known).notes
    assert any("meet the target at their first evaluation: is the metric's direction right?" in n for n in notes)
    assert any("submission time goes backwards: a/study_0/wmt_jax/trial_2" in n for n in notes)
    assert any("one submission" in n for n in notes)


def test_several_folders_of_a_trial(logs: Path, tmp_path: Path) -> None:
    place = logs / "b" / "study_0" / "wmt_pytorch"
    shutil.copytree(place / "trial_1", place / "trial_1_copy")
    found = scored(logs, tmp_path)
    assert any("copies of another trial, counted once: b/study_0/wmt_pytorch/trial_1_copy" in n for n in found.notes)
    log(place / "trial_1_again", "wmt", [(1.0, 3.0), (5.0, 1.9)])
    found = scored(logs, tmp_path)
    assert any("further folders of a trial that has one" in n and "trial_1_again" in n for n in found.notes)
    assert found.cells["b"]["wmt"][0].times["wall"] == 5.0


def test_a_submission_is_in_one_framework(logs: Path, tmp_path: Path) -> None:
    tree(logs, "b", {"wmt": [[10]]}, framework="jax")
    with pytest.raises(RunFolderError, match=r"b has wmt in two frameworks, b/.*wmt_jax/.* and b/.*wmt_pytorch/"):
        scored(logs, tmp_path)


def test_a_file_that_is_twice_in_a_tar(logs: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "logs.tar", "w") as archive:
        archive.add(logs, "set")
        member = tarfile.TarInfo("set/a/study_0/wmt_jax/trial_1/eval_measurements.csv")
        content = b"score,validation/loss\n5.0,1.0\n"
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    assert any("further folders of a trial" in note for note in scored(tmp_path / "logs.tar", tmp_path).notes)


def test_unknown_workload_in_the_logs(logs: Path, tmp_path: Path) -> None:
    log(logs / "a" / "study_0" / "wtm_jax" / "trial_1", "wmt", [(5.0, 1.0)])
    with pytest.raises(
        RunFolderError, match=r"a/study_0/wtm_jax/.*: workload 'wtm' is not in .*targets.json; did you mean 'wmt'"
    ):
        scored(logs, tmp_path)


def test_two_sets_are_not_scored_together(logs: Path, tmp_path: Path) -> None:
    tree(tmp_path / "other", "c", {"wmt": [[1]]})
    with pytest.raises(RunFolderError, match=r"holds several sets of logs, 'other' .* and 'set'"):
        scored(tmp_path, tmp_path)


def test_no_logs(tmp_path: Path) -> None:
    with pytest.raises(
        RunFolderError, match=r"no AlgoPerf trials in .*: expected SUBMISSION/study_0/WORKLOAD_jax/trial_1"
    ):
        scored(tmp_path, tmp_path)
    with pytest.raises(RunFolderError, match=r"no logs at .*nowhere; expected a folder or a tar file"):
        scored(tmp_path / "nowhere", tmp_path)
    (tmp_path / "cut.tar.gz").write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(RunFolderError, match=r"cut.tar.gz cannot be read as a tar file: .*; is it whole"):
        scored(tmp_path / "cut.tar.gz", tmp_path)


def test_a_tar_file_cut_in_the_middle(logs: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "logs.tar.gz", "w:gz") as archive:
        archive.add(logs, "set")
    whole = (tmp_path / "logs.tar.gz").read_bytes()
    (tmp_path / "logs.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunFolderError, match="cannot be read as a tar file"):
        scored(tmp_path / "logs.tar.gz", tmp_path)


# ---- the targets file


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"base_workloads": ["ogbg", "wtm"]},
            r"'wtm' is to be scored and has no entry in `workloads`; did you mean 'wmt'",
        ),
        ({"held_out_workloads": ["mnist"]}, r"held-out workload 'mnist' belongs to no base workload"),
        ({"base_workloads": []}, r"base_workloads must name at least one workload"),
        ({"base_workloads": ["ogbg", "ogbg"]}, r"none twice"),
        ({"base_workloads": "ogbg"}, r"expected the field 'base_workloads' to be a list, got 'ogbg'"),
        ({"benchmark_version": 0.5}, r"expected the field 'benchmark_version' to be a str, got 0.5"),
        (
            {"workloads": {"wmt": {"target_metric_name": "loss"}}},
            r"'wmt': .*'validation_target_value' to be a int or float",
        ),
    ],
)
def test_a_targets_file_is_checked(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        targets(tmp_path, **changes)


@pytest.mark.parametrize(
    ("metric", "goal", "outcome"),
    [
        ("loss", None, "min"), ("ppl", None, "min"), ("bleu", None, "max"), ("loss", "minimize", "min"),
        ("exact_match", "maximize", "max"), ("loss", "maximize", "the wrong direction for loss"),
        ("ssim", "minimize", "the wrong direction for ssim"), ("exact_match", None, "add .target_metric_goal."),
        ("loss", "down", "target_metric_goal is 'down'; expected one of minimize, maximize"),
    ],
)  # fmt: skip
def test_the_direction_of_a_metric(tmp_path: Path, metric: str, goal: str | None, outcome: str) -> None:
    entry = {"target_metric_name": metric, "validation_target_value": 1, "step_hint": 1}
    entry |= {} if goal is None else {"target_metric_goal": goal}
    config = {"base_workloads": ["wmt"], "held_out_workloads": [], "workloads": {"wmt": entry}}
    if outcome in ("min", "max"):
        assert targets(tmp_path, **config).known["wmt"].mode == outcome
    else:
        with pytest.raises(ConfigError, match=outcome):
            targets(tmp_path, **config)


def test_no_targets_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no targets file"):
        read_targets(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"benchmark_version": ')
    with pytest.raises(ConfigError, match=r"cut.json: not valid JSON"):
        read_targets(tmp_path / "cut.json")


def test_a_workload_nobody_ran(logs: Path, tmp_path: Path) -> None:
    known = targets(tmp_path, base_workloads=["ogbg", "wmt", "mnist"])
    with pytest.raises(ConfigError, match=r"scores mnist, and the logs have no trial there"):
        scored(logs, tmp_path, targets_file=known)
    found = scored(logs, tmp_path, targets_file=known, allow_missing=True)
    assert found.scores["a"] == pytest.approx((1 + 2 / 3) / 3)
    assert "missing: a on mnist: all 25 trials" in found.notes


# ---- as typed


def test_typed(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets(tmp_path)
    words = ["score", "--format", "algoperf", str(logs), "--targets", str(tmp_path / "targets.json")]
    assert cli.main([*words, "--json", "--self-tuning", "--baseline", "a", "--csv", str(tmp_path / "scores.csv")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"]["a"]["score"] == pytest.approx(5 / 6)
    assert found["rules"] == "AlgoPerf 0.5, self-tuning"
    assert found["held_out"] == {"ogbg_gelu": "ogbg"}
    assert (tmp_path / "scores.csv").read_text().startswith("rank,submission,score,")
    assert cli.main([*words, "--algoperf-compat"]) == 0
    out = capsys.readouterr().out
    assert "ruleset AlgoPerf 0.5, external tuning, arithmetic of its code, ranked by wall seconds" in out
    assert "0.836 (" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--format", "algoperf", "logs"],
            "expected one folder or tar file of logs and --targets FILE, got 1 of logs and no",
        ),
        (["--format", "algoperf", "--targets", "t.json"], "got 0 of logs and a targets file"),
        (["--format", "algoperf", "a", "b", "--targets", "t.json"], "got 2 of logs"),
        (["--targets", "t.json"], "--targets goes with --format algoperf"),
        (["--self-tuning"], "--self-tuning goes with --format algoperf"),
        (["--algoperf-compat"], "--algoperf-compat goes with --format algoperf"),
        (["--clock", "moon"], "invalid choice: 'moon'"),
    ],
)
def test_typed_wrong(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["score", *words]) == 2
    assert message in capsys.readouterr().err


# ---- the published sets


@pytest.fixture(scope="module", params=["v05_external", "v06_external"])
def published(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Targets, algoperf.Logs]:
    if not (PUBLISHED / "scores.json").exists():
        pytest.skip("AlgoPerf's published logs are not in ../shared/algoperf (or $ALGOPERF_LOGS)")
    expected = json.loads((PUBLISHED / "scores.json").read_text())[request.param]
    known = read_targets(PUBLISHED / expected["targets_file"])
    return expected, known, algoperf.read_logs(PUBLISHED / expected["logs_dir"], known)


def test_published_scores_by_upstreams_arithmetic(published: tuple[dict[str, Any], Targets, algoperf.Logs]) -> None:
    expected, known, logs = published
    found = score.score_logs(logs, known, compat=True)
    assert found.scores == pytest.approx(expected["upstream_scores"], abs=1e-9)
    assert found.scores == pytest.approx(expected["published_scores"], abs=1e-4)


def test_published_logs_by_the_written_rule(published: tuple[dict[str, Any], Targets, algoperf.Logs]) -> None:
    expected, known, logs = published
    found = score.score_logs(logs, known)
    assert found.scores == pytest.approx(expected["min_time_trial_analytic_scores"], abs=1e-9)
    assert found.ranking is not None
    assert all(e.interval is None and e.range is not None for e in found.ranking.score.values())


def test_which_published_ranks_are_separable(published: tuple[dict[str, Any], Targets, algoperf.Logs]) -> None:
    expected, known, logs = published
    found = score.score_logs(logs, known).ranking
    assert found is not None
    apart = sum(bool(pair.separable) for pair in found.pairs)
    if len(expected["published_scores"]) == 2:
        assert apart == 0
        return
    assert (apart, len(found.pairs)) == (15, 55)  # README.md beside the scorer has the table
    first, second = sorted(found.rank, key=lambda name: found.rank[name])[:2]
    (pair,) = (pair for pair in found.pairs if (pair.a, pair.b) == (first, second))
    assert (pair.separable, pair.test.seeds) == (False, 162)
