"""`harness compare`: how many times as fast, where, and whether it may be chance."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from written_runs import write_run

from harness.cli import main as cli
from harness.report import scores

Ran = Callable[[str, str, Sequence[float | None]], None]


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Write run folders as trials write them: one for each time to the target, None for a miss."""
    monkeypatch.chdir(tmp_path)

    def make(submission: str, workload: str, times: Sequence[float | None]) -> None:
        for study, time in enumerate(times):
            own = {"submission": submission, "workload": workload, "program": f"p-{submission}"}
            write_run(Path("runs"), time or 9.0, missed=time is None, study=study, studies=len(times), trials=1, **own)

    return make


def test_the_faster_one_comes_first_with_every_workload(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    for workload, slow, fast in ("w1", 8.0, 4.0), ("w2", 9.0, 1.0):
        ran("slow", workload, [slow])
        ran("fast", workload, [fast])
    assert cli.main(["compare", "slow", "fast"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "fast is 4.243 times as fast as slow: geometric mean over 2 workloads, by calibrated seconds, 1 seed each"
    )
    assert lines[1] == "  w1  2.000 times as fast: 4 against 8 calibrated seconds"
    assert lines[2] == "  w2  9.000 times as fast: 1 against 9 calibrated seconds"
    assert lines[3] == "score: fast 1.000 against slow 0.333 (of these two alone, misses counted)"
    assert lines[4] == (
        "chance: not tested: a test takes 5 seeds at least, and 7 give an interval: "
        "harness run slow fast workload=w1,w2 seed=4711 studies=7"
    )


def test_a_workload_that_one_misses_is_no_part_of_the_mean(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    ran("a", "w1", [2.0])
    ran("b", "w1", [3.0])
    ran("a", "w2", [1.0])
    ran("b", "w2", [None])
    assert cli.main(["compare", "a", "b"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("on 1 of 2 workloads, the only one that both reach, a is 1.500 times as fast as b: by ")
    assert "  w2  a takes 1 calibrated seconds (1 of 1 reach the target); b misses (0 of 1 reach the target)\n" in out


def test_seven_seeds_are_tested(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    ran("a", "w1", [2.0 + 0.01 * n for n in range(7)])
    ran("b", "w1", [3.0 + 0.01 * n for n in range(7)])
    assert cli.main(["compare", "b", "a", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["a"], found["b"], found["separable"], found["studies"]) == ("b", "a", True, [7, 7])
    assert found["overall"]["times_as_fast"] == pytest.approx(2.03 / 3.03)
    low, high = found["overall"]["ends"]
    assert low < 2.03 / 3.03 < high < 1 and found["overall"]["kind"] == "interval"
    assert found["workloads"]["w1"]["times"] == {"b": pytest.approx(3.03), "a": pytest.approx(2.03)}
    assert cli.main(["compare", "b", "a"]) == 0
    assert "\nchance: separable (p < 0.001 " in capsys.readouterr().out


def test_a_median_seed_that_misses_is_tested_too(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    ran("a", "w1", [2.0 + 0.01 * n for n in range(7)])
    ran("b", "w1", [3.0, 3.1, 3.2, None, None, None, None])
    assert cli.main(["compare", "b", "a"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "b and a: there is no workload that both reach by their median seeds (7 seeds each)"
    assert lines[1].startswith("  w1  b's median seed misses (3 of 7 reach the target); a takes 2.03 ")
    assert lines[2] == (
        "score: a 1.000 ranks above b 0.000 (of these two alone, misses counted); a wins 100% of pairs of seeds"
    )
    assert lines[3].startswith("chance: separable, a scores higher (p ")
    assert cli.main(["compare", "b", "a", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert cli.main(["score", "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)["pairs"]
    assert compared["overall"] is None and compared["separable"] is True
    assert pair["ratio"] is None and pair["low"] is None
    assert cli.main(["score"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("a / b"))
    assert row.split()[:5] == ["a", "/", "b", "-", "100%"]
    assert (compared["p"], compared["seeds_needed"]) == (pair["p_holm"], pair["seeds"])


def test_an_end_that_is_a_miss_says_so(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    ran("a", "w1", [1.0, 2.0, 3.0])
    ran("b", "w1", [2.0, 4.0, None])
    assert cli.main(["compare", "a", "b"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("a is 2.000 [0.667, missed] times as fast as b: ")
    assert lines[1].endswith(" calibrated seconds (b: 2 of 3 reach the target)")
    assert cli.main(["compare", "b", "a", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["overall"] == {"times_as_fast": 0.5, "ends": [None, 1.5], "kind": "range"}
    assert found["workloads"]["w1"]["reached"] == {"a": 3, "b": 2}
    assert (found["scores"], found["wins"]) == ({"a": 1.0, "b": pytest.approx(2 / 3)}, pytest.approx(1.5 / 9))
    assert cli.main(["score"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert any("4.000 (2.000 to missed)" in row for row in rows)
    assert any("a / b" in row and "2.000 (0.667 to missed)" in row for row in rows)


def test_the_one_that_ranks_higher_may_be_the_slower_where_both_reach(
    ran: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    for workload, quick, sure in ("w1", 1.0, 1.5), ("w2", 1.0, 1.5), ("w3", None, 1.0):
        ran("quick", workload, [quick])
        ran("sure", workload, [sure])
    assert cli.main(["compare", "sure", "quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("on 2 of 3 workloads, the ones that both reach, quick is 1.500 times as fast as sure: ")
    assert lines[4] == "score: sure 0.889 against quick 0.667 (of these two alone, misses counted)"


def test_a_workload_that_only_one_ran_on_is_left_out(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    """After a run on one workload the leftovers of a baseline are no misses of the other."""
    ran("a", "w1", [2.0] * 7)
    ran("b", "w1", [3.0] * 7)
    ran("b", "w2", [3.0])
    assert cli.main(["compare", "a", "b"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("a is 1.500 [1.500, 1.500] times as fast as b: ")
    assert lines[2].startswith("score: a 1.000 ranks above b ")
    assert lines[3].startswith("chance: separable ")
    assert lines[4].startswith("note: the test tells two submissions apart as they ran")
    assert "note: left out, where only one of them ran: w2" in lines
    assert not any(line.startswith("  w2") for line in lines)


def test_toys_are_left_out_where_the_two_have_more(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    ran("a", "w1", [2.0] * 2)
    ran("b", "w1", [3.0] * 2)
    for name in "ab":
        ran(name, "quadratic", [2.0])
    assert cli.main(["compare", "a", "b"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("a is 1.500 ") and "2 seeds each\n" in out and "note: toys are left out: quadratic\n" in out
    assert cli.main(["compare", "a", "b", "runs/quadratic"]) == 0
    assert capsys.readouterr().out.startswith("a is 1.000 times as fast as b: by calibrated seconds, 1 seed each\n")


@pytest.mark.parametrize("words", [["mine.py", "adamw"], ["mine", "./somewhere/adamw"]])
def test_the_command_for_more_seeds_runs(ran: Ran, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    Path("mine.py").write_text("DEFAULTS = {'lr': 0.01, 'b': 1}\n\n\ndef build(task, hp): ...\n")
    ran("mine", "w1", [2.0])
    write_run(Path("runs"), 3.0, submission="mine", workload="w2", hyperparameters={"lr": 0.1, "b": 1}, by_hand=True)
    write_run(Path("runs"), 3.0, submission="adamw", workload="w2")
    assert cli.main(["compare", *words, "runs/w2"]) == 0
    command = "harness run mine hp.lr=0.1 workload=w2 studies=7 && harness run adamw workload=w2 studies=7\n"
    assert command.replace("studies=7", "seed=4711 studies=7") in capsys.readouterr().out


def test_a_near_miss_has_the_digits_that_tell_it_from_the_target() -> None:
    assert scores.missed_text(0.7123, 0.5) == "0.7123"
    assert scores.missed_text(0.43832, 0.4383) == "0.43832"
    assert scores.missed_text(0.5, None) == "0.5000"


def test_nothing_that_both_reach(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    ran("a", "w1", [2.0])
    ran("b", "w1", [None])
    assert cli.main(["compare", "a", "b"]) == 0
    assert capsys.readouterr().out.startswith("a and b: there is no workload that both reach (1 seed each)\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a", "adamx"], "no runs of 'adamx'; did you mean 'adamw'?"),
        (["a", "adamw hp.lr=1"], "copy the submission under another name"),
        (["a", "a"], "takes two submissions, got 'a' twice"),
        (["a", "adamw", "nowhere"], "no run folder at or below nowhere"),
        (["a", "adamw", "workload=w1"], "runs/WORKLOAD holds the runs on one workload"),
    ],
)
def test_bad_input_is_one_line(ran: Ran, capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    ran("a", "w1", [2.0])
    ran("adamw", "w1", [2.0])
    assert cli.main(["compare", *words]) == 2
    assert told in capsys.readouterr().err
