"""State that a submission keeps in Python is frozen when it is traced: it is found, and honest submissions are left
alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import SubmissionError
from harness.program import discovery, submission
from harness.program.build import build_algorithm, task_view
from harness.program.exporting import _batch, _batches, stated
from harness.program.pure import check_pure

ROOT = Path(__file__).resolve().parents[3]
WORKLOAD = discovery.load_workload(discovery.find("workloads", "quadratic"))
TASK = task_view(WORKLOAD, 100)
HEAD = """
import collections, functools, itertools, random, time
import jax
import jax.numpy as jnp
import numpy as np
import optax
from harness.api import Algorithm
from harness.optim.optax_adapter import from_optax
"""


def looked_at(path: Path, point: dict) -> None:
    folder = discovery.Folder("submissions", path.name, path)
    discovery.unload(folder)
    algorithm = build_algorithm(folder, TASK, point)
    shapes = stated(WORKLOAD)
    batch = _batch(WORKLOAD, shapes, WORKLOAD.info.batch_size * algorithm.candidates)
    check_pure(WORKLOAD, algorithm, batch, _batches(WORKLOAD, shapes, algorithm.recalibration_batches), path)


def said(tmp_path: Path, source: str) -> str:
    """Return what is said of a submission with this source; empty where nothing is."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "submission.py").write_text(HEAD + source)
    try:
        looked_at(folder, {"lr": 0.1})
    except SubmissionError as error:
        return str(error).replace(str(tmp_path), "")
    return ""


def algorithm(before: str = "pass", **bodies: str) -> str:
    """Return a submission that is SGD but for the parts given; `scale` multiplies the step."""
    parts = {"init": "pass", "step": "scale = 1.0", "evaluate": "pass", "top": ""} | bodies
    return f"""
{parts["top"]}
def build(task, hp):
    base = from_optax(optax.sgd(hp["lr"]))
    {before}
    def init(params, key):
        {parts["init"]}
        return base.init(params, key)
    def step(loss, state, batch, key):
        {parts["step"]}
        new, metrics = base.step(loss, state, batch, key)
        params = jax.tree.map(lambda old, new: old + scale * (new - old), state.params, new.params)
        return new._replace(params=params), metrics
    def eval_variables(loss, state, batches, key):
        {parts["evaluate"]}
        return state.params, state.model_state
    return Algorithm(init, step, eval_variables)
"""


LINES = "\n        "
FROZEN = {
    "a counter in a closure": (
        algorithm("n = [0]", step="n[0] += 1; scale = min(1.0, n[0] / 50)"),
        "/mine/submission.py: step() changes n[0] when it is traced; it is traced once, and the",
    ),
    "a nonlocal": (algorithm("n = 0", step="nonlocal n; n += 1; scale = min(1.0, n / 50)"), "step() changes n when"),
    "one that matters every tenth step only": (
        algorithm("n = [0]", step="n[0] += 1; scale = 2.0 if n[0] % 10 == 0 else 1.0"),
        "step() changes n[0] when",
    ),
    "one of the module": (
        algorithm(top="N = 0", step="global N; N += 1; scale = min(1.0, N / 50)"),
        "step() changes N when",
    ),
    "an attribute": (
        algorithm(
            top="class Warmup:\n    steps = 0\n    def __call__(self):\n        self.steps += 1\n        return "
            "min(1.0, self.steps / 50)",
            before="warmup = Warmup()",
            step="scale = warmup()",
        ),
        "step() changes warmup.steps when",
    ),
    "an attribute of a function": (
        algorithm(step="step.n = getattr(step, 'n', 0) + 1; scale = min(1.0, step.n / 50)"),
        "step() changes step.n when",
    ),
    "a mutable default": (
        algorithm(top="def count(n=[0]):\n    n[0] += 1\n    return n[0]", step="scale = 1.0 if count() < 99 else 2.0"),
        "step() changes a default of count[0] when",
    ),
    "a numpy array": (
        algorithm("n = np.zeros(1)", step="n[0] += 1; scale = float(n[0])"),
        "step() changes n when",
    ),
    "within a jitted function": (
        algorithm(
            "n = [0]",
            step="scale = scaled(1.0)",
        ).replace(
            "    def init(",
            "    @jax.jit\n    def scaled(x):\n        n[0] += 1\n        return x * n[0]\n    def init(",
        ),
        "step() changes n[0] when",
    ),
    "within a scan": (
        algorithm("n = [0]", step="scale = jax.lax.scan(body, 1.0, None, length=2)[0]").replace(
            "    def init(",
            "    def body(c, _):\n        n[0] += 1\n        return c * n[0], None\n    def init(",
        ),
        "step() changes n[0] when",
    ),
    "within a branch": (
        algorithm("n = [0]", step="scale = jax.lax.cond(state.step > 3, branch, lambda: 1.0)").replace(
            "    def init(", "    def branch():\n        n[0] += 1\n        return 1.0 * n[0]\n    def init("
        ),
        "step() changes n[0] when",
    ),
    "within a schedule": (
        """
def build(task, hp):
    calls = []
    def schedule(count):
        calls.append(1)
        return hp["lr"] * min(1.0, len(calls) / 50)
    return optax.inject_hyperparams(optax.sgd)(learning_rate=schedule)
""",
        "() changes len(calls) when it is traced",
    ),
    "in init": (algorithm("n = [0]", init="n[0] += 1"), "init() changes n[0] when"),
    "in eval_variables": (algorithm("n = [0]", evaluate="n[0] += 1"), "eval_variables() changes n[0] when"),
    "a list of gradients": (
        algorithm(
            "kept = []",
            step=f"(_, _), grads = loss.value_and_grad(state.params, state.model_state, batch, key){LINES}"
            f"kept.append(grads){LINES}scale = 1.0",
        ),
        "step() changes len(kept) when",
    ),
    "a mean of gradients": (
        algorithm(
            "mean = None",
            step=f"nonlocal mean{LINES}(_, _), grads = loss.value_and_grad(state.params, state.model_state, batch, key)"
            f"{LINES}mean = grads if mean is None else jax.tree.map(jnp.add, mean, grads)"
            f"{LINES}scale = 1 + optax.tree.norm(mean)",
        ),
        "step() uses an array that Python kept from an earlier call",
    ),
    "the first parameters, kept by init": (
        algorithm(
            "kept = {}", init="kept['first'] = params", step="scale = 1 + optax.tree.norm(kept['first'])"
        ),
        "step() uses an array that Python kept from an earlier call",
    ),
    "an iterator": (algorithm("n = iter(range(9))", step="scale = next(n)"), "step() is another program when"),
    "a count every tenth time": (
        algorithm("n = itertools.count(1)", step="scale = 2.0 if next(n) % 10 == 0 else 1.0"),
        "step() changes n when",
    ),
    "a generator": (
        algorithm("n = (i / 50 for i in range(50))", step="scale = next(n)"),
        "step() is another program when",
    ),
    "random numbers of Python": (algorithm(step="scale = random.random()"), "step() is another program when"),
    "random numbers of numpy": (
        algorithm("rng = np.random.default_rng(0)", step="scale = float(rng.normal())"),
        "step() is another program when",
    ),
    "the time": (algorithm(step="scale = time.perf_counter()"), "step() is another program when"),
}  # fmt: skip


@pytest.mark.parametrize("name", FROZEN)
def test_what_python_keeps_is_found(tmp_path: Path, name: str) -> None:
    source, says = FROZEN[name]
    told = said(tmp_path, source)
    assert says in told
    assert "keep the value in the optimizer's state" in told
    assert "\n" not in told


HONEST = {
    "nothing": algorithm(),
    "a cache of shapes": algorithm(
        "shapes = {}", step="shapes.setdefault(state.params['linear']['kernel'].shape, 2.0); scale = 1.0"
    ),
    "functools.cache": algorithm(
        top="@functools.cache\ndef table(n):\n    return float(n)", step="scale = table(state.step.ndim) + 1"
    ),
    "a note that init makes": algorithm("note = {}", init="note['leaves'] = 2", step="scale = 0.5 * note['leaves']"),
    "a list filled anew each time": algorithm(step="parts = []; parts.append(1.0); scale = sum(parts)"),
    "a key of build's": algorithm("noise = jax.random.key(0)", step="scale = jax.random.uniform(noise)"),
    "an array of build's": algorithm("table = jnp.arange(3.0)", step="scale = table[1]"),
    "every tenth step, by state.step": algorithm(
        step="scale = jax.lax.cond(state.step % 10 == 0, lambda: 2.0, lambda: 1.0)"
    ),
}


@pytest.mark.parametrize("name", HONEST)
def test_what_changes_nothing_is_left_alone(tmp_path: Path, name: str) -> None:
    assert said(tmp_path, HONEST[name]) == ""


@pytest.mark.parametrize("call", ["jax.debug.print('{}', state.step)", "jax.debug.callback(print, state.step)"])
@pytest.mark.parametrize("part", ["step", "evaluate"])
def test_a_callback_is_found_with_its_line(tmp_path: Path, call: str, part: str) -> None:
    source = algorithm(**{part: f"{call}; scale = 1.0"})
    line = (HEAD + source).splitlines().index(f"        {call}; scale = 1.0") + 1
    told = said(tmp_path, source)
    assert told.startswith(f"/mine/submission.py:{line}: a callback to the host (jax.debug.print, jax.pure_callback)")
    assert "or run `harness check NAME --debug`, where prints appear" in told


GOOD = [
    *(folder.path for folder in discovery.find_all("submissions").values()),
    *sorted(path.parent for path in (ROOT / "tests/algorithms").glob("*/submission.py")),
]


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.name)
def test_honest_submissions_pass(path: Path) -> None:
    looked_at(path, submission.read_info(discovery.Folder("submissions", path.name, path)).defaults)
