"""What scripts/tune.py does with the runs it asks for: halving, the schedule's length last, ties, what it writes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.program import discovery, submission
from harness.record.search_record import Asked, SearchRun
from harness.search.targets import Point

ROOT = Path(__file__).resolve().parents[3]
GRAMMAR = discovery.workload_info(discovery.find("workloads", "lm_grammar"))
TARGET = GRAMMAR.target.value
LOSS = Callable[[dict[str, Any], int, int], float]


@pytest.fixture
def tune(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import tune

    return tune


class MadeUpSearch:
    """A search on lm_grammar whose runs follow a formula of point, step and tuning study; `asked` holds the points of
    each request, and its end.
    """

    def __init__(self, name: str, loss: LOSS, dimensions: int):
        self.info = GRAMMAR
        self.moved = tuple(submission.read_info(discovery.find("submissions", name)).space)[:dimensions]
        self.loss = loss
        self.asked: list[tuple[list[Point], int]] = []
        self.runs: list[SearchRun] = []
        self.facts: list[Asked] = []

    def run_all(
        self, pool: Any, points: list[tuple[Point, int]], *, tuning: bool, until: int, target: float | None = None
    ) -> list[SearchRun]:
        assert tuning
        self.asked.append(([point for point, _ in points], until))
        found = [self._run(point, study, until, target) for point, study in points]
        self.runs += found
        return found

    def _run(self, point: Point, study: int, until: int, target: float | None) -> SearchRun:
        steps = range(6, until + 1, 6)
        values = [self.loss(point[1], step, study) for step in steps]
        hit = next((i for i, v in enumerate(values) if target is not None and v <= target), len(values) - 1)
        return SearchRun(
            "lm_grammar", "", point[0], "", "tuning", point[1], 0, study, "running", tuple(steps)[: hit + 1],
            tuple(values[: hit + 1]), 1.0, "",
        )  # fmt: skip


def search(
    tune: Any, name: str, loss: LOSS, *, points: int = 8, dimensions: int = 2
) -> tuple[MadeUpSearch, Point, list[Any]]:
    made_up = MadeUpSearch(name, loss, dimensions)
    best, made_up.facts, finished = tune.tune(name, [made_up], {"lm_grammar": None}, points)
    return made_up, best, finished


def test_the_best_point_by_halving_then_its_schedule_length(tune: Any) -> None:
    def loss(point: dict[str, Any], step: int, _: int) -> float:
        return TARGET + abs(point["learning_rate"] - 0.01) + abs(point["horizon"] - 1.25) + 0.5 - step / 1000

    made_up, (name, best), finished = search(tune, "adamw", loss)
    counts = [(len(points), until) for points, until in made_up.asked]
    end = discovery.workload_info(discovery.find("workloads", "lm_grammar")).budget_steps
    assert counts == [(8, 144), (4, 288), (2, end), (4, end), (3, end), (6, end)]
    drawn = made_up.asked[0][0]
    assert {point["horizon"] for _, point in drawn} == {1.0}, "all are drawn at one length, whatever the default is"
    assert (name, best["horizon"]) == ("adamw", 1.25)
    assert best["learning_rate"] == min((p["learning_rate"] for _, p in drawn), key=lambda lr: abs(lr - 0.01))
    lengths = [point["horizon"] for asked, _ in made_up.asked[2:5] for _, point in asked]
    assert lengths == [1.0, 1.0, 0.6, 0.8, 1.25, 1.5, 1.25, 1.25, 1.25]
    assert {point["learning_rate"] for _, point in made_up.asked[3][0]} == {best["learning_rate"]}
    rates = {point["learning_rate"] for _, point in made_up.asked[1][0]}
    assert {point["learning_rate"] for _, point in made_up.asked[4][0]} == rates - {best["learning_rate"]}
    assert [len(one.runs[0]) for one in finished] == [3, 3, *[1] * 7], "the best two ran on two more tuning seeds"
    assert finished[0].point == best


def test_what_the_last_halving_ended_may_win_at_another_length(tune: Any) -> None:
    made_up, (_, best), _ = search(
        tune,
        "adamw",
        lambda p, step, _: 1.0 - step / 1500 + 5 * abs(p["learning_rate"] - (0.01 if step < 400 else 0.005)),
    )
    assert best["learning_rate"] not in {p["learning_rate"] for _, p in made_up.asked[2][0]}


def test_where_all_miss_the_better_final_metric_is_taken(tune: Any) -> None:
    made_up, (_, best), finished = search(
        tune, "sgd_momentum", lambda p, step, _: 2.0 + p["learning_rate"] - 1e-4 * step
    )
    scores = {tune.score(one, made_up.facts, [made_up]) for one in finished}
    assert scores == {"4.000 (1 missed)"}, "all end far from the target: a miss is two budgets"
    assert best["learning_rate"] == min(p["learning_rate"] for _, p in made_up.asked[0][0])
    assert best["horizon"] == 1.0, "equal in everything: the earlier"


def test_a_method_without_a_schedule_has_no_length_to_find(tune: Any) -> None:
    made_up, _, finished = search(tune, "schedule_free_adamw", lambda p, step, _: 2.0 - step * p["learning_rate"])
    assert [len(points) for points, _ in made_up.asked] == [8, 4, 2, 2, 6]
    assert len(finished) == 4


def test_with_one_dimension_all_else_is_at_its_default_and_the_defaults_run_too(tune: Any) -> None:
    defaults = submission.read_info(discovery.find("submissions", "muon")).defaults
    made_up, (_, best), finished = search(
        tune, "muon", lambda p, step, _: 2.0 - step * p["learning_rate"] / 10, points=4, dimensions=1
    )
    assert [len(points) for points, _ in made_up.asked] == [4, 2, 1, 6]
    drawn = [point for _, point in made_up.asked[0][0]]
    assert all(point | {"learning_rate": 0} == defaults | {"learning_rate": 0} for point in drawn)
    assert best["learning_rate"] == max(point["learning_rate"] for point in drawn)
    assert made_up.asked[2][0] == [("muon", defaults)], "on the same seed as the others, and it may be a finalist"
    page = tune.page("muon", "cpu", [made_up], 4, made_up.facts, finished)
    assert "4 points over learning_rate; " in page
    assert "python scripts/tune.py muon suite=cpu --points 4 --dimensions 1`" in page


def test_each_suite_has_its_table_in_the_page(tune: Any) -> None:
    tables = {
        suite: "\n".join([tune.BEGIN.format(suite), f"the table of {suite}", tune.END]) for suite in ("demo", "cpu")
    }
    text = tune.on_page("# muon\n", "demo", tables["demo"])
    text = tune.on_page(text, "cpu", tables["cpu"]) + "\n## After\n"
    assert text.index(tables["demo"]) < text.index(tables["cpu"]) < text.index("## After")
    again = tune.on_page(text, "demo", tables["demo"].replace("the table", "another"))
    assert "another of demo" in again
    assert "the table of demo" not in again
    assert tables["cpu"] in again
    assert again.count("## Tuning") == 1


def test_defaults_and_page_are_written_and_nothing_else(
    tune: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = discovery.find("submissions", "muon").path
    folder = shutil.copytree(source, tmp_path / "submissions" / "muon")
    made_up, best, finished = search(
        tune, "muon", lambda p, step, _: 2.0 - step * p["learning_rate"] / 10 * p["horizon"]
    )
    monkeypatch.setattr(tune, "ROOT", tmp_path)
    monkeypatch.setattr(tune.discovery, "find", lambda kind, name: discovery.Folder("submissions", name, folder))
    tune.write_defaults("muon", best, made_up.moved)
    new, old = (submission.read_info(discovery.Folder("submissions", "muon", path)) for path in (folder, source))
    changed = ("learning_rate", "adam_learning_rate", "horizon")
    assert new.defaults == old.defaults | {name: best[1][name] for name in changed}
    assert new.space == old.space
    page = tune.page("muon", "demo", [made_up], 8, made_up.facts, finished)
    once = tune.on_page("# muon\n\nText.\n", "demo", page)
    assert once.startswith("# muon\n\nText.\n\n## Tuning\n")
    assert tune.on_page(once + "\nMore.\n", "demo", page) == once + "\nMore.\n", "in its place"
    assert "missed, " not in page
    assert page.count("\n| ") == 2 + len(finished)
