"""What scores look like outside: the JSON as README.md describes it, the CSV, the table with intervals and ranges."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli import main as cli
from harness.errors import RunFolderError
from harness.record import run_folder
from harness.record.result import Result, Status
from harness.record.run_folder import Trial
from harness.record.spec import TrialSpec
from harness.report import score_files, scores
from harness.scoring import score
from harness.scoring.score import Scores

README = Path(score.__file__).parent / "README.md"
SPEC = TrialSpec(
    schema=1, workload="w1", workload_version=1, workload_hash="aaaa", metric="loss", mode="min", target=0.5,
    step_hint=600, batch_size=32, budget_steps=1000, reference_step_s=0.01, submission="adamw", submission_hash="s1",
    hyperparameters={}, rules="tuned", stop="target", clock="calibrated", score_compile=False, compile_cap_s=60.0,
    free_batch_size=True, study=0, trial=0, seed=0, tuning=False, device="cpu", deterministic=True,
    workload_program="p1", program="p2",
)  # fmt: skip


def trial(submission: str, workload: str, study: int, seconds: float | None) -> Trial:
    spec = replace(SPEC, submission=submission, workload=workload, study=study)
    status = Status.BUDGET_EXHAUSTED if seconds is None else Status.TARGET_REACHED
    clocks = None if seconds is None else {"wall": 2 * seconds, "cpu": 3.0, "calibrated": seconds, "energy": None}
    hit = {"event": "measurement", "step": 200, "metrics": {"loss": 0.4}, "scored": clocks, "met": clocks is not None}
    result = Result(status, "", spec.id, test={"loss": 0.45})
    return Trial(Path("runs") / spec.folder, spec, status, "", [hit], result)


def trials(studies: int, missed: int = 0) -> list[Trial]:
    """Three submissions on two workloads; muon is twice as fast as adamw, slow misses w2 in its first studies."""
    random = np.random.default_rng(0)
    factor = {"adamw": 2.0, "muon": 1.0, "slow": 5.0}
    return [
        trial(
            name, w, i, None if name == "slow" and w == "w2" and i < missed else f * float(random.lognormal(0.0, 0.05))
        )
        for name, f in factor.items()
        for w in ("w1", "w2")
        for i in range(studies)
    ]


def printed(capsys: pytest.CaptureFixture[str], found: Scores, **options: Any) -> str:
    scores.show(found, **options)
    return capsys.readouterr().out


# ---- JSON

NUMBER = (int, float)
NULL = type(None)


def check(value: Any, form: Any, where: str) -> None:
    """Check a value against a form: types, {name: form} for fixed keys, {str: form} for any, [form] for lists."""
    if isinstance(form, dict) and str in form:
        assert isinstance(value, dict), where
        for key, part in value.items():
            check(part, form[str], f"{where}.{key}")
    elif isinstance(form, dict):
        assert set(value) == set(form), where
        for key, part in form.items():
            check(value[key], part, f"{where}.{key}")
    elif isinstance(form, list):
        assert isinstance(value, list), where
        for i, part in enumerate(value):
            check(part, form[0], f"{where}[{i}]")
    elif isinstance(form, tuple) and any(isinstance(part, dict) for part in form):
        if value is not None:
            check(value, next(part for part in form if isinstance(part, dict)), where)
    else:
        assert isinstance(value, form), f"{where}: {value!r}"


MAYBE = (int, float, NULL)
ENDS = {"low": MAYBE, "high": MAYBE}
SCORES = {str: {"score": MAYBE} | ENDS}
SPEED_UPS = {str: {"speed_up": MAYBE, "workloads": [str]} | ENDS}
TIMES = {str: {str: MAYBE}}
SCHEMA = {
    "schema": int, "rules": (str, NULL), "clock": (str, NULL), "unit": str, "workloads": [str], "ranked": [str],
    "held_out": {str: str}, "scores": SCORES, "ranges": {str: (NULL, ENDS)}, "ranks": {str: int},
    "rank_sets": {str: [int]}, "parts": {str: [{"reached": int, "share": float, "low": float, "high": float}]},
    "speeds": {str: {str: {"step_ratio": {str: float}, "processes": int, "scatter": MAYBE}}},
    "ranks_without": {str: {str: int}}, "time_to_target": TIMES, "time_intervals": {str: {str: (NULL, ENDS)}},
    "ratios": {str: {str: {"ratio": MAYBE} | ENDS}}, "mean_ratios": {str: {"ratio": MAYBE} | ENDS},
    "speed_ups": SPEED_UPS, "studies": {str: {str: [MAYBE]}}, "steps_to_target": TIMES, "status": {str: {str: str}},
    "clocks": {str: {"scores": SCORES, "ranks": {str: int}, "speed_ups": SPEED_UPS, "time_to_target": TIMES}},
    "pairs": [
        {"a": str, "b": str, "ratio": MAYBE, "range": (NULL, ENDS), "win_probability": float, "difference": float,
         "error": MAYBE, "p": MAYBE, "p_holm": MAYBE, "separable": (bool, NULL), "faster": (str, NULL),
         "seeds": (int, NULL)} | ENDS
    ],
    "tuning": [
        {"submission": str, "workload": str, "metric": str, "unit": str, "winner": int, "why": str,
         "compared": [{"trial": int, "hyperparameters": {str: object}, "status": str, "steps": [MAYBE],
                       "costs": [MAYBE], "best": MAYBE}]}
    ],
    "looks": {str: int},
    "verdicts": [
        {"submission": str, "workload": str, "metric": str, "target": NUMBER, "runs": int, "expected": int,
         "steps": int, "mean": MAYBE, "sd": MAYBE, "p": MAYBE, "met": (bool, NULL), "time": MAYBE, "why": str}
    ],
    "missing": [
        {"submission": str, "workload": str, "studies": [int], "trials": int, "studies_expected": int,
         "trials_expected": int}
    ],
    "method": {"r_max": NUMBER, "interval": float, "draws": int, "least_studies": int, "seed": int, "alpha": float,
               "power": float},
    "notes": [str],
}  # fmt: skip


@pytest.mark.parametrize(("studies", "missed"), [(1, 0), (3, 1), (6, 0), (7, 2), (7, 7)])
def test_json_has_its_form(studies: int, missed: int) -> None:
    found = score.score(trials(studies, missed)[:-1] if studies > 1 else trials(1), baseline="adamw")
    data = json.loads(json.dumps(score_files.as_json(found), allow_nan=False))
    check(data, SCHEMA, "scores.json")
    assert bool(data["missing"]) == (studies > 1)


def test_json_without_a_score_has_its_form() -> None:
    check(score_files.as_json(Scores(notes=("nothing",))), SCHEMA, "scores.json")
    toys = score.score(trials(3), unscored={"w1", "w2"})
    data = score_files.as_json(toys)
    check(data, SCHEMA, "scores.json")
    assert data["scores"]["muon"] == {"score": None, "low": None, "high": None}


def test_readme_describes_the_json() -> None:
    part = README.read_text().split("## JSON")[1].split("## How fast")[0]
    rows = [line.split("|")[1:3] for line in part.splitlines() if line.startswith("| `")]
    described = {key for cell, _ in rows for key in re.findall(r"`(\w+)`", cell)}
    assert described == set(SCHEMA)
    (pairs,) = (text for cell, text in rows if "`pairs`" in cell)
    assert set(re.findall(r'"(\w+)"', pairs)) == set(SCHEMA["pairs"][0])
    (method,) = (text for cell, text in rows if "`method`" in cell)
    assert set(re.findall(r"`(\w+)`", method)) == set(SCHEMA["method"])


def test_json_of_one_study() -> None:
    data = score_files.as_json(score.score(trials(1)))
    assert data["scores"]["muon"] == {"score": 1.0, "low": None, "high": None}
    assert data["ranges"]["muon"] is None
    assert [(p["error"], p["p"], p["separable"], p["seeds"]) for p in data["pairs"]] == [(None, None, None, None)] * 3
    assert data["rank_sets"] == {name: [1, 3] for name in ("adamw", "muon", "slow")}
    assert (data["rules"], data["clock"], data["workloads"]) == ("tuned", "calibrated", ["w1", "w2"])
    assert data["steps_to_target"] == {name: {"w1": 200, "w2": 200} for name in ("adamw", "muon", "slow")}
    assert data["notes"] == [
        "one study: no interval, so a small difference may be chance; `harness run ... studies=7` runs more seeds"
    ]


def test_json_of_five_studies_has_ranges_and_no_interval() -> None:
    data = score_files.as_json(score.score(trials(5, missed=3)))
    adamw = data["scores"]["adamw"]
    assert (adamw["low"], adamw["high"]) == (None, None)
    assert data["ranges"]["adamw"]["low"] < adamw["score"] < data["ranges"]["adamw"]["high"]
    assert data["time_to_target"]["slow"]["w2"] is None
    assert data["ratios"]["slow"]["w2"] == {"ratio": None, "low": None, "high": None}
    assert data["studies"]["slow"]["w2"][:3] == [None, None, None]
    assert data["pairs"][0] | {"p": 0, "p_holm": 0} == data["pairs"][0] | {
        "a": "muon", "b": "adamw", "separable": True, "faster": "muon", "p": 0, "p_holm": 0,
    }  # fmt: skip
    assert any(note.startswith("under 6 studies (5 on some workload)") for note in data["notes"])


def test_json_of_seven_studies_has_intervals() -> None:
    data = score_files.as_json(score.score(trials(7, missed=2), baseline="adamw"))
    for name, entry in data["scores"].items():
        assert entry["low"] <= entry["score"] <= entry["high"]
        assert data["ranges"][name] is None
        assert data["clocks"]["wall"]["scores"][name] == pytest.approx(entry)  # twice the seconds, everywhere
    speed_up = data["speed_ups"]["muon"]
    assert speed_up["low"] < speed_up["speed_up"] < speed_up["high"]
    assert speed_up["workloads"] == ["w1", "w2"]
    slow = data["speed_ups"]["slow"]
    assert slow["low"] is None and slow["high"] > slow["speed_up"], "in over 2.5% of draws it misses"
    assert all(p["difference"] > 0 <= p["error"] for p in data["pairs"])
    assert data["rank_sets"] == {"muon": [1, 1], "adamw": [2, 2], "slow": [3, 3]}
    assert {part["reached"] for part in data["parts"]["slow"]} == {1, 2}
    assert set(data["clocks"]) == {"calibrated", "wall", "cpu"}


# ---- CSV


def test_csv_is_the_json_in_lines() -> None:
    found = score.score(trials(7, missed=5), baseline="adamw")
    rows = list(csv.DictReader(io.StringIO(score_files.as_csv(found))))
    data = score_files.as_json(found)
    assert [row["submission"] for row in rows] == ["muon", "adamw", "slow"]
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    for row in rows:
        entry = data["scores"][row["submission"]]
        assert [float(row[k]) for k in ("score", "low", "high")] == list(entry.values())
        assert float(row["score_wall"]) == data["clocks"]["wall"]["scores"][row["submission"]]["score"]
        assert row["range_low"] == ""
    assert [row["targets_reached"] for row in rows] == ["2", "2", "1"]
    assert [row["time_w2"] == "" for row in rows] == [False, False, True]
    assert [row["speed_up_workloads"] for row in rows] == ["2", "2", "1"]
    assert float(rows[0]["speed_up"]) == data["speed_ups"]["muon"]["speed_up"]


def test_csv_without_a_score() -> None:
    rows = list(csv.DictReader(io.StringIO(score_files.as_csv(score.score(trials(1), unscored={"w1", "w2"})))))
    assert [(row["submission"], row["score"]) for row in rows] == [("adamw", ""), ("muon", ""), ("slow", "")]


# ---- the table


def test_table_with_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, score.score(trials(7, missed=2), baseline="adamw"))
    assert re.search(r"submission +status +reached +time to target \[95%\] +x best +steps", out)
    assert re.search(r"slow +target_reached +5 of 7 +\d\.\d{3} \[\d\.\d{3}, missed\]", out)
    assert re.search(r"rank +submission +score \[95%\] +rank without any one workload", out)
    ones = r"1\.000 \[1\.000, 1\.000\]"
    assert re.search(rf"1 +muon +{ones} +1 +{ones} +\d\.\d{{3}} \[.*\] \(2\)", out)
    assert re.search(r"muon / adamw +\d\.\d{3} \[.*\] +100% +\S+ +separable", out)
    assert re.search(
        r"slow: seeds drawn again reach 2 targets in \d\d% of cases \(score 0\.\d+ to 0\.\d+\), 1 target in", out
    )
    assert "pairs: 3 of 3 separable at 5%" in out


def test_table_with_ranges(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, score.score(trials(3)))
    assert "time to target (range)" in out
    assert "score (range)" in out
    assert re.search(r"adamw +0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)", out)
    assert "[" not in out


def test_not_separable_is_said_with_the_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = (1.0, 1.1, 1.15, 1.2, 1.25)
    turned = {"a": seconds, "b": [1.03 * t for t in reversed(seconds)]}
    near = [trial(n, "w1", i, t) for n, times in turned.items() for i, t in enumerate(times)]
    out = printed(capsys, score.score(near))
    assert "pairs: 0 of 1 separable at 5%" in out
    assert re.search(r"a / b .* not separable; some \d+ seeds each to tell", out)
    same = [trial(n, "w1", i, t) for n in "ab" for i, t in enumerate(seconds)]
    assert "not separable; over 9999 seeds each to tell" in printed(capsys, score.score(same))


def test_too_few_studies_are_said_to_be_untested(capsys: pytest.CaptureFixture[str]) -> None:
    found = score.score([t for t in trials(6) if t.spec.submission != "slow" or t.spec.study == 0], allow_missing=True)
    out = printed(capsys, found)
    assert "pairs: 1 of 1 separable at 5%" in out
    assert len(re.findall(r"(muon|adamw) / slow .* - +not tested: under 5 studies", out)) == 2


def test_neighbours_only_where_pairs_are_many(capsys: pytest.CaptureFixture[str]) -> None:
    many = score.score([trial(f"s{k}", "w1", i, 1.0 + k + 0.01 * i) for k in range(7) for i in range(5)])
    out = printed(capsys, many)
    assert "neighbours in rank only; --pairs shows all" in out
    assert len(re.findall(r"s\d / s\d", out)) == 6
    assert len(re.findall(r"s\d / s\d", printed(capsys, many, pairs=True))) == 21


def test_a_csv_that_cannot_be_written_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setattr("harness.record.run_folder.find_trials", lambda path: [path])
    monkeypatch.setattr("harness.record.run_folder.read_trial", lambda path: trial("adamw", "w1", 0, 1.0))
    assert cli.main(["score", "--csv", str(tmp_path / "no" / "scores.csv")]) == 2
    assert "cannot write the scores to" in capsys.readouterr().err
    assert cli.main(["score", "--csv", str(tmp_path / "scores.csv"), "--clock", "wall"]) == 0
    assert (tmp_path / "scores.csv").read_text().startswith("rank,submission,score,low,high")


def test_a_result_that_is_no_json_is_named(
    tmp_path: Path, make_trial, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    bad = make_trial("quadratic", "adamw")
    for text, why in ("{", "cannot be read"), ("[]", "expected a mapping"), ('{"calibration": {}}', "is missing"):
        (bad / "result.json").write_text(text)
        with pytest.raises(RunFolderError, match=rf"{re.escape(str(bad / 'result.json'))}.*{why}"):
            run_folder.read_trial(bad)
    assert cli.main(["score", str(bad)]) == 2
    assert f"error: {bad}/result.json" in capsys.readouterr().err
