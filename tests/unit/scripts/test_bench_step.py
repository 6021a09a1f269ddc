"""The benchmark of a step against another commit's: its table, and what it says of names that it cannot find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "bench_step.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)


def test_a_row_holds_the_ratios_of_the_turns_and_the_difference_of_the_losses():
    from bench_step import HEAD, row

    old, new = [0.030, 0.024, 0.060], [0.020, 0.020, 0.030]
    line = row("lm", "1234567", old, new, [4.0, 2.0, 1.0], [4.0, 2.0, 1.001])
    assert line == "| lm | 1234567 | 30.00 | 20.00 | 1.50 (1.20 to 2.00) | 1.20 | 1e-03 |"
    assert line.count("|") == len(HEAD) + 1
    assert row("lm", "itself", new, new, [4.0], [4.0]).endswith("| 20.00 | 20.00 | 1.00 (1.00 to 1.00) | 1.00 | same |")
    assert row("lm", "1234567", new, new, [4.0], [float("nan")]).endswith("| nan |")


def test_the_title_names_the_machine():
    from bench_step import title

    line = title({"cpu": "made up", "cores": 2, "python": "3.11"}, "0.10", 7)
    assert line.startswith("made up, 2 cores, Python 3.11, jax 0.10, ")
    assert line.endswith("; 7 turns of each")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("lm_grammar", "--against", "no_such_commit"), "git rev-parse no_such_commit^{commit}: fatal"),
        (("lm_gramar", "--against", "HEAD"), "unknown workload 'lm_gramar'; did you mean 'lm_grammar'?"),
        (("lm_grammar", "--against", "HEAD", "--submission", "adamv"), "unknown submission 'adamv'; did you mean"),
        (("lm_grammar", "--against", "HEAD", "--turns", "0"), "--turns 0: a ratio takes 1 at least"),
    ],
)
def test_it_refuses_names_that_it_cannot_find(words, said):
    done = run(*words)
    assert done.returncode == 2, done.stdout
    assert f"error: {said}" in done.stderr


def test_a_folder_outside_of_the_tree_has_no_older_commit(tmp_path):
    from bench_step import within

    from harness.errors import ConfigError
    from harness.program import discovery

    assert within(discovery.find("workloads", "lm_grammar")) == Path("workloads/lm_grammar")
    with pytest.raises(ConfigError, match="only what git knows has an older commit"):
        within(discovery.Folder("workloads", "mine", tmp_path / "mine"))
