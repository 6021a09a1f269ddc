"""Advice on sources: what it must find, and what it must leave alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.check import new
from harness.check.advice import advise
from harness.program import discovery, submission

ROOT = Path(__file__).resolve().parents[3]
WORKLOADS = [n for n, folder in discovery.find_all("workloads").items() if discovery.workload_info(folder).scored]


def found(tmp_path: Path, source: str) -> list[str]:
    (tmp_path / "submission.py").write_text(f"{source}\nused = 'rate'\n")
    return advise(tmp_path, WORKLOADS, ("rate",))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def build(task, hp):\n    return 'lm_grammar' in str(task)", "submission.py:2: names the workload lm_gr"),
        ("import jax\nx = jax.default_backend()", "submission.py:2: jax.default_backend tells of"),
        ("import jax\nx = jax.devices()[0]", "jax.devices tells of the process that exports; task.pl"),
        ("if task.step_hint == 600: pass", "submission.py:1: asks for exact shapes or counts"),
        ("if x.shape == (64, 192): pass", "submission.py:1: asks for exact"),
        ("if x.shape[0] in (29, 65): pass", "submission.py:1: asks for exact"),
        ("if 104733 != sum(p.size for p in leaves): pass", "submission.py:1: asks for exact"),
        ("if total == 104733: pass", "submission.py:1: asks for exact"),
        ("r = {600: 0.1, 800: 0.2}[task.step_hint]", "submission.py:1: asks for exact"),
        ("T = {1200: 1}\nr = T.get(task.num_train_examples, 2)", "submission.py:2: asks for exact"),
        ("def build(task, hp):\n    def update(g, s):\n        print(g)", "submission.py:3: print shows nothing"),
        ("match task.batch_size:\n    case 32: pass", "submission.py:1: asks for exact"),
    ],
)  # fmt: skip
def test_found(tmp_path: Path, source: str, says: str) -> None:
    (only,) = found(tmp_path, source)
    assert says in only


def test_a_print_is_told_of_by_what_was_typed(tmp_path: Path) -> None:
    (tmp_path / discovery.ORIGIN).write_text("mine.py")
    (told,) = found(tmp_path, "print(1)")
    assert told.startswith("mine.py:1: print") and "`harness check mine.py --debug`" in told


@pytest.mark.parametrize(
    "source",
    [
        '"""Holds no table for lm_grammar: the name stands in a docstring."""',
        "import os, time\nx = open('a.txt').read(), time.time()",
        "if x.ndim == 2 and x.shape[0] == 1 and x.shape[-1] % 128 == 0: pass",
        "if task.step_hint > 1000 and x.size >= 4096: pass",
        "if x.shape[0] == x.shape[1]: pass",
        "if state.step == 2000 or hp['rank'] == 1024: pass",
        "y = losses[: task.batch_size]",
        "z = {'a': 1}[name]\nx = table[task.batch_size]",
        "s = 'resnet'",
        "if __name__ == '__main__':\n    print(build(None, {}))",
        "def build(task, hp)\n    'does not parse'",
    ],
)
def test_left_alone(tmp_path: Path, source: str) -> None:
    assert found(tmp_path, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "def build(task, hp):\n    return hp['rate']",
        "def build(task, hp):\n    return made(**hp)\ndef made(**settings): ...",
        "def build(task, hp):\n    return made(*hp.values())\ndef made(rate): ...",
    ],
)
def test_a_hyperparameter_that_is_read(tmp_path: Path, source: str) -> None:
    (tmp_path / "submission.py").write_text(source)
    assert advise(tmp_path, (), ("rate",)) == []


def test_a_hyperparameter_that_nothing_reads(tmp_path: Path) -> None:
    (tmp_path / "submission.py").write_text("from .rule import rule\ndef build(task, hp):\n    return rule(hp)\n")
    (tmp_path / "rule.py").write_text("def rule(hp):\n    return hp['beta']\n")
    (only,) = advise(tmp_path, (), ("beta", "rate"))
    assert only == "submission.yaml: nothing reads the hyperparameter 'rate'; use it in build, or remove it"


GOOD = [
    *(folder.path for folder in discovery.find_all("submissions").values()),
    *sorted(path.parent for path in (ROOT / "tests/algorithms").glob("*/submission.py")),
    *sorted(path.parent for path in new.TEMPLATES.glob("*/submission.py")),
]


@pytest.mark.parametrize("folder", GOOD, ids=lambda path: path.name)
def test_honest_submissions_pass(folder: Path) -> None:
    info = submission.read_info(discovery.Folder("submissions", folder.name, folder))
    assert advise(folder, WORKLOADS, info.defaults) == []
