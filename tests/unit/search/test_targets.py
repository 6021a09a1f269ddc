"""Targets follow from recorded runs: by hand in both modes, refused where the runs carry none, never typed in."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import WorkloadError
from harness.program import discovery
from harness.program.workload import Target, read_target
from harness.record.search_record import SearchRun
from harness.search.targets import (
    LONGER,
    RULE,
    StepTime,
    best_point,
    derive_target,
    ease,
    finalists,
    first_step,
    longer,
    margin_sd,
    misses,
    on_page,
    page,
    reach_bound,
    read_record,
    record_lines,
    survivors,
)

ROOT = Path(__file__).resolve().parents[3]
HORIZON = 200
STEPS = (100, 172, 200)


def run(role: str, values, *, lr: float = 0.1, steps=STEPS, seed: int = 0, name: str = "adamw") -> SearchRun:
    return SearchRun(
        workload="w", workload_hash="h", submission=name, submission_hash="s", role=role,
        hyperparameters={"learning_rate": lr, "weight_decay": 0.1}, seed=seed, study=0, status="running", steps=steps,
        values=tuple(values), seconds=1.0, machine="m",
    )  # fmt: skip


TUNING = [run("tuning", (1.0, 0.6, 0.52), lr=0.01), run("tuning", (1.0, 0.5, 0.41), lr=0.1)]
SCORING = [
    run("scoring", (0.9, 0.50121, 0.41)),
    run("scoring", (0.5, 0.49999, 0.40)),
    run("scoring", (0.8, 0.50300, 0.42)),
]


STEP_TIME = StepTime(workload="w", workload_hash="h", baseline_step_s=0.0123456, steps=500, machine="m")


def derive(runs, mode="min", horizon=HORIZON) -> Target:
    return derive_target(runs, STEP_TIME, mode, horizon, "results/targets/w.jsonl")


def point(lr: float, name: str = "adamw"):
    return name, {"learning_rate": lr, "weight_decay": 0.1}


def test_smaller_is_better_by_hand():
    # The measurement nearest to 85% of 200 steps is at 172: the median of 0.50121, 0.49999, 0.503 is 0.50121, rounded
    # up to 0.5013. The runs first meet it at 172, 100 and 200. Finals 0.41, 0.40, 0.42: standard deviation 0.01. Step
    # time 0.0123456, rounded up.
    target = derive(TUNING + SCORING)
    assert target == Target(
        value=0.5013, version=0, steps_to_target=172, reference_step_s=0.01235, record="results/targets/w.jsonl",
        spread=0.01, seeds=3,
    )  # fmt: skip
    assert target.budget_steps == 344


def test_larger_is_better_by_hand():
    flip = lambda r: dataclasses.replace(r, values=tuple(1 - v for v in r.values))  # noqa: E731
    target = derive([flip(r) for r in TUNING + SCORING], "max")
    # The median 0.49879, rounded down
    assert (target.value, target.steps_to_target, target.spread) == (0.4987, 172, 0.01)


def test_the_best_point_is_of_the_tuning_runs_alone():
    runs = [*TUNING, run("tuning", (1.0, 0.2, None), lr=1.0), run("tuning", (0.1,), lr=2.0, steps=(100,))]
    runs.append(run("scoring", (0.1, 0.1, 0.1), lr=3.0))
    runs.append(run("tuning", (0.1, 0.1, 0.1), lr=4.0, name="nadamw"))
    assert best_point(runs, "min", HORIZON, "adamw") == point(0.1), "not one that diverged or was not tuned"
    assert best_point(runs, "max", HORIZON, "adamw") == point(0.01)
    assert best_point(runs, "min", HORIZON, "nadamw") == point(4.0, "nadamw")
    with pytest.raises(WorkloadError, match="no tuning run of adamw reached the end of the horizon"):
        best_point(runs[2:], "min", HORIZON, "adamw")
    # Scoring runs of other points and of other baselines set no target.
    other = run("scoring", (0.9, 0.9, 0.9), lr=0.01)
    faster = [run(role, (0.1, 0.1, 0.1), lr=0.1, name="nadamw") for role in ("tuning", "scoring")]
    assert derive([*TUNING, *SCORING, other, *faster]) == derive(TUNING + SCORING)


@pytest.mark.parametrize(
    ("scoring", "says"),
    [
        ([], "0 scoring runs of .* at least 2 must finish"),
        (SCORING[:1], "1 scoring runs of .* at least 2 must finish"),
        ([*SCORING, run("scoring", (0.9, 0.5, None))], r"finals \[0.41, 0.4, 0.42, None\]; at least 2 must finish"),
        ([*SCORING, run("scoring", (0.9, None, 0.4))], "4 scoring runs of .* at least 2 must finish"),
        ([*SCORING, run("scoring", (0.9,), steps=(100,))], "4 scoring runs of .* at least 2 must finish"),
    ],
)
def test_missing_seeds_are_refused(scoring, says):
    with pytest.raises(WorkloadError, match=says):
        derive(TUNING + scoring)


def test_a_target_that_a_seed_would_miss_is_eased():
    # Finals 0.41, 0.40, 0.42, 0.40, 0.41 and eleven times 0.40, one 0.60: the mean and 2.326 sd lie short of the last.
    more = [run("scoring", (0.9, 0.5, 0.40))] * 12 + [run("scoring", (0.9, 0.5, 0.41))]
    late = run("scoring", (0.9, 0.8, 0.6))
    target = derive([*TUNING, *SCORING, *more, late])
    assert (target.value, target.steps_to_target) == (0.6, 172), "the last needs 200 steps, and all reach it"
    past = run("scoring", (0.9, 0.8, 0.6, 0.1), steps=(*STEPS, 208))  # what comes after the horizon does not count
    assert derive([*TUNING, *SCORING, *more, past]).value == 0.6
    better_before = run("scoring", (0.9, 0.58, 0.6))  # it is the best that it reaches which counts
    assert derive([*TUNING, *SCORING, *more, better_before]).value == 0.58


def test_a_thin_margin_is_eased():
    # Finals 0.41, 0.40, 0.42: mean 0.41, sd 0.01, and 0.41 + 2.326 sd = 0.43326, rounded up.
    def at_mark(value, mode="min"):
        runs = TUNING + [run("scoring", (0.9, value, final)) for final in (0.41, 0.40, 0.42)]
        if mode == "max":
            runs = [dataclasses.replace(r, values=tuple(1 - v for v in r.values)) for r in runs]
        return derive(runs, mode).value

    assert at_mark(0.44) == 0.44
    assert at_mark(0.4332) == 0.4333
    # Metrics that got worse towards the end leave the mark on the hard side of the final, however far away.
    assert at_mark(0.3) == 0.4333
    assert at_mark(0.44, "max") == 0.56
    assert at_mark(0.4332, "max") == at_mark(0.3, "max") == 0.5667


def test_seeds_that_all_agree():
    same = [run("scoring", (0.9, 0.5, 0.4))] * 2
    assert (derive(TUNING + same).value, derive(TUNING + same).spread) == (0.5, 0)
    worse = [run("scoring", (0.9, 0.3, 0.4))] * 2
    assert (derive(TUNING + worse).value, derive(TUNING + worse).steps_to_target) == (0.4, 172)


def test_rounding_goes_to_the_easy_side():
    assert ease(0.500101, "min") == 0.5002
    assert ease(0.500199, "max") == 0.5001
    assert ease(0.5001, "min") == ease(0.5001, "max") == 0.5001
    assert ease(2.20671, "min") == 2.207
    assert ease(0.99996, "min") == 1.0
    assert ease(123456.0, "min") == 123500
    assert ease(123456.0, "max") == 123400
    assert ease(-0.50015, "min") == -0.5001
    assert ease(0.0, "min") == 0.0


@given(st.floats(1e-6, 1e6), st.sampled_from([1, -1]))
def test_rounding_moves_little_and_never_to_the_hard_side(size, sign):
    value = sign * size
    up, down = ease(value, "min"), ease(value, "max")
    assert down - 1e-9 * size <= value <= up + 1e-9 * size
    for rounded in (up, down):
        assert abs(rounded - value) <= 1.001e-3 * size
        assert float(f"{rounded:.4g}") == rounded
        assert ease(rounded, "min") == ease(rounded, "max") == rounded


def test_first_step():
    record = run("scoring", (None, 0.5, 0.4))
    assert [first_step(record, v, "min") for v in (0.5, 0.45, 0.3)] == [172, 200, None]
    assert [first_step(record, v, "max") for v in (0.45, 0.6)] == [172, None]


def test_the_better_half_goes_on():
    runs = [run("tuning", (v,), lr=lr, steps=(50,)) for lr, v in ((1, 0.5), (2, 0.3), (3, None), (4, 0.4), (5, 0.9))]
    assert survivors(runs, "min", 50) == [point(1), point(2), point(4)], "the median is 0.5: it goes on too"
    assert survivors(runs, "max", 50) == [point(1), point(4), point(5)], "diverged is the worst here too"
    assert survivors(runs[:4], "min", 50) == [point(2), point(4)], "of an even number exactly half"
    assert survivors([run("tuning", (None,), steps=(50,))] * 3, "min", 50) == [], "those that diverged never go on"


def test_a_target_is_provisional_by_fewer_seeds_points_or_baselines():
    names = ("adamw", "nadamw", "sgd_momentum")
    tuning = [run("tuning", (1.0, 0.6, 0.5), lr=k / 100, name=name) for name in names for k in range(2, 11)]
    tuning += [run("tuning", (1.0, 0.5, 0.41), lr=0.5, name=name) for name in names]
    for k, name in itertools.product((1, 2), names):  # the finalists on the other tuning studies
        tuning += [
            dataclasses.replace(run("tuning", (1.0, 0.6, v), lr=lr, name=name), study=k)
            for lr, v in ((0.5, 0.41), (0.02, 0.5))
        ]
    scoring = [
        run("scoring", (0.9, 0.50 + k / 1000, 0.40 + k / 1000), lr=0.5, seed=k, name=name)
        for name in names
        for k in range(10)
    ]
    assert derive(tuning + scoring).version == RULE == 3
    assert derive(tuning + scoring[1:]).version == 0, "a seed of adamw is missing"
    assert derive(tuning + scoring[:-1]).version == 0, "a seed of sgd_momentum is missing"
    assert derive([r for r in tuning if r.submission != "nadamw"] + scoring).version == 0
    assert derive(tuning[1:] + scoring).version == 0, "one point of a baseline is missing"
    assert derive(tuning[:-1] + scoring).version == 0, "a finalist lacks a tuning study"


def test_no_lucky_tuning_seed_chooses():
    def tuned(lr: float, *finals: float | None) -> list[SearchRun]:
        return [
            dataclasses.replace(run("tuning", (1.0, 0.6, final), lr=lr), study=study)
            for study, final in enumerate(finals)
        ]

    steady, lucky, third = tuned(0.01, 0.42, 0.42, 0.43), tuned(0.1, 0.40, 0.47, 0.46), tuned(0.3, 0.43)
    assert finalists([*steady, *third, *lucky], "min", HORIZON, "adamw") == [point(0.1), point(0.01)]
    assert best_point([*steady, *third, *lucky], "min", HORIZON, "adamw") == point(0.01)
    assert best_point([*steady[:1], *lucky[:1], *third], "min", HORIZON, "adamw") == point(0.1)
    broken = tuned(0.1, 0.40, 0.40, None)
    assert best_point([*steady, *broken], "min", HORIZON, "adamw") == point(0.01), "it diverged on one of them"


def test_bound_and_margin_by_hand():
    assert reach_bound(10) == pytest.approx(0.7411, abs=1e-4)  # p^10 = 0.05
    assert reach_bound(1) == 0.05
    # Mean final 0.41, sd 0.01, target 0.5013.
    assert margin_sd(SCORING, derive(TUNING + SCORING), "min", HORIZON) == pytest.approx(9.13)
    flipped = [dataclasses.replace(r, values=tuple(1 - v for v in r.values)) for r in TUNING + SCORING]
    assert margin_sd(flipped[2:], derive(flipped, "max"), "max", HORIZON) == pytest.approx(9.13)


def test_a_record_comes_back_as_it_was(tmp_path):
    path = tmp_path / "w.jsonl"
    assert read_record(path) == ([], None)
    path.write_text(record_lines(TUNING, STEP_TIME))
    assert read_record(path) == (TUNING, STEP_TIME)
    path.write_text(record_lines(TUNING, None).replace('"role": "tuning"', '"role": "tuned"', 1))
    with pytest.raises(WorkloadError, match=r"w\.jsonl: role"):
        read_record(path)


def test_the_page_takes_its_place_in_a_readme():
    sgd = [run("tuning", (3.0, 2.0, 1.5), name="sgd_momentum"), run("scoring", (3.0, 2.0, 1.4), name="sgd_momentum")]
    broken = [run("tuning", (None,), steps=(50,), name="nadamw")]
    runs = TUNING + SCORING + sgd + broken
    section = page(runs, derive(runs), "min", "loss", HORIZON)
    assert "**loss at most 0.5013**, version 0 (provisional: less was run than what follows)" in section
    assert "| adamw | 2 | 0.1 | 0.1 | 3 | 0.4100 ± 0.0100 | 3 of 3 | 172 |" in section
    assert "| nadamw | 1 | - | - | - | diverged | - | - |" in section
    assert "| sgd_momentum | 1 | 0.1 | 0.1 | 1 | 1.4000 | 0 of 1 | - |" in section
    assert "| baseline | step 100 | step 100 | step 172 | step 172 | step 200 |" in section
    assert "| sgd_momentum | 3.0000 | 3.0000 | 2.0000 | 2.0000 | 1.4000 |" in section, (
        "the curve of a baseline that misses"
    )
    assert "\n- the median over seeds at step 172: 0.5012\n" in section
    assert "9.13 standard deviations of 0.01 from its mean" in section
    once = on_page("# w\n\n## Target\n", section)
    assert once == f"# w\n\n## Target\n\n{section}\n"
    assert on_page(once, section) == once
    assert on_page(f"a\n\n{section}\n\nb\n", "new").count("new") == 1
    assert on_page(f"a\n\n{section}\n\nb\n", "new").endswith("b\n")


def test_a_baseline_that_misses_is_shown_with_a_longer_schedule_too():
    sgd = [run("tuning", (3.0, 2.0, 1.5), name="sgd_momentum"), run("scoring", (3.0, 2.0, 1.4), name="sgd_momentum")]
    name, values = longer(sgd[0].point)
    assert (name, values["horizon"]) == ("sgd_momentum", LONGER)
    late = [
        dataclasses.replace(
            run("scoring", (3.0, 2.0, 0.6, final), steps=(*STEPS, 300), name=name, seed=seed), hyperparameters=values
        )
        for seed, final in enumerate((0.5, 0.3))
    ]
    assert misses(sgd, sgd[0].point, 0.5013, "min")
    assert not misses(late, late[0].point, 0.5013, "min")
    assert not misses(SCORING, SCORING[0].point, 0.5013, "min")
    runs = TUNING + SCORING + sgd + late
    section = page(runs, derive(runs), "min", "loss", HORIZON)
    assert derive(runs) == derive(TUNING + SCORING)
    assert "| sgd_momentum | 1 | 0.1 | 0.1 | 1 | 1.4000 | 0 of 1 | - |" in section
    shown = "| sgd_momentum, a schedule of 1.5 step hints |  | 0.1 | 0.1 | 2 | 0.4000 ± 0.1414 | 2 of 2 | 300 |"
    assert shown in section


# ---- the committed targets ----

WORKLOADS = {
    name: folder
    for name, folder in discovery.find_all("workloads").items()
    if folder.path.parent.parent == ROOT and discovery.workload_info(folder).scored
}
RECORDS = {path.stem: path for path in sorted((ROOT / "results/targets").glob("*.jsonl"))}


@pytest.mark.parametrize("name", WORKLOADS)
def test_committed_target_follows_from_its_records(name):
    info = discovery.workload_info(WORKLOADS[name])
    if info.target.value is None:
        assert info.target.version == 0
        pytest.skip("no target is set yet")
    if not info.target.record:
        assert (info.target.version, info.target.seeds, info.target.reference_step_s) == (0, 0, 0.0)
        assert "public" in (WORKLOADS[name].path / "README.md").read_text().partition("## Target")[2]
        pytest.skip("a public target, behind which no run stands here")
    assert info.target == read_target(str(WORKLOADS[name].path / "workload.py")), "the target comes from target.json"
    assert info.target.record == f"results/targets/{name}.jsonl"
    runs, step_time = read_record(ROOT / info.target.record)
    assert derive_target(runs, step_time, info.mode, info.step_hint, info.target.record) == info.target
    readme = (WORKLOADS[name].path / "README.md").read_text()
    assert page(runs, info.target, info.mode, info.metric, info.step_hint) in readme


@pytest.mark.parametrize("name", RECORDS)
def test_committed_records_are_of_the_workload_as_it_is(name):
    runs, step_time = read_record(RECORDS[name])
    assert {r.workload for r in runs} == {name}
    assert {r.workload_hash for r in runs} == {WORKLOADS[name].source_hash}
    scoring = [(str(r.point), r.seed, r.study) for r in runs if r.role == "scoring"]
    assert len(scoring) == len(set(scoring)), "each scoring run of a baseline has a seed of its own"
    assert step_time is None or step_time.workload_hash == WORKLOADS[name].source_hash, "a search may be half done"
