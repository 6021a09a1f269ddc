"""`harness report`: the numbers of `harness score`, curves that are records, a page without holes, names as text."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import written_runs
from written_runs import LOSSES, campaign, write_run

from harness.cli import main as cli
from harness.record import plain_data, published, run_folder, search_record
from harness.record.run_folder import Trial
from harness.record.search_record import Asked, SearchRecord, SearchRun
from harness.report import leaderboard, score_files, staleness
from harness.report.page import boards, curves, document, markdown, scale_ladder, sources, texts, two_packs
from harness.scoring import algoperf, algoperf_targets, score

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = Path(os.environ.get("ALGOPERF_LOGS", ROOT.parent / "shared" / "algoperf"))
WICKED = ["<script>alert(1)</script>", "\"quoted\" 'twice' & <b>", "a|b_*c*"]


def trials_of(root: Path) -> list[Trial]:
    return [run_folder.read_trial(path) for path in run_folder.find_trials(root)]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return campaign(tmp_path / "runs", {"adamw": 2.0, "muon": 1.0, "slow": 2.05})


@pytest.fixture
def board(runs: Path) -> boards.Board:
    return boards.of_trials(trials_of(runs), "runs", ())


# ---- the structure


def test_the_numbers_are_those_of_harness_score(runs: Path, board: boards.Board) -> None:
    trials = trials_of(runs)
    assert list(board["scores"]) == ["calibrated", "wall", "cpu"]
    for clock, told in board["scores"].items():
        assert told == score_files.as_json(score.score(trials, clock=clock))
        for base in ("adamw", "muon"):
            asked = score_files.as_json(score.score(trials, clock=clock, baseline=base))["speed_ups"]
            given = board["standings"][clock]["speed_ups"][base]
            assert {n: one["value"] for n, one in given.items()} == {n: one["speed_up"] for n, one in asked.items()}
    assert board["submissions"] == ["muon", "adamw", "slow"]
    assert board["standings"]["calibrated"]["rank"] == {"adamw": "2", "muon": "1", "slow": "3"}


def test_curves_are_the_measurements(runs: Path, board: boards.Board) -> None:
    for workload, drawn in board["curves"].items():
        assert len(drawn) == 18
        for one in drawn:
            record = board["records"][one["r"]]
            assert (record["workload"], record["submission"]) == (workload, one["s"])
            trial = run_folder.read_trial(Path(record["where"]))
            held = trial.measurements
            assert one["y"] == pytest.approx([m.metrics["loss"] for m in held], rel=1e-6)
            assert one["x"]["steps"] == [m.step for m in held]
            assert one["x"]["wall"] == pytest.approx([m.scored.wall for m in held], rel=1e-6)
            assert one["hit"] == 4


def test_a_curve_crosses_where_the_table_says(tmp_path: Path) -> None:
    # One process is a tenth faster than the mean of both, the other a tenth slower: scores take the mean speed.
    for study, ratio in enumerate((0.9, 1.1)):
        write_run(tmp_path, 10.0, study=study, ratio=ratio, studies=2)
    made = boards.of_trials(trials_of(tmp_path), "runs", ())
    for one in made["curves"]["lm"]:
        time = made["records"][one["r"]]["times"]["calibrated"]
        assert one["x"]["calibrated"][one["hit"]] == pytest.approx(time, rel=1e-6)
        assert time != pytest.approx(10.0)
        assert one["x"]["wall"][one["hit"]] == 20.0


def test_a_trial_that_does_not_count_is_drawn_and_is_no_seed(tmp_path: Path) -> None:
    write_run(tmp_path, 10.0, trial=0, trials=2, hyperparameters={"lr": 0.1})
    write_run(tmp_path, 8.0, trial=1, trials=2, hyperparameters={"lr": 0.3})
    write_run(tmp_path, 8.0, study=1, missed=True, trials=2)
    made = boards.of_trials(trials_of(tmp_path), "runs", ())
    assert [(one["n"], one["counts"], one["hit"]) for one in made["curves"]["lm"]] == [
        ("0/0", False, 4), ("0/1", True, 4), ("1/0", True, None)
    ]  # fmt: skip
    tried = {one["values"]["lr"]: one["result"] for one in made["points"]}
    assert tried == {0.1: None, 0.3: 8.0}  # the median of a hit and a miss is a miss


def curve(values: list[float | None], x: list[float], hit: int | None = None) -> curves.Curve:
    outcome = boards.Outcome("a", "w", 0, 0, "", "target_reached", reached=hit is not None, evaluation=hit or 0)
    return curves.Curve(outcome, True, values, {"wall": x}, hit)


def test_the_median_of_seeds_by_hand() -> None:
    falling = [curve([4.0, 2.0], [1.0, 3.0]), curve([6.0, 4.0], [1.0, 3.0]), curve([4.0, 0.0], [1.0, 5.0])]
    x, y = curves.median(falling, "wall")
    assert (x[0], y[0], x[-1]) == (1.0, 4.0, 3.0)
    assert y[-1] == 2.0  # of 2, 4 and 2
    # The first ends at 2 and stays at 1; the others go on to 4 and 6, and at 4 half of them have ended.
    ended = [curve([3.0, 1.0], [1.0, 2.0]), curve([3.0, 2.0], [1.0, 4.0]), curve([3.0, 3.0], [1.0, 6.0])]
    x, y = curves.median(ended, "wall")
    assert (x[-1], y[-1]) == (4.0, 2.0)
    assert curves.median(falling[:1], "wall") == ([1.0, 3.0], [4.0, 2.0])
    assert curves.median(falling, "energy") == ([], [])


def test_thinning_keeps_what_matters() -> None:
    values: list[float | None] = [10.0 - i / 100 for i in range(500)]
    values[123], values[200], values[7] = 1.0, None, 11.0
    (thin,), cut = curves.thinned([curve(values, [float(i) for i in range(500)], hit=321)], 20)
    assert cut
    assert len(thin.values) <= 20
    assert thin.axes["wall"][thin.hit or 0] == 321.0
    assert {0.0, 123.0, 7.0, 499.0} <= set(thin.axes["wall"])
    assert curves.thinned([thin], 20) == ([thin], False)


def test_a_profile_by_hand() -> None:
    corners = boards.profile([1.0, 2.5, math.inf, 5.0])
    assert corners == [[1.0, 0.25], [2.5, 0.5], [4.0, 0.5]]
    assert boards.profile([3.0, 3.0]) == [[1.0, 0.0], [3.0, 1.0], [4.0, 1.0]]


def test_plots_begin_where_curves_are_flat() -> None:
    first = [[100.0, *(1.0 + 0.01 * i for i in range(50, 0, -1))]]
    low, high = curves.domain(first, 0.9, "min") or (0.0, 0.0)
    assert low < 0.9 < 1.4 < high < 2.0
    low, high = curves.domain([[0.0, *(0.5 + i / 100 for i in range(50)), 0.0]], 0.95, "max") or (0.0, 0.0)
    assert 0.4 < low < 0.6 < 0.99 < high
    many = [*([[3.0, 2.5, 2.2, 2.0]] * 28), [9.0, 8.0, 7.0, 7.0], [1.9]]
    low, high = curves.domain(many, 1.9, "min") or (0.0, 0.0)
    assert 1.8 < low < 1.9 and 2.2 < high < 3.0, "one seed that went astray does not flatten the others"
    assert curves.domain([[1.0, 1.0]] * 10, 2.0, "min") == pytest.approx((0.95, 2.05)), "the target is in sight"
    assert curves.domain([[None]], None, "min") is None
    assert curves.domain([[3.0]], 3.0, "max") == pytest.approx((2.85, 3.15))


def test_the_points_of_a_search_and_the_one_that_it_chose(tmp_path: Path) -> None:
    points = ({"lr": 0.1}, {"lr": 0.2})
    runs = tuple(
        SearchRun(
            "lm", "", "adamw", "", "tuning", point, 0, study, "running", (900 - 100 * n,), (0.4,), 9.0, "", "w", "p"
        )
        for n, point in enumerate(points)
        for study in range(3)
    )
    asked = Asked("adamw", "lm", "loss", "min", 0.5, (150, 300), 1000, points)
    search_record.write(search_record.file_of(tmp_path / "lm" / "adamw"), SearchRecord(asked, runs))
    for study in range(2):
        write_run(
            tmp_path, 10.0, study=study, studies=2, rules="tuned", counts="fresh_seeds", hyperparameters={"lr": 0.2}
        )
    made = boards.of_trials(trials_of(tmp_path), "runs", ())
    told = [(one["values"]["lr"], one["result"], one["unit"], one["chosen"]) for one in made["points"]]
    assert told == [(0.1, 900.0, "steps in the search", False), (0.2, 800.0, "steps in the search", True)]
    assert "chosen" in Reader(page(made)).texts
    packs = [sources.Pack(name, tuple(trials_of(tmp_path)), published=False) for name in ("before", "after")]
    both = sources.of_packs(packs, None)[0]
    assert {one["submission"] for one in both["points"]} == {"adamw (before)", "adamw (after)"}


def test_a_trial_that_goes_on_and_one_that_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for study in range(2):
        write_run(tmp_path / "runs", 10.0, study=study, studies=2)
    first, second = run_folder.find_trials(tmp_path / "runs")
    (first / "result.json").unlink()
    made = boards.of_trials(trials_of(tmp_path / "runs"), "runs", ())
    assert made["cells"]["lm"]["adamw"]["status"] == "interrupted"
    assert sorted(one["hit"] is None for one in made["curves"]["lm"]) == [False, True]
    page(made)
    (second / "spec.json").write_text("{")
    assert cli.main(["report", str(tmp_path / "runs"), "--markdown"]) == 1
    told = capsys.readouterr()
    assert f"{second}/spec.json cannot be read" in told.err
    assert "interrupted" in told.out or "not finished" in told.out


# ---- AlgoPerf's logs

TARGETS = {
    "benchmark_version": "0.5",
    "base_workloads": ["ogbg"],
    "held_out_workloads": ["ogbg_gelu"],
    "workloads": {
        name: {"target_metric_name": "mean_average_precision", "validation_target_value": 0.3, "step_hint": 100}
        for name in ("ogbg", "ogbg_gelu")
    },
}


def write_log(folder: Path, seconds: float) -> None:
    """Write a trial's CSV that meets the target after so many seconds, at its second evaluation."""
    folder.mkdir(parents=True)
    rows = [(1.0, 10, ""), (seconds, 100, 0.3), (seconds + 5, 110, 0.25)]
    lines = ["score,global_step,validation/mean_average_precision", *(f"{t},{step},{v}" for t, step, v in rows)]
    (folder / "eval_measurements.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def logs_and_targets(tmp_path: Path) -> tuple[Path, Path]:
    """A set of AlgoPerf's logs, and the file of its targets."""
    for name, pace in {"baseline": 20.0, "fast": 10.0}.items():
        for study in range(5):
            for workload in ("ogbg", "ogbg_gelu"):
                for trial in (1, 2):
                    at = tmp_path / "set" / name / f"study_{study}" / f"{workload}_jax" / f"trial_{trial}"
                    write_log(at, pace * trial + study)
    file = tmp_path / "targets.json"
    file.write_text(json.dumps(TARGETS))
    return tmp_path / "set", file


def test_figures_of_algoperfs_logs(logs_and_targets: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="needs vl-convert-python")
    place, file = logs_and_targets
    words = ["report", "--format", "algoperf", str(place), "--targets", str(file), "--figures", str(tmp_path / "drawn")]
    assert cli.main(words) == 0
    drawn = {one.name: one.read_bytes() for one in (tmp_path / "drawn").iterdir()}
    wanted = ("profiles", "pairs", "curves-ogbg", "curves-ogbg_gelu")
    assert set(drawn) == {f"AlgoPerf-0.5-set-{name}.{end}" for name in wanted for end in ("svg", "pdf")}
    for name, data in drawn.items():
        assert data.startswith(b"<svg" if name.endswith("svg") else b"%PDF"), name
    assert all(b"fast" in drawn[f"AlgoPerf-0.5-set-{name}.svg"] for name in ("profiles", "pairs", "curves-ogbg"))
    assert cli.main([*words, str(place)]) == 0
    assert len([*(tmp_path / "drawn").glob("AlgoPerf-0.5-set-2-*")]) == len(drawn), "the second board of that name"


def test_algoperfs_logs_make_the_same_page(
    logs_and_targets: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place, file = logs_and_targets
    words = ["--format", "algoperf", str(place), "--targets", str(file)]
    assert cli.main(["report", *words, "--markdown"]) == 0
    assert "| fast | 1.000 (" in capsys.readouterr().out
    known = algoperf_targets.read_targets(file)
    logs = algoperf.read_logs(place, known)
    made = boards.of_logs(logs, known, "set")
    assert made["scores"] == {
        clock: score_files.as_json(score.score_logs(logs, known, clock=clock)) for clock in ("wall", "steps")
    }
    drawn = [one for one in made["curves"]["ogbg"] if one["s"] == "fast"]
    assert [one["n"] for one in drawn] == [f"{study}/1" for study in range(5)]  # the trials that stand for their study
    assert drawn[0]["y"] == [None, 0.3, 0.25]
    assert drawn[0]["x"] == {"wall": [1.0, 10.0, 15.0], "steps": [10.0, 100.0, 110.0]}
    assert drawn[0]["hit"] == 1
    text = page(made)
    assert "baseline" in Reader(text).texts
    assert "× baseline" in text


@pytest.mark.parametrize("version", ["v05", "v06"])
def test_algoperfs_published_logs(version: str) -> None:
    logs_file = PUBLISHED / f"{version}_external.tar.gz"
    targets_file = next(iter(PUBLISHED.glob(f"workload_targets_{version}*.json")), None)
    if not logs_file.exists() or targets_file is None:
        pytest.skip("AlgoPerf's published logs are not in ../shared/algoperf (or $ALGOPERF_LOGS)")
    known = algoperf_targets.read_targets(targets_file)
    logs = algoperf.read_logs(logs_file, known)
    made = boards.of_logs(logs, known, version)
    assert made["scores"]["wall"] == score_files.as_json(score.score_logs(logs, known))
    for workload, drawn in made["curves"].items():
        for one in drawn:
            record = made["records"][one["r"]]
            assert record["counts"]
            assert (record["workload"], record["status"]) == (
                workload,
                "missed" if one["hit"] is None else "target_reached",
            )
            if one["hit"] is not None:
                assert one["x"]["wall"][one["hit"]] == pytest.approx(record["times"]["wall"], rel=1e-6)
    assert len(page(made)) < 5e6


# ---- two packs


def test_two_packs_side_by_side(tmp_path: Path) -> None:
    before = campaign(tmp_path / "before", {"adamw": 2.0, "muon": 1.0})
    after = campaign(tmp_path / "after", {"adamw": 2.0, "muon": 0.5})
    found, _ = sources.packs([before, after])
    both, *each = sources.of_packs(found, None)
    assert [one["name"] for one in each] == ["before", "after"]
    assert both["packs"] == ["before", "after"]
    assert both["looks"]["muon (before)"][::2] == both["looks"]["muon (after)"][::2]
    assert both["looks"]["muon (before)"][1] != both["looks"]["muon (after)"][1]
    changes = {row["submission"]: row for row in both["changes"]}
    assert changes["muon"]["ratio"] == pytest.approx(2.0)
    assert changes["muon"]["verdict"] == "separable"
    assert changes["muon"]["ends"][0] > 1.0
    assert changes["muon"]["times"]["lm"] == pytest.approx([10.5, 5.25])
    assert changes["adamw"]["ratio"] == pytest.approx(1.0)
    assert changes["adamw"]["verdict"].startswith("not separable")


def test_what_got_slower_is_turned_round(tmp_path: Path) -> None:
    before = campaign(tmp_path / "before", {"adamw": 1.0, "muon": 1.0})
    after = campaign(tmp_path / "after", {"adamw": 1.0, "muon": 2.0})
    found, _ = sources.packs([before, after])
    both = sources.of_packs(found, None)[0]
    row = next(row for row in both["changes"] if row["submission"] == "muon")
    assert row["ratio"] == pytest.approx(0.5)
    assert row["ends"][0] <= 0.5 <= row["ends"][1] < 1.0
    # Holm over the two pairs that are asked about, not over all six of the board.
    pair = next(
        p for p in both["scores"]["calibrated"]["pairs"] if {p["a"], p["b"]} == {"muon (before)", "muon (after)"}
    )
    assert row["p"] == pytest.approx(2 * pair["p"])
    assert row["p"] < pair["p_holm"]
    assert [two_packs._turned(end) for end in (None, 2.0)] == [None, 0.5]


def test_packs_of_two_machines_are_not_put_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = campaign(tmp_path / "before", {"adamw": 2.0})
    monkeypatch.setattr(written_runs, "MACHINE", written_runs.MACHINE | {"cpu": "Another"})
    after = campaign(tmp_path / "after", {"adamw": 2.0})
    found, _ = sources.packs([before, after])
    made = sources.of_packs(found, None)
    assert len(made) == 2
    assert all(
        any("not put side by side: trials that cannot be compared: cpu" in n for n in one["notes"]) for one in made
    )


def test_together_is_one_board(tmp_path: Path) -> None:
    for name in ("one", "two"):
        campaign(tmp_path / name, {name: 1.0})
    found, _ = sources.packs([tmp_path / "one", tmp_path / "two"], together=True)
    (made,) = sources.of_packs(found, None)
    assert made["submissions"] == ["one", "two"]


# ---- the page


VOID = {"br", "col", "hr", "img", "input", "link", "meta", "wbr"}
PHRASES = {"p", "h1", "h2", "h3", "h4", "button", "label", "summary", "span", "caption", "option"}  # hold no blocks
BLOCKS = {"p", "div", "table", "ul", "ol", "dl", "section", "details", "h1", "h2", "h3", "h4", "fieldset", "figure"}
PARENTS = {  # of what stands nowhere else
    "li": {"ul", "ol"}, "dt": {"dl"}, "dd": {"dl"}, "thead": {"table"}, "tbody": {"table"}, "caption": {"table"},
    "tr": {"thead", "tbody"}, "td": {"tr"}, "th": {"tr"}, "option": {"select"}, "summary": {"details"},
    "legend": {"fieldset"}, "title": {"head"}, "head": {"html"}, "body": {"html"},
}  # fmt: skip
REFERRING = ("for", "aria-labelledby", "aria-describedby", "aria-controls")


class Reader(HTMLParser):
    """Gathers what a browser would see, and refuses what it would have to mend: tags that cross or stay open, an
    attribute twice, an element where it may not stand, a reference to no element. This is no whole validator.
    """

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.referred: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self.inside = ""
        assert text.startswith("<!doctype html>")
        self.feed(text)
        self.close()
        assert self.open == []
        assert [name for name, number in Counter(self.ids).items() if number > 1] == []
        assert set(self.referred) <= set(self.ids)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        held, self.inside = dict(attributes), tag
        where = self.open[-1] if self.open else ""
        assert len(held) == len(attributes), (tag, attributes)
        assert where in PARENTS.get(tag, {where}), f"<{tag}> in <{where}>"
        assert not (tag in BLOCKS and PHRASES & set(self.open)), f"<{tag}> in {self.open}"
        assert not (tag in ("a", "button") and {"a", "button"} & set(self.open)), f"<{tag}> in {self.open}"
        self.referred += [one for name in REFERRING for one in (held.get(name) or "").split()]
        if tag not in VOID:
            self.open.append(tag)
        self.tags[tag] += 1
        self.ids += [value for name, value in attributes if name == "id" and value]
        self.links += [held["href"]] if held.get("href") else []
        assert not any(name.startswith("on") for name in held), held

    def handle_data(self, data: str) -> None:
        (self.scripts if self.inside == "script" else self.texts).append(data)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes {self.open}"
        self.inside = ""


@pytest.mark.parametrize(
    "text",
    [
        "<p><b>x</p></b>", "<p>x", "<i a=1 a=2></i>", "<div><li>x</li></div>", "<p><div></div></p>", "</p>",
        "<label for=x></label>", "<b id=x></b><i id=x></i>", "<a href=x><button></button></a>",
    ],
)  # fmt: skip
def test_the_reader_refuses_what_is_no_html(text: str) -> None:
    Reader("<!doctype html><p>fine</p>")
    with pytest.raises(AssertionError):
        Reader(f"<!doctype html>{text}")


def page(*made: boards.Board) -> str:
    pytest.importorskip("vl_convert", reason="needs vl-convert-python")
    return document.page(made, "A benchmark")


def test_the_page_has_no_holes(runs: Path, tmp_path: Path) -> None:
    below = tmp_path / "site"
    below.mkdir()
    text = page(*(boards.of_trials(trials_of(runs), name, (), below=below) for name in ("one", "two")))
    seen = Reader(text)
    assert seen.tags["h1"] == 1
    assert seen.tags["script"] == 3
    inner = [link[1:] for link in seen.links if link.startswith("#")]
    assert set(inner) <= set(seen.ids)
    outer = [link for link in seen.links if not link.startswith("#")]
    assert len(outer) == 2 * len(trials_of(runs))
    assert all((below / link).is_file() for link in outer)
    assert "10.50" in seen.texts
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)


def test_names_are_text(tmp_path: Path) -> None:
    made = boards.of_trials(
        trials_of(campaign(tmp_path / "runs", dict.fromkeys(WICKED, 1.0), studies=2)), WICKED[0], ()
    )
    seen = Reader(page(made))
    assert seen.tags["script"] == 3
    assert seen.tags["b"] == 0
    assert all(name in seen.texts for name in WICKED)
    held = json.loads(seen.scripts[0])
    assert held["boards"]["b0"]["names"] == sorted(WICKED)
    told = markdown.written([made])
    assert "<script>" not in told
    assert r"a\|b\_\*c\*" in told


def test_published_records_of_an_older_harness(capsys: pytest.CaptureFixture[str]) -> None:
    for file in published.find(ROOT / "results"):
        trials = published.read(file)
        made = boards.of_trials(trials, file.stem, leaderboard.unscored(trials), published=True)
        assert made["stale"]["lines"] == staleness.since_published(trials)
        for name in made["stale"]["submissions"]:
            assert any(name in line for line in made["stale"]["lines"])
        assert cli.main(["score", str(file), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["scores"] == made["scores"][made["clock"]]["scores"]
        text = page(made)
        assert ("Stale" in text) == bool(made["stale"]["lines"])


def test_a_ladder_is_a_board_that_needs_no_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "runs/ladders/lm.json"
    file.parent.mkdir(parents=True)
    written = written_runs.ladder(("adamw", WICKED[0], WICKED[2]))
    file.write_text(json.dumps({"schema": 1, "ladder": plain_data.to_plain(written)}))
    made = scale_ladder.boards([tmp_path / "runs"])
    assert [row["y"] for row in made[0]["ladder"]["lm_w32"]] == pytest.approx([1.4] * 4 + [0.9] * 4, rel=1e-3)
    assert [row["e"] for row in made[0]["ladder"]["lm_w64"]] == [False] * 4 + [True] + [False] * 3
    low, high = made[0]["domain"]
    assert 0.5 < low < 0.9 and 1.4 < high < 2.0
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", "--markdown"]) == 0
    assert r"| a\|b\_\*c\* | 64 | 1 | " in (told := capsys.readouterr().out) and "<script>" not in told
    pytest.importorskip("vl_convert", reason="needs vl-convert-python")
    assert cli.main(["report", "--figures", "drawn", "-o", "page.html"]) == 0
    seen = Reader(Path("page.html").read_text())
    assert seen.tags["figure"] == 2 and WICKED[0] in seen.texts and seen.tags["script"] == 3
    assert {one.name for one in Path("drawn").iterdir()} == {
        f"ladder-of-lm-lm_w{width}.{end}" for width in (32, 64) for end in ("svg", "pdf")
    }
    assert "@" not in Path("drawn/ladder-of-lm-lm_w32.svg").read_text()
    campaign(tmp_path / "runs", {"adamw": 1.0}, studies=1)
    assert cli.main(["report", "--markdown"]) == 0
    assert "### runs" in (told := capsys.readouterr().out) and "### ladder of lm" in told


# ---- the command


def test_the_command_writes_a_page_figures_and_markdown(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("vl_convert", reason="needs vl-convert-python")
    out, figures = tmp_path / "site/report.html", tmp_path / "figures"
    assert cli.main(["report", str(runs), "-o", str(out), "--figures", str(figures), "--title", "Mine"]) == 0
    assert "<h1>Mine</h1>" in out.read_text()
    names = {file.name for file in figures.iterdir()}
    wanted = ("profiles", "pairs", "curves-lm", "curves-mae", "time-lm", "time-mae")
    assert names == {f"runs-{name}.{end}" for name in wanted for end in ("svg", "pdf")}
    assert "muon" in (figures / "runs-curves-lm.svg").read_text()
    assert "@" not in (figures / "runs-curves-lm.svg").read_text()
    assert (figures / "runs-pairs.pdf").read_bytes().startswith(b"%PDF")
    capsys.readouterr()
    assert cli.main(["report", str(runs), "--markdown"]) == 0
    told = capsys.readouterr().out
    assert "| 1 | muon (stale) | 1.000 [1.000, 1.000] | 1.000× | 10.50 (6 of 6) | 21.00 (6 of 6) |" in told


def test_without_the_library(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert cli.main(["report", str(runs), "-o", str(tmp_path / "r.html")]) == 2
    assert "pip install vl-convert-python" in capsys.readouterr().err
    assert cli.main(["report", str(runs), "--markdown"]) == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "no run folder at or below nowhere"),
        (["runs", "--targets", "t.json"], "--targets goes with --format algoperf"),
        (["--format", "algoperf", "logs"], "got 1 of logs and 0 of targets"),
        (
            ["--format", "algoperf", "a", "b", "--targets", "1", "--targets", "2", "--targets", "3"],
            "got 2 of logs and 3",
        ),
        (["runs", "--rules", "tuned"], "no run by rules tuned"),
        (["runs", "-o", "runs"], "choose another file with -o"),
    ],
)
def test_what_is_refused(
    words: list[str], told: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("vl_convert", reason="needs vl-convert-python")
    monkeypatch.chdir(runs.parent)
    assert cli.main(["report", *words]) == 2
    assert told in capsys.readouterr().err


def test_trials_without_a_target(tmp_path: Path) -> None:
    for study in range(2):
        write_run(tmp_path, 10.0, missed=True, target=None, study=study, stop="horizon")
    made = boards.of_trials(trials_of(tmp_path), "runs", ())
    assert not made["standings"]
    assert "No workload here has a target that ranks." in page(made)
    assert made["curves"]["lm"][0]["y"] == pytest.approx([loss + 0.1 for loss in LOSSES])


def test_numbers_as_text() -> None:
    assert [texts.number(v) for v in (None, 1.23456, 12.3456, 12345.6)] == ["–", "1.235", "12.35", "12,346"]
    assert texts.ends([1.0, None], 2) == "[1.00, missed]"
    assert texts.ends(boards._ends((0.0, 1.03)), 2) == "[missed, 1.03]"
    assert texts.ends(boards._ends((0.97, math.inf)), 2) == "[0.97, missed]"
    assert texts.p_value(0.0001) == "< 0.001"


def test_markdown_shows_texts_as_they_are() -> None:
    assert (
        markdown.plain("under 6: `harness run studies=7 out=*` <b>") == "under 6: `harness run studies=7 out=*` \\<b\\>"
    )
    assert markdown.plain("one ` alone and _so_ on") == "one \\` alone and \\_so\\_ on"
    assert markdown.plain("`a | b`") == "\\`a \\| b\\`"
