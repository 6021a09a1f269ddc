"""What a board says of its records: whose code, versions, rules and jax are others now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.program import discovery
from harness.record import pack
from harness.record.result import Result, Status
from harness.record.run_folder import Trial
from harness.record.spec import TrialSpec
from harness.report import leaderboard, staleness
from harness.report.score_sources import Sources, print_all
from harness.search import targets

GRAMMAR = discovery.workload_info(discovery.find("workloads", "lm_grammar"))

ROOT = Path(__file__).resolve().parents[3]
LOCKED = staleness.locked_jax(ROOT / "requirements.lock")


def trial(**fields: Any) -> Trial:
    """A trial of AdamW as the folders here have it, by the rules `self`."""
    workload, submission = discovery.find("workloads", "lm_grammar"), discovery.find("submissions", "adamw")
    info = discovery.workload_info(workload)
    jax = fields.pop("jax", LOCKED[0])
    spec = TrialSpec(
        schema=1, workload="lm_grammar", workload_version=info.target.version, workload_hash=workload.source_hash,
        metric="loss", mode="min", target=info.target.value, step_hint=600, batch_size=32,
        budget_steps=info.budget_steps, reference_step_s=0.01, submission="adamw",
        submission_hash=submission.source_hash, hyperparameters={}, rules="self", stop="target", clock="calibrated",
        score_compile=False, compile_cap_s=60.0, free_batch_size=True, study=0, trial=0, seed=0, tuning=False,
        device="cpu", deterministic=True, studies=3, trials=1,
    )  # fmt: skip
    spec = replace(spec, budget_steps=round(info.budget_steps * 1.5))
    git = {"commit": "0123456789abcdef", "dirty": fields.pop("dirty", False)}
    held = {"packages": {"jax": jax}, "git": git} if jax else {}
    spec = replace(spec, **fields)
    return Trial(
        Path("x"), spec, Status.TARGET_REACHED, "", [], Result(Status.TARGET_REACHED, "", spec.id, fingerprint=held)
    )


def test_what_is_as_it_was_is_not_stale() -> None:
    assert staleness.since_published([trial(), trial(jax=None)]) == []
    assert staleness.since_published([trial(jax=LOCKED[-1])], bundled=True) == []


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"submission_hash": "old"}, "the code of adamw has changed since"),
        ({"submission": "mine"}, "the code of mine is not here"),
        ({"workload_hash": "old"}, "the code of lm_grammar has changed since, at the same version"),
        ({"workload_version": 7}, f"lm_grammar was at version 7, and is at version {GRAMMAR.target.version} now"),
        ({"workload": "gone"}, "the workload gone is not here"),
        ({"studies": 2}, "not run by the rules self as they are now: studies was 2, and is 3"),
        ({"stop": "horizon"}, "not run by the rules self as they are now: stop was horizon, and is target"),
        ({"compile_cap_s": 1.0}, "not run by the rules self as they are now: compile_cap_s was 1.0, and is 60.0"),
        ({"clock": "wall"}, "not run by the rules self as they are now: clock was wall, and is calibrated"),
        ({"budget_steps": 7}, f"the budget on lm_grammar was 7 steps, and is {3 * GRAMMAR.target.steps_to_target}"),
        ({"rules": "gone"}, "the rules gone are not in configs/rules"),
        ({"jax": "0.1.2"}, f"run under jax 0.1.2, and it is {' or '.join(LOCKED)} now"),
    ],
)  # fmt: skip
def test_what_has_changed_is_told(fields: dict[str, Any], line: str) -> None:
    (told,) = staleness.since_published([trial(**fields)])
    assert told.endswith(line)


def test_a_workload_that_is_proved_to_train_to_the_same_bits_is_not_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    now = discovery.find("workloads", "lm_grammar").source_hash
    proofs = [{"restamp": {"old_hash": old, "new_hash": new}} for old, new in (("a", "b"), ("b", now), ("c", "gone"))]
    monkeypatch.setattr(targets, "read_restamps", lambda path: proofs if path.name == "lm_grammar.jsonl" else [])
    stale = ["the code of lm_grammar has changed since, at the same version"]
    found = {was: staleness.since_published([trial(workload_hash=was)]) for was in "abcd"}
    assert found == {"a": [], "b": [], "c": stale, "d": stale}


def test_more_studies_are_by_the_rules_but_where_fresh_seeds_count() -> None:
    """Whoever looks after each study and stops at a good one chooses their number by the result."""
    rules = {name: staleness.ruleset(name) for name in ("self", "tuned")}
    assert rules["self"] and rules["tuned"]
    assert "studies" not in staleness.departures(trial(studies=rules["self"].studies + 1).spec, rules["self"])
    more = rules["tuned"].studies + 1
    assert staleness.departures(trial(studies=more).spec, rules["tuned"])["studies"] == (more, more - 1)


def test_rules_of_self_tuning_are_found_in_those_they_are_part_of() -> None:
    (line,) = staleness.since_published([trial(rules="algoperf_v05_self", clock="wall", score_compile=True, studies=5)])
    steps = GRAMMAR.target.steps_to_target
    budgets = f"the budget on lm_grammar was {3 * steps} steps, and is {6 * steps}"
    assert f"compile_cap_s was 60.0, and is 0.0, {budgets}" in line


def test_only_what_comes_with_the_harness_counts_for_a_readme(tmp_path: Path, monkeypatch) -> None:
    """The working folder and HARNESS_PATH are a machine's own."""
    (tmp_path / "submissions" / "adamw").mkdir(parents=True)
    (tmp_path / "submissions" / "adamw" / "submission.py").write_text("")
    monkeypatch.chdir(tmp_path)
    one = trial(submission_hash=discovery.find_all("submissions", bundled_only=True)["adamw"].source_hash)
    assert staleness.since_published([one], bundled=True) == []
    assert staleness.since_published([one]) == ["the code of adamw has changed since"]


def test_the_commit_that_ran_is_named_unless_files_differed_from_it() -> None:
    assert staleness.commits([trial(), trial(), trial(dirty=True), trial(jax=None)]) == ["0123456789"]
    assert staleness.commits([trial(dirty=True)]) == []


def test_readme_and_terminal_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    file = ROOT / "results" / "amd-epyc-2-cores" / "cpu-quick.tar.xz"
    changed = staleness.since_published(trials := pack.read_trials(file))
    print_all(Sources([], {file: trials}, []), json=False, csv=None)
    out = " ".join(capsys.readouterr().out.split())
    text = leaderboard.section(ROOT / "results")
    for line in changed:
        assert f"note: stale: {line}" in out
        assert line in text
    for shown in text, out:
        assert "this shows how one shared setting transfers" in shown


def test_without_a_lock_the_installed_jax_is_today_s(tmp_path: Path) -> None:
    assert len(staleness.locked_jax(tmp_path / "none")) == 1
    assert LOCKED == sorted(set(LOCKED)), "one of each lane"
