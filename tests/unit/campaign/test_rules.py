"""Rulesets: what each asks for, and the points of a submission under it: seeded, distinct over studies, recorded."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.campaign import config, hyperparameters
from harness.campaign.config import compose
from harness.errors import ConfigError, RunFolderError, SubmissionError
from harness.program import discovery, search_space, submission
from harness.program.discovery import Folder
from harness.program.submission import Dimension, SubmissionInfo
from harness.record.spec import Rules, RunSpec

YAML: dict[str, Any] = {
    "name": "mine", "description": "x", "authors": ["me"], "licence": "MIT", "tuning": "external",
    "defaults": {"lr": 0.1, "decay": 0.0, "warmup": 5},
    "space": {"lr": {"min": 1e-3, "max": 1.0, "scaling": "log"}, "decay": {"min": 0.0, "max": 1.0}},
}  # fmt: skip


@pytest.fixture
def make(tmp_path: Path):
    """Return a function that makes a submission folder: fields of its yaml, and an AlgoPerf search space."""

    def make(algoperf: Any = None, **fields: Any) -> Folder:
        folder = tmp_path / "mine"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "submission.py").write_text("")
        held = {k: v for k, v in (YAML | fields).items() if v is not None}
        (folder / "submission.yaml").write_text(yaml.safe_dump(held, sort_keys=False))
        if algoperf is not None:
            (folder / discovery.SEARCH_SPACE).write_text(
                algoperf if isinstance(algoperf, str) else json.dumps(algoperf)
            )
        return Folder("submissions", "mine", folder)

    return make


def run_of(tmp_path: Path, *words: str) -> RunSpec:
    return compose(["device=cpu", f"out={tmp_path / 'runs'}", *words])


def points_of(folder: Folder, run: RunSpec) -> hyperparameters.Points:
    info = submission.read_info(folder)
    return hyperparameters.points_of(folder, info, hyperparameters.rules_for(run.rules, info), run)


# ---- the files


@pytest.mark.parametrize(
    ("name", "studies", "trials", "factor", "counts", "own"),
    [
        ("quick", 1, 1, 1.0, "fastest", None),
        ("external", 3, 5, 1.0, "fastest", ("self", 1.5)),
        ("self", 3, 1, 1.5, "fastest", None),
        ("tuned", 7, 5, 1.0, "fresh_seeds", None),
        ("algoperf_v05", 5, 5, 1.0, "fastest", ("algoperf_v05_self", 3.0)),
        ("algoperf_v06", 3, 5, 1.0, "fastest", ("algoperf_v06_self", 1.5)),
        ("speedrun", 8, 1, 1.0, "mean", None),
    ],
)
def test_what_each_asks_for(name: str, studies: int, trials: int, factor: float, counts: str, own: Any) -> None:
    rules = compose([f"rules={name}"]).rules
    assert (rules.studies, rules.trials, rules.budget_factor, rules.counts) == (studies, trials, factor, counts)
    assert (rules.self_tuning and (rules.self_tuning.rules, rules.self_tuning.budget_factor)) == own
    assert (rules.stop == "horizon") == (counts == "mean"), "nothing is stopped on the validation metric"
    text = config.options("rules")[name][0].read_text()
    spelled = {"studies", "trials", "budget_factor", "points", "counts", "stop", "clock", "free_batch_size"}
    assert spelled | {"score_compile", "compile_cap_cpu_s", "compile_cap_gpu_s"} <= set(yaml.safe_load(text))


def test_every_ruleset_is_described() -> None:
    readme = (config.folders()[0] / "rules" / "README.md").read_text()
    assert [name for name in config.options("rules") if f"| `{name}` |" not in readme] == []


def test_self_tuned_submissions_run_by_the_self_tuning_rules(make, tmp_path: Path) -> None:
    info = submission.read_info(make(tuning="self"))
    own = hyperparameters.rules_for(compose(["rules=external"]).rules, info)
    assert replace(own, self_tuning=None) == replace(compose(["rules=self"]).rules), "the same trials as by rules=self"
    v05 = hyperparameters.rules_for(compose(["rules=algoperf_v05"]).rules, info)
    assert (v05.name, v05.studies, v05.trials, v05.budget_factor) == ("algoperf_v05_self", 5, 1, 3.0)
    assert hyperparameters.rules_for(compose(["rules=tuned"]).rules, info).trials == 1, "there is nothing to tune"
    found = points_of(make(tuning="self"), run_of(tmp_path, "rules=external"))
    assert found.studies == (({"lr": 0.1, "decay": 0.0, "warmup": 5},),) * 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rules=speedrun", "stop=target"], "no trial may end at the target"),
        (["steps=100"], "a length is declared with rules=speedrun; for a smoke test use max_steps=100"),
        (["rules=speedrun", "steps=0"], "configuration: steps: expected a number above 0"),
        (["rules=tuned", "variant=wide"], "held-out variants are never tuned on"),
        (["rules=speedrun", "variant=all"], "tested against a target, and held-out variants have none"),
        (["rules=external", "rules.self_tuning.budget_factor=-1"], "unknown key"),
        (["studies=0"], "configuration: studies: expected a number above 0"),
    ],
)
def test_what_does_not_fit_together_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(words)


# ---- points


def test_points_are_seeded_and_distinct_over_studies(make, tmp_path: Path) -> None:
    folder = make()
    found = points_of(folder, run_of(tmp_path, "rules=external"))
    assert [len(study) for study in found.studies] == [5, 5, 5]
    flat = [json.dumps(point) for study in found.studies for point in study]
    assert len(set(flat)) == 15
    assert points_of(folder, run_of(tmp_path, "rules=external")) == found
    assert points_of(folder, run_of(tmp_path, "rules=external", "seed=1")) == found, "a nonce moves no point"
    longer = points_of(folder, run_of(tmp_path, "rules=external", "studies=4")).studies
    assert longer[:3] == found.studies, "another study takes nothing away"
    assert found.origin == "lr, decay: scrambled Halton sequence, seed 0"


INFO = SubmissionInfo("x", "", ("me",), "MIT", "external", {"lr": 0.1, "layers": 2, "kind": "a"})
DIMENSIONS = {
    "lr": Dimension(1e-4, 1e-1, "log"),
    "layers": Dimension(1.0, 6.0),
    "kind": Dimension(values=("a", "b", "c")),
}


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.sampled_from(sorted(DIMENSIONS)), min_size=1, unique=True),
    count=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_points_of_any_space_differ_or_are_refused(names: list[str], count: int, seed: int) -> None:
    info = replace(INFO, space=DIMENSIONS)
    room = {"lr": 10**9, "layers": 6, "kind": 3}
    there = 1
    for name in names:
        there *= room[name]
    try:
        found = search_space.distinct_points(info, names, count, seed)
    except SubmissionError as error:
        assert there < 2 * count, "only a space that is nearly used up may be refused"
        assert f"{count} different points are needed" in str(error)
        return
    assert len({json.dumps(point) for point in found}) == len(found) == count <= there
    assert found == search_space.distinct_points(info, names, count, seed)
    assert found[: count // 2] == search_space.distinct_points(info, names, max(count // 2, 1), seed)[: count // 2]
    for point in found:
        assert 1e-4 <= point["lr"] <= 1e-1
        assert type(point["layers"]) is int
        assert 1 <= point["layers"] <= 6
        assert point["kind"] in ("a", "b", "c")


def test_hp_pins_a_dimension(make, tmp_path: Path) -> None:
    found = points_of(make(), run_of(tmp_path, "rules=external", "hp.lr=0.5"))
    assert {point["lr"] for study in found.studies for point in study} == {0.5}
    assert len({point["decay"] for study in found.studies for point in study}) == 15
    both = points_of(make(), run_of(tmp_path, "rules=external", "hp.lr=0.5", "hp.decay=1"))
    assert (both.trials, both.drawn) == (1, False), "one point is left: there is nothing to search"
    with pytest.raises(ConfigError, match="did you mean 'decay'"):
        points_of(make(), run_of(tmp_path, "rules=external", "hp.decoy=1"))


def test_a_submission_without_a_space_has_its_defaults(make, tmp_path: Path) -> None:
    found = points_of(make(space=None), run_of(tmp_path, "rules=external"))
    assert found.studies == (({"lr": 0.1, "decay": 0.0, "warmup": 5},),) * 3, "and is not run five times for luck"


@pytest.mark.parametrize("where", ["yaml", "algoperf"])
def test_a_list_of_its_own_is_taken_in_order_by_every_study(make, tmp_path: Path, where: str) -> None:
    own = [{"lr": 1, "decay": 0.1}, {"lr": 0.2}, {"lr": 0.3}, {"lr": 0.2}]
    folder = make(points=own, space=None) if where == "yaml" else make(own, space=None)
    expected = ({"lr": 1.0, "decay": 0.1, "warmup": 5}, {"lr": 0.2, "decay": 0.0, "warmup": 5})
    found = points_of(folder, run_of(tmp_path, "rules=external"))
    assert found.studies[0][:2] == expected
    assert [len(study) for study in found.studies] == [3, 3, 3], "the same point twice is no second trial"
    assert len(set(map(str, found.studies))) == 1
    assert points_of(folder, run_of(tmp_path, "rules=external", "trials=2")).studies == (expected,) * 3


def test_algoperfs_search_space_is_read(make, tmp_path: Path) -> None:
    space = {"lr": {"min": 1e-4, "max": 1e-2, "scaling": "log"}, "warmup": {"feasible_points": [1, 2]}}
    folder = make(space, space=None)
    info = submission.read_info(folder)
    assert info.space == {"lr": Dimension(1e-4, 1e-2, "log"), "warmup": Dimension(values=(1, 2))}
    before = folder.source_hash
    (folder.path / discovery.SEARCH_SPACE).write_text(json.dumps(space | {"lr": {"min": 1e-4, "max": 0.5}}))
    assert folder.source_hash != before, "another space is another submission"


@pytest.mark.parametrize(
    ("algoperf", "fields", "message"),
    [
        ("{", {"space": None}, "tuning_search_space.json: not valid JSON"),
        ("3", {"space": None}, "expected an object of dimensions or a list of points, got 3"),
        ([], {"space": None}, "the list of points is empty"),
        ({"lr": {"min": 0.1, "max": 1.0, "scaling": "lin"}}, {"space": None}, "lr: scaling: .*linear"),
        ({"rl": {"min": 0.1, "max": 1.0}}, {"space": None}, "'rl' has no default; did you mean 'lr'"),
        ([{"lr": "a"}], {"space": None}, r"points\[0\]\.lr: expected float like the default 0.1, got 'a'"),
        ({"lr": {"min": 0.1, "max": 1.0}}, {}, "keep one of them"),
        (None, {"space": {"lr": {"values": [0.1, "b"]}}}, "space.lr: values: expected float"),
        (None, {"defaults": {"lr": "x"}, "space": {"lr": {"min": 0, "max": 1}}}, "a range is for numbers"),
        (None, {"speedrun_length": 0.0}, "speedrun_length: expected step hints"),
    ],
)
def test_a_broken_space_is_named(make, algoperf: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SubmissionError, match=message):
        submission.read_info(make(algoperf, **fields))


def test_recorded_points_are_what_counts(make, tmp_path: Path, monkeypatch) -> None:
    """The sequence of another version of scipy must not change a campaign that has begun."""
    folder, run = make(), run_of(tmp_path, "rules=external")
    found = points_of(folder, run)
    hyperparameters.record(Path(run.out), found)
    monkeypatch.setattr(
        search_space, "draw_points", lambda info, names, n, seed: [info.defaults | {"lr": i} for i in range(n)]
    )
    assert points_of(folder, run) == found
    assert points_of(folder, run_of(tmp_path, "rules=external", "seed=1")) == found
    longer = run_of(tmp_path, "rules=external", "studies=4")
    assert points_of(folder, longer).studies[0][0]["lr"] == 0, "another number of points is another file"
    file = hyperparameters.plan_file(Path(run.out), found)
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 5'))
    assert points_of(folder, run) == replace(found, seed=5), "as earlier versions wrote it"
    for text, why in ("{", "cannot be read"), ("[]", "expected a mapping"), ('{"points": []}', "unknown key"):
        file.write_text(text)
        with pytest.raises(RunFolderError, match=why):
            points_of(folder, run)


def test_rules_have_a_default_for_every_field() -> None:
    assert compose(["rules=quick"]).rules == Rules("quick")
