"""`harness calibrate` and `harness sensitivity` in real processes, on two toys."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def harness(*words: str) -> dict:
    command = [sys.executable, "-m", "harness.cli", *words, "device=cpu", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """A folder with a second toy, whose inputs are better conditioned."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    easy = tmp_path / "workloads" / "easy"
    shutil.copytree(ROOT / "workloads/quadratic", easy, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in (("workload.py", '"quadratic"', '"easy"'), ("model.py", "CONDITION = 300", "CONDITION = 30")):
        text = (easy / file).read_text()
        assert old in text
        (easy / file).write_text(text.replace(old, new))


def test_one_configuration_on_two_toys(toys):
    words = ("calibrate", "adamw", "workload=quadratic,easy", "--points", "3", "hp.horizon=1.0", "hp.weight_decay=0.0")
    first = harness(*words)
    (one,) = first["submissions"]
    hard, easy = one["workloads"]
    assert one["moved"] == ["learning_rate"] and hard["chosen_on"] == ["easy"]
    # of three learning rates below the best, both toys want the largest
    assert hard["left_out"]["point"] == easy["left_out"]["point"] == one["everywhere"]
    assert hard["left_out"]["best"] > easy["left_out"]["best"], "it is the harder one"
    assert harness(*words) == first, "out of the record"


def test_learning_rates_on_a_toy(toys):
    (curve,) = harness("sensitivity", "adamw", "workload=quadratic", "--reach", "1", "hp.learning_rate=0.05")["curves"]
    assert curve["values"] == [0.025, 0.05, 0.1], "beyond the search space too"
    assert curve["start"] == pytest.approx(1.0, abs=0.1), "the loss at the toy's zero weights is 1.01, on all data"
    assert max(curve["finals"]) < 0.1 and 0 < curve["sensitivity"] < 0.05
    record = Path("runs/quadratic/adamw/sensitivity.jsonl").read_text().splitlines()
    assert [json.loads(line)["steps"][:2] for line in record] == [[0, 8]] * 3


def test_wsd_out_of_cosine_on_a_toy(toys):
    """What annealing gains is predicted to a third of it, at a learning rate where it gains some."""
    words = ("anneal", "workload=quadratic", "hp.learning_rate=0.3", "hp.weight_decay=0.0", "--train")
    (law,) = harness(*words, "--predict", "wsd,wsd@1.5")["laws"]
    cosine, constant, wsd, longer = law["schedules"]
    assert law["law"]["annealed"] and cosine["fitted"] and not wsd["fitted"]
    assert longer["steps"] == 300
    gain = constant["measured"] - wsd["measured"]
    assert gain > 0 and abs(wsd["predicted"] - wsd["measured"]) < gain / 3


HALF = '''"""AdamW that takes no step on every other batch."""

import jax
import jax.numpy as jnp
import optax

from harness.optim.schedules import warmup_linear

DEFAULTS = {"learning_rate": 0.00894}


def build(task, hp):
    adamw = optax.adamw(warmup_linear(hp["learning_rate"], task.step_hint // 2, 0.05), b2=0.98, weight_decay=0.0128)

    def update(updates, state, params=None):
        taken = lambda _: adamw.update(updates, state[1], params)
        wasted = lambda _: (jax.tree.map(jnp.zeros_like, updates), state[1])
        updates, own = jax.lax.cond(state[0] % 2 == 0, taken, wasted, None)
        return updates, (state[0] + 1, own)

    return optax.GradientTransformation(lambda params: (jnp.zeros([], jnp.int32), adamw.init(params)), update)
'''


RUNG = '''"""shrunk_gpt at width 32. It has no target, so that its module can be imported wherever programs are made."""

from dataclasses import replace

from ..shrunk_gpt import workload as base

MODEL = replace(base.MODEL, width=32, heads=4)
INFO = replace(base.INFO, name="shrunk_gpt_w32")


def data():
    return replace(base.data(), info=INFO)


def load():
    from ..families import gpt

    return gpt.make(data(), MODEL)
'''


def test_who_wastes_half_of_the_data_needs_twice_as_much(tmp_path, monkeypatch):
    """A rung beside a toy, and a submission that is told each length as its step hint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("families", "shrunk_gpt"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "workloads" / name, tmp_path / "workloads" / name, ignore=skip)
    (tmp_path / "workloads/shrunk_gpt_w32").mkdir()
    (tmp_path / "workloads/shrunk_gpt_w32/workload.py").write_text(RUNG)
    (tmp_path / "half.py").write_text(HALF)
    words = ("ladder", "adamw", "workload=shrunk_gpt", "--baseline", "half.py", "--widths", "32")
    found = harness(*words, "--ratios", "0.125,0.25", "--seeds", "1")
    assert [(one["workload"], one["steps"]) for one in found["rungs"]] == [("shrunk_gpt_w32", n) for n in (25, 50)]
    first, second = found["speed_ups"]
    assert 1.6 < first["speed_up"] < 2.5 and not first["interval"], "without chance it were 2"
    assert second["extrapolated"], "the baseline was run with 71 steps at most"
