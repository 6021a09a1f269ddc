"""The lint of submissions: what it must find, and what it must leave alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.check import new
from harness.check.lint import lint
from harness.program import discovery

ROOT = Path(__file__).resolve().parents[3]
WORKLOADS = [n for n, folder in discovery.find_all("workloads").items() if discovery.workload_info(folder).scored]


def found(tmp_path: Path, source: str) -> list[str]:
    (tmp_path / "submission.py").write_text(source)
    return [("warning " if one.warning else "") + str(one) for one in lint(tmp_path, WORKLOADS)]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("text = open('table.txt').read()", "submission.py:1: open() reaches files or the environment"),
        ("from pathlib import Path", "pathlib reaches files or the environment; keep constants in the code"),
        ("import numpy as np\nw = np.load('w.npy')", "submission.py:2: numpy.load reaches files"),
        ("import jax.numpy as jnp\nw = jnp.load('w.npy')", "jax.numpy.load reaches files"),
        ("import os\nx = os.environ['HOME']", "submission.py:1: os reaches files or the environment"),
        ("from os import environ", "os reaches files or the environment"),
        ("import urllib.request", "urllib reaches the network"),
        ("import subprocess as run", "subprocess starts processes"),
        ("from concurrent.futures import ThreadPoolExecutor", "concurrent starts threads"),
        ("def f():\n    import time", "submission.py:2: time reads a clock; progress is `state.step`"),
        ("import jax\njax.config.update('jax_enable_x64', True)", "submission.py:2: jax.config changes settings"),
        ("from jax import config as c", "jax.config changes settings of jax"),
        ("import jax\nwith jax.default_matmul_precision('float32'): pass", "jax.default_matmul_precision changes"),
        ("import jax as j\nj.debug.callback(print, 1)", "jax.debug.callback calls back to the host"),
        ("import random", "random draws random numbers outside of jax; use the key"),
        ("import numpy as np\nx = np.random.normal()", "numpy.random.normal draws random numbers"),
        ("import numpy as np\nx = np.random.default_rng()", "default_rng() without a seed draws random numbers"),
        ("exec('x = 1')", "exec() reaches into the interpreter"),
        ("import sys", "sys reaches into the interpreter"),
        ("f = (lambda: 0).__globals__", "__globals__ reaches into the interpreter"),
        ("from harness.program.loss import WorkloadLoss", "uses harness.program.loss.WorkloadLoss, which is internal"),
        ("import harness", "uses harness, which is internal to the harness; allowed are harness.api, harness.optim, "),
        ("import harness.optim.muon\nx = harness.loop.SAFETY", "submission.py:2: uses harness.loop.SAFETY"),
        ("import optax\noptax.adamw = None", "changes optax, which is not its own"),
        ("import jax\njax.numpy.zeros, y = None, 1", "changes jax.numpy, which is not its own"),
        ("import jax\nsetattr(jax, 'grad', None)", "changes jax, which is not its own"),
        ("import jax\nf = getattr(jax, 'config')", "jax.config changes settings of jax"),
        ("from ..adamw import submission", "imports from outside its folder"),
        ("def step(loss, state):\n    return loss.workload.info.name", "reaches into the loss (loss.workload)"),
        ("def build(task, hp):\n    return 'lm_grammar' in str(task)", "names the workload lm_grammar"),
        ("def build(task, hp)\n    pass", "submission.py:1: does not parse: expected ':'"),
        ("if task.step_hint == 600: pass", "warning submission.py:1: asks for exact shapes or counts"),
        ("if x.shape == (64, 192): pass", "warning submission.py:1: asks for exact"),
        ("if x.shape[0] in (29, 65): pass", "warning submission.py:1: asks for exact"),
        ("if 104733 != sum(p.size for p in leaves): pass", "warning submission.py:1: asks for exact"),
        ("if total == 104733: pass", "warning submission.py:1: asks for exact"),
        ("rate = {600: 0.1, 800: 0.2}[task.step_hint]", "warning submission.py:1: asks for exact"),
        ("T = {1200: 1}\nrate = T.get(task.num_train_examples, 2)", "warning submission.py:2: asks for exact"),
        ("match task.batch_size:\n    case 32: pass", "warning submission.py:1: asks for exact"),
    ],
)  # fmt: skip
def test_found(tmp_path: Path, source: str, says: str) -> None:
    (only,) = found(tmp_path, source)
    assert says in only
    assert only.startswith("warning") == says.startswith("warning")


@pytest.mark.parametrize(
    "source",
    [
        '"""Reads no files: os.environ, open() and lm_grammar stand in a docstring."""',
        "import math, functools, dataclasses, itertools, statistics, typing, numpy as np, jax.numpy as jnp, optax",
        "from jax import random\nx = random.normal(random.key(0))",
        "from harness import api\nfrom harness.optim import schedules\nfrom harness.optax_adapter import from_optax",
        "import harness.optim.muon\nm = harness.optim.muon.muon",
        "from .rule import rule\nrule.table = 1",
        "import numpy as np\nx = np.random.default_rng(0).normal()",
        "import jax\njax.debug.print('{}', 1)\nx = jax.default_backend()",
        "def build(task, hp):\n    hp['x'] = 1\n    task.cache = 2",
        "from optax import params\ndef f(params):\n    params['x'] = 1",
        "def open(x): return x\ny = open(1)",
        "time = 3\nx = time.real",
        "def f(loss):\n    return loss.value, loss.mean()",
        "if x.ndim == 2 and x.shape[0] == 1 and x.shape[-1] % 128 == 0: pass",
        "if task.step_hint > 1000 and x.size >= 4096: pass",
        "if x.shape[0] == x.shape[1]: pass",
        "if state.step == 2000 or hp['rank'] == 1024: pass",
        "y = losses[: task.batch_size]",
        "z = {'a': 1}[name]\nx = table[task.batch_size]",
        "s = 'resnet'",
    ],
)
def test_left_alone(tmp_path: Path, source: str) -> None:
    assert found(tmp_path, source) == []


def test_each_thing_is_told_once_where_it_comes_first(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/rule.py").write_text("import os\n")
    says = found(tmp_path, "import math\nimport time\nimport os\nx = os.sep\nimport os.path\ntime.time()\n")
    assert [one.partition(" ")[0] for one in says] == ["a/rule.py:1:", "submission.py:2:", "submission.py:3:"]


GOOD = [
    *(folder.path for folder in discovery.find_all("submissions").values()),
    *sorted(path.parent for path in (ROOT / "tests/algorithms").glob("*/submission.py")),
    *sorted(path.parent for path in new.TEMPLATES.glob("*/submission.py")),
]


@pytest.mark.parametrize("folder", GOOD, ids=lambda path: path.name)
def test_honest_submissions_pass(folder: Path) -> None:
    assert list(map(str, lint(folder, WORKLOADS))) == []
