"""Records keep their runs over a refactor that changed no bit, and over no other change."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from harness.errors import WorkloadError
from harness.program import discovery
from harness.search import restamp, targets
from harness.search.restamp import Restamp, _Trained

ROOT = Path(__file__).resolve().parents[3]
QUADRATIC = discovery.Folder("workloads", "quadratic", ROOT / "workloads/quadratic")
GOLDEN = json.loads((ROOT / "tests/golden/data/losses.json").read_text())["quadratic"]
EVALUATED = {
    ("measurement", 50): '{"loss": 0.7}',
    ("measurement", 100): '{"loss": 0.5}',
    ("final", 100): '{"loss": 0.6}',
}
EASIER = EVALUATED | {("measurement", 100): '{"loss": 0.4}'}
MEASURED_OTHERWISE = {("measurement", 25): '{"loss": 0.9}'} | {k: v for k, v in EVALUATED.items() if k[1] == 100}
PROOF = Restamp("w", "old", "new", "c" * 40, 400, "f" * 64, "0.10.2")


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Return a function that has both sources train to what it is given, before and after."""
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(tmp_path))
    (tmp_path / "workloads/quadratic").mkdir(parents=True)
    (tmp_path / "workloads/quadratic/workload.py").write_text("")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "before"]):
        subprocess.run([*git, *words], check=True)

    def set_to(before: _Trained, after: _Trained, losses: list[float] = GOLDEN) -> Path:
        monkeypatch.setattr(restamp, "_train", lambda name, root: after if root == tmp_path else before)
        monkeypatch.setattr(restamp, "_first_losses", lambda workload: losses)
        return tmp_path

    return set_to


def test_the_same_bits_are_a_proof(fake):
    same = _Trained("f" * 64, (1.0, 0.5), EVALUATED)
    root = fake(same, same)
    proof = restamp.prove(QUADRATIC, root, "HEAD", GOLDEN)
    assert (proof.steps, proof.final_hash) == (2, "f" * 64)
    assert proof.new_hash == QUADRATIC.source_hash
    assert proof.old_hash == discovery.Folder("workloads", "quadratic", root / "workloads/quadratic").source_hash
    assert len(proof.commit) == 40


def test_steps_that_both_measured_are_compared(fake):
    root = fake(_Trained("f" * 64, (1.0, 0.5), EVALUATED), _Trained("f" * 64, (1.0, 0.5), MEASURED_OTHERWISE))
    assert restamp.prove(QUADRATIC, root, "HEAD", GOLDEN).steps == 2


@pytest.mark.parametrize(
    ("after", "losses", "message"),
    [
        (_Trained("e" * 64, (1.0, 0.5), EVALUATED), GOLDEN, "the final state changed, from f"),
        (_Trained("f" * 64, (1.0, 0.5), EASIER), GOLDEN, "changed: measurement at step 100 from .*0.5.* to .*0.4"),
        (_Trained("f" * 64, (1.0, 0.5), dict(list(EVALUATED.items())[:2])), GOLDEN, "changed: none is of a step"),
        (_Trained("f" * 64, (1.0, 0.5), dict(list(EVALUATED.items())[2:])), GOLDEN, "changed: none is of a step"),
        (
            _Trained("f" * 64, (1.0, 0.5000001), EVALUATED),
            GOLDEN,
            "the training losses changed: step 2 from 0.5 to 0.5000001",
        ),
        (_Trained("f" * 64, (1.0,), EVALUATED), GOLDEN, "the training losses changed: their number"),
        (_Trained("f" * 64, (1.0, 0.5), EVALUATED), [1.001 * GOLDEN[0], *GOLDEN[1:]], "the loss at step 1 is"),
    ],
)
def test_any_change_is_none(fake, after, losses, message):
    root = fake(_Trained("f" * 64, (1.0, 0.5), EVALUATED), after, losses)
    with pytest.raises(WorkloadError, match=message):
        restamp.prove(QUADRATIC, root, "HEAD", GOLDEN)


def test_an_unknown_revision_is_named(fake):
    root = fake(_Trained("f", (), {}), _Trained("f", (), {}))
    with pytest.raises(WorkloadError, match=r"nowhere.*--against"):
        restamp.prove(QUADRATIC, root, "nowhere", GOLDEN)


def test_only_lines_of_the_old_sources_are_stamped(tmp_path):
    mixed, other = tmp_path / "mixed.jsonl", tmp_path / "other.jsonl"
    mixed.write_text('{"workload_hash": "old", "x": 0.1}\n{"workload_hash": "older", "x": 2}\n')
    other.write_text('{"workload_hash": "older"}\n')
    assert restamp.stamp([mixed, other], PROOF) == [mixed]
    first, second, told = map(json.loads, mixed.read_text().splitlines())
    assert (first, second) == ({"workload_hash": "new", "x": 0.1}, {"workload_hash": "older", "x": 2})
    assert told == {"restamp": vars(PROOF)}
    assert other.read_text() == '{"workload_hash": "older"}\n'


def test_a_record_that_is_stamped_is_read_and_keeps_its_proof(tmp_path):
    committed = ROOT / "results/targets/lm_grammar.jsonl"
    runs, step_time = targets.read_record(committed)
    record = tmp_path / "lm_grammar.jsonl"
    record.write_text(targets.record_lines(runs, step_time))
    restamp.stamp([record], Restamp("lm_grammar", runs[0].workload_hash, "new", "c" * 40, 1, "f", "0"))
    stamped, _ = targets.read_record(record)
    assert [run.workload_hash for run in stamped] == ["new"] * len(runs)
    (proof,) = targets.read_restamps(record)
    record.write_text(targets.record_lines(stamped, step_time, [proof]))
    assert targets.read_restamps(record) == [proof]
    assert targets.read_record(record)[0] == stamped
