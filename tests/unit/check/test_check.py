"""`harness check` finds planted faults, one for each check, and says what and how to mend; toys are what it runs on."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import jax
import jax.experimental.compilation_cache.compilation_cache
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from harness.check import command, static
from harness.check.findings import CHECKS, Finding, Report
from harness.cli import main as cli
from harness.program import discovery, submission
from harness.program.discovery import Folder
from harness.trial.checkpoints import Checkpoints
from harness.trial.compare import counted_compilations, difference, differing_bits, snapshot
from harness.trial.conformance import Reporter, examine, toys
from harness.trial.conformance_checks import Trainer

ROOT = Path(__file__).resolve().parents[3]
README = "# mine\n\nWhat it is, which paper it follows, what differs from it, what was measured, on what, and when.\n"
YAML = {
    "name": "mine",
    "description": "a rule",
    "authors": ["me"],
    "licence": "MIT",
    "tuning": "external",
    "defaults": {"lr": 0.05},
    "space": {"lr": {"min": 0.01, "max": 0.1, "scaling": "log"}},
}
HEAD = """
import itertools
import random
import time
import jax
import jax.numpy as jnp
import numpy as np
import optax
from harness.api import Algorithm, Control
from harness.optim.optax_adapter import from_optax
"""


@pytest.fixture
def folder(tmp_path: Path):
    """Return a function (source, fields of submission.yaml) -> a complete submission folder."""

    def make(source: str, **fields) -> Folder:
        path = tmp_path / "mine"
        path.mkdir(exist_ok=True)
        (path / "submission.py").write_text(HEAD + source)
        (path / "submission.yaml").write_text(yaml.safe_dump(YAML | fields))
        (path / "README.md").write_text(README)
        return Folder("submissions", "mine", path)

    return make


@pytest.fixture(autouse=True, scope="module")
def compile_cache(tmp_path_factory: pytest.TempPathFactory):
    """What is built again and again here is compiled once, as in the subprocess."""
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("xla")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    jax.experimental.compilation_cache.compilation_cache.reset_cache()


def examined(folder: Folder) -> dict[str, list[str]]:
    """Return the findings by check, on the quadratic alone and in this process."""
    answers = io.StringIO()
    discovery.unload(folder)
    quadratic = discovery.find("workloads", "quadratic")
    examine(folder, submission.read_info(folder), quadratic, Reporter(answers, "quadratic", folder.path), thorough=True)
    ends = [a for a in map(json.loads, answers.getvalue().splitlines()) if "end" in a]
    return {answer["end"]: answer["findings"] for answer in ends}


def algorithm(**parts: str) -> str:
    """Return a submission that is plain SGD but for the parts given: the bodies of its functions."""
    bodies = {
        "before": "",
        "init": "return base.init(params, key)",
        "step": "return base.step(loss, state, batch, key)",
        "evaluate": "return state.params, state.model_state",
        "control": "return None",
        "sizes": "()",
    } | parts
    return f"""
{bodies["before"]}
def build(task, hp):
    base = from_optax(optax.sgd(hp["lr"]))
    counter = itertools.count()
    def init(params, key):
        {bodies["init"]}
    def step(loss, state, batch, key):
        {bodies["step"]}
    def eval_variables(loss, state, batches, key):
        {bodies["evaluate"]}
    def control(progress):
        {bodies["control"]}
    return Algorithm(init, step, eval_variables, batch_sizes={bodies["sizes"]}, control=control)
"""


NUDGED = "new, metrics = base.step(loss, state, batch, key)\n        x = {}\n        return new._replace(params=jax.tree.map(lambda p: p + x, new.params)), metrics"  # noqa: E501
HOST = "jax.pure_callback(np.float32, jax.ShapeDtypeStruct((), jnp.float32), state.step)"
STATEFUL = "jax.lax.rng_uniform(jnp.float32(0), jnp.float32(1), ())"  # draws on from where the last run of it ended
NO_CALLBACK = (
    "mine/submission.py: a callback to the host (jax.debug.print, jax.pure_callback) cannot be part of a program"
)


def test_a_sound_submission_passes_every_check(folder) -> None:
    found = examined(folder(algorithm()))
    assert found == {check: [] for check in CHECKS if check not in ("metadata", "size", "lint")}


FAULTS = [
    ("build", "build must take (task, hp)", "def build(task): ..."),
    ("build", "KeyError in build: 'momentum'", "def build(task, hp): return optax.sgd(hp['momentum'])"),
    ("build", "mine/submission.py: jax.default_backend() tells of the process that exports",
     "def build(task, hp): return optax.sgd(0.1 if jax.default_backend() == 'cpu' else 0.2)"),
    ("contract", "put a random key into opt_state['key']", algorithm(init="return {'key': key}")),
    ("contract", "step() changed the shape of params['linear']['bias'] from (4,) to (1,); return (4,)",
     algorithm(step="new, m = base.step(loss, state, batch, key)\n        return new._replace(params={'linear': "
                    "new.params['linear'] | {'bias': jnp.zeros(1)}}), m")),
    ("contract", "'loss' in it; got ['value']",
     algorithm(step="return base.step(loss, state, batch, key)[0], {'value': 1.0}")),
    ("contract", "eval_variables may run the loss forward but takes no gradient",
     algorithm(evaluate="loss.value_and_grad(state.params, state.model_state, batches, key)")),
    ("contract", "eval_variables() changed the tree of params",
     algorithm(evaluate="return state.params['linear'], state.model_state")),
    ("contract", NO_CALLBACK, algorithm(step=NUDGED.format(HOST))),
    ("contract", NO_CALLBACK,
     algorithm(evaluate="jax.debug.print('{}', state.step)\n        return state.params, state.model_state")),
    ("contract", "mine/submission.py: step_32 holds 4",
     algorithm(before="TABLE = np.arange(10_000.0, dtype='float32')",
               step=NUDGED.format("jnp.asarray(TABLE)[state.step]"))),
    ("contract", "mine/submission.py: jax.devices() tells of the process that exports; task.platform tells",
     algorithm(init="jax.devices()\n        return base.init(params, key)")),
    ("inputs", "step changed batch['mine'] in place; make a new tree, as in {**old, 'name': new}",
     algorithm(step="batch['mine'] = key\n        return base.step(loss, state, batch, key)")),
    ("inputs", "step changed state.params['linear']['bias'] in place",
     algorithm(step="state.params['linear']['bias'] = jnp.ones(4)\n        return state, {'loss': jnp.float32(1)}")),
    ("inputs", "build changed task.params['linear']['bias'] in place",
     "def build(task, hp):\n    del task.params['linear']['bias']\n    return optax.sgd(0.1)"),
    ("space", "at {'lr': 0.1}: ", "def build(task, hp):\n    assert hp['lr'] < 0.09\n    return optax.sgd(hp['lr'])"),
    ("training", "NaN or infinity within 20 steps, first in loss at step 6; lower the default learning rate",
     algorithm(step=NUDGED.format("jnp.where(state.step == 4, jnp.nan, 0)"))),
    ("training", "NaN or infinity in the parameters after 20 steps",
     algorithm(step=NUDGED.format("jnp.where(state.step == 19, jnp.inf, 0)"))),
    ("training", "NaN or infinity in what is evaluated",
     algorithm(evaluate="return jax.tree.map(lambda p: p / 0, state.params), state.model_state")),
    ("training", "NaN or infinity within 2 steps of batch size 16",
     algorithm(sizes="(16,)", step=NUDGED.format("0 if len(batch['x']) == 32 else jnp.nan"))),
    ("determinism", "run twice with the same keys, params['linear']['bias'] differs; draw from the key of step",
     algorithm(step=NUDGED.format(STATEFUL))),
    ("determinism", "eval_variables gives other bits for the same key (params['linear']['bias'])",
     algorithm(evaluate=f"x = {STATEFUL}"
               + "\n        return jax.tree.map(lambda p: p + x, state.params), state.model_state")),
    ("determinism", "built twice from the same hyperparameters, params['linear']['bias'] differs",
     "COUNT = itertools.count(1)\ndef build(task, hp): return optax.sgd(hp['lr'] / next(COUNT))"),
    ("determinism", "imported anew, params['linear']['bias'] differs after 20 steps; something is drawn",
     "DRAWN = random.random()\ndef build(task, hp): return optax.sgd(hp['lr'] * DRAWN)"),
    ("control", "asks for batch size 7; add it to batch_sizes, which has [16, 32]",
     algorithm(sizes="(16,)", control="return Control(batch_size=7)")),
    ("control", "control at step 0 returned int; return a harness.api.Control or None", algorithm(control="return 16")),
    ("control", "its answer depends on `progress` alone", algorithm(control="return Control(stop=next(counter) > 20)")),
    ("control", "(control): KeyError in control at step 0: 'loss'", algorithm(control="progress.metrics['loss']")),
]  # fmt: skip


@pytest.mark.parametrize(("check", "says", "source"), FAULTS, ids=[f"{f[0]}-{n}" for n, f in enumerate(FAULTS)])
def test_planted_faults_are_found(folder, check: str, says: str, source: str) -> None:
    made = folder(source)
    found = {name: findings for name, findings in examined(made).items() if findings}
    assert list(found) == [check], found
    assert says in found[check][0]
    assert "\n" not in found[check][0]


@pytest.mark.parametrize(
    ("name", "check", "says"),
    [
        ("changes_dtype", "contract", "step() changed the dtype of params['linear']['bias'] from float32 to bfloat16"),
        ("changes_tree", "contract", "step() changed the tree of opt_state"),
        ("missing_build", "build", "expected a function build(task, hp), found none"),
        ("raises_in_build", "build", "KeyError in build: 'momentum'"),
        ("syntax_error", "build", "submission.py:4: SyntaxError in import"),
        ("wants_a_petabyte", "training", "Out of memory allocating 1125899906842624 bytes"),
        ("wrong_return", "build", "build must return an optax.GradientTransformation or a harness.api.Algorithm"),
    ],
)
def test_faults_of_trials_are_found_before_there_is_one(name: str, check: str, says: str) -> None:
    found = {
        n: findings
        for n, findings in examined(discovery.find("submissions", f"{ROOT}/tests/faults/{name}")).items()
        if findings
    }
    assert list(found) == [check], found
    assert says in found[check][0]


def test_a_compilation_while_training_is_found(folder, monkeypatch) -> None:
    run = Trainer.run

    def compiles(self, *args, **kwargs):
        jax.jit(lambda x: x + len(args))(jnp.ones(3))
        return run(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "run", compiles)
    found = examined(folder(algorithm()))
    assert "more programs were compiled while it trained" in found["compile"][0]


def test_a_checkpoint_that_lacks_something_is_found(folder, monkeypatch) -> None:
    save = Checkpoints.save

    def forgets(self, step, arrays, host):
        save(self, step, {name: 0 * x if name.startswith("opt_state") else x for name, x in arrays.items()}, host)

    monkeypatch.setattr(Checkpoints, "save", forgets)
    found = examined(folder("def build(task, hp): return optax.sgd(hp['lr'], momentum=0.9)"))
    (told,) = found.pop("resume")
    assert "stopped after 10 steps and taken up from its checkpoint, params['linear']['bias'] differs" in told
    assert not any(found.values()), found


@pytest.mark.parametrize("path", sorted((ROOT / "tests/algorithms").iterdir()), ids=lambda path: path.name)
def test_honest_algorithms_pass(path: Path) -> None:
    found = examined(discovery.find("submissions", str(path)))
    assert set(found) == set(CHECKS) - {"metadata", "size", "lint"}
    assert not any(found.values()), found


# ---- the files ----


def looked_at(folder: Folder, check: str) -> list[str]:
    return [one.message for one in static.look_at(folder) if one.check == check]


def test_files_of_a_sound_submission(folder) -> None:
    assert (
        static.look_at(folder("def build(task, hp): ...").__class__("submissions", "adamw", ROOT / "submissions/adamw"))
        == []
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"licence": ""}, "submission.yaml: 'licence' is empty; say it"),
        ({"authors": []}, "submission.yaml: 'authors' is empty"),
        ({"description": "one\ntwo"}, "'description' has several lines"),
        ({"space": {}}, "tuning is 'external' but there is nothing to tune over; give `space:` or `points:`, or say"),
        ({"defaults": {"lr": 1.0}}, "the default lr: 1.0 lies outside its space [0.01, 0.1]; widen one of them"),
        ({"tuning": "hand"}, "tuning: expected one of the choices, got 'hand'"),
        ({"space": {"lr": {"min": 1.0, "max": 0.1}}}, "space.lr: expected min < max, or values; got min 1.0, max 0.1"),
    ],
)
def test_metadata(folder, fields: dict, says: str) -> None:
    (only,) = looked_at(folder("", **fields), "metadata")
    assert says in only


def test_readme(folder) -> None:
    made = folder("")
    readme = made.path / "README.md"
    assert looked_at(made, "metadata") == []
    readme.write_text("# mine\n\nTo do.\n")
    assert "has 4 words; name the paper, what differs from it" in looked_at(made, "metadata")[0]
    readme.write_text("mine")
    assert "does not start with a title (`# name`)" in looked_at(made, "metadata")[0]
    readme.unlink()
    assert "README.md is missing; it names the paper" in looked_at(made, "metadata")[0]


def test_size(folder) -> None:
    made = folder("")
    (made.path / "__pycache__").mkdir()
    (made.path / "__pycache__/big.pyc").write_bytes(bytes(static.MAX_BYTES))
    assert looked_at(made, "size") == []
    (made.path / "weights.bin").write_bytes(bytes(static.MAX_BYTES))
    assert "holds 257 KiB, of which weights.bin 256; a submission has at most 256" in looked_at(made, "size")[0]


def test_lint_is_told_with_its_place(folder) -> None:
    found = looked_at(folder("import os\n"), "lint")
    assert any(one.startswith("submission.py:11: os reaches files or the environment; keep") for one in found)


# ---- the report, and the process ----


def test_toys_are_the_workloads_that_are_not_scored() -> None:
    assert sorted(toys()) == ["quadratic", "shrunk_gpt", "shrunk_mae", "shrunk_resnet"]


def test_marks() -> None:
    findings = (Finding("lint", "a", warning=True), Finding("resume", "b", "one"), Finding("resume", "b", "two"))
    report = Report("mine", "/mine", findings, frozenset(CHECKS) - {"control"})
    marks = {report.mark(check) for check in CHECKS}
    assert [report.mark(c) for c in ("size", "lint", "resume", "control")] == ["passed", "warned", "FAILED", "not run"]
    assert marks == {"passed", "warned", "FAILED", "not run"}
    assert not report.passed
    assert report.grouped()[1] == (Finding("resume", "b"), ["one", "two"])
    assert Report("mine", "", findings[:1], frozenset(CHECKS)).passed, "a warning does not fail"
    assert not Report("mine", "", (), frozenset(CHECKS) - {"control"}).passed, "what did not run did not pass"


ENDS = """
import json, os, sys, time
say = lambda **a: print(json.dumps({"workload": "toy"} | a), flush=True)
say(begin="build")
say(end="build", findings=[])
say(begin="contract")
"""


@pytest.mark.parametrize(
    ("end", "says"),
    [
        ("os._exit(7)", "the process ended: exit code 7: the worker printed nothing"),
        ("os.kill(os.getpid(), 11)", "the process ended: SIGSEGV"),
        ("sys.exit('no more')", "the process ended: exit code 1: no more"),
        ("time.sleep(60)", "no answer for 1.5 s; killed"),
    ],
)
def test_a_process_that_ends_is_a_finding(folder, tmp_path, monkeypatch, end: str, says: str) -> None:
    (tmp_path / "stub.py").write_text(ENDS + end)
    monkeypatch.setattr(command, "CONFORMANCE", (command.CONFORMANCE[0], str(tmp_path / "stub.py")))
    report = command.check(folder("def build(task, hp): ..."), hang_s=1.5)
    (only,) = [finding for finding in report.findings if finding.check not in ("lint", "metadata")]
    assert (only.check, only.workload) == ("contract", "toy")
    assert says in only.message
    assert [report.mark(check) for check in ("build", "contract", "resume")] == ["passed", "FAILED", "not run"]


def test_exit_codes_and_json(folder, tmp_path, monkeypatch, capsys) -> None:
    stub = (
        ENDS.replace("['contract']", "")
        + f"""
for check in {[c for c in CHECKS if c not in ("metadata", "size", "lint")]}:
    say(end=check, findings=[])
"""
    )
    (tmp_path / "stub.py").write_text(stub)
    monkeypatch.setattr(command, "CONFORMANCE", (command.CONFORMANCE[0], str(tmp_path / "stub.py")))
    made = folder("")
    (made.path / "submission.py").write_text("def build(task, hp): ...\n")
    assert cli.main(["check", str(made.path)]) == 0
    assert capsys.readouterr().out.endswith("mine: all checks passed\n")
    (made.path / "submission.py").write_text("import os\n")
    assert cli.main(["check", str(made.path)]) == 1
    out = capsys.readouterr().out
    assert "lint         FAILED" in out
    assert "finding: lint: submission.py:1: os reaches files or the environment; keep constants" in out
    assert out.endswith("mine: 1 finding\n")
    assert cli.main(["check", str(made.path), "--json"]) == 1
    (told,) = json.loads(capsys.readouterr().out)["submissions"]
    assert (told["name"], told["passed"], told["checks"]["lint"]) == ("mine", False, "FAILED")
    assert told["findings"][0]["check"] == "lint"
    assert cli.main(["check", "mime"]) == 2
    assert cli.main(["check"]) == 2


# ---- what the checks stand on ----


def test_trees_are_compared_by_leaf_and_bit() -> None:
    tree = {"a": jnp.ones(2), "b": {}}
    kept = snapshot(tree)
    assert difference(kept, tree) == ""
    assert difference(kept, {"a": jnp.ones(2)}) == "['a']"
    assert difference(kept, tree | {"c": 1}) == "['c']"
    assert differing_bits(tree, {"a": np.ones(2, np.float32)}) == ""
    assert differing_bits({"a": np.zeros(2)}, {"a": -np.zeros(2)}) == "['a']", "by bits: -0 is not 0"
    assert differing_bits({"a": np.array([np.nan])}, {"a": np.array([np.nan])}) == ""
    assert differing_bits({}, tree) == "['a']"


def test_compilations_are_counted() -> None:
    add = jax.jit(lambda x: x + 1)
    with counted_compilations() as found:
        add(np.ones(3, np.float32))
    assert len(found) == 1
    with counted_compilations() as found:
        add(np.ones(3, np.float32))
    add(np.ones(4, np.float32))
    assert found == []


def test_unload_imports_anew(folder) -> None:
    made = folder("STARTED = time.time_ns()\ndef build(task, hp): ...")
    first = discovery.load(made).STARTED
    assert discovery.load(made).STARTED == first
    discovery.unload(made)
    assert discovery.load(made).STARTED != first
    shutil.rmtree(made.path)
