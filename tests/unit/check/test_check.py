"""`harness check` finds planted faults, one for each check, and says what and how to mend."""

from __future__ import annotations

import io
import json
import sys
from functools import cache
from pathlib import Path

import jax
import jax.experimental.compilation_cache.compilation_cache
import pytest
import yaml
from in_process import exported, workload_program

from harness.check import command, export, static
from harness.check.findings import CHECKS, Facts, Finding, Report
from harness.cli import main as cli
from harness.errors import SubmissionError
from harness.program import discovery, operations, store, submission
from harness.program.discovery import Folder
from harness.trial.checkpoints import Checkpoints
from harness.trial.conformance import Reporter, Request, Toy
from harness.trial.conformance_checks import examine

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


QUADRATIC = discovery.find("workloads", "quadratic")
RUN = ("training", "determinism", "resume", "control")


@cache
def own() -> store.Program:
    """The quadratic's own program, in the store."""
    return workload_program(discovery.load_workload(QUADRATIC), keep=True)


def examined(folder: Folder) -> dict[str, list[str]]:
    """Return the findings by check, on the quadratic alone and in this process."""
    discovery.unload(folder)
    point = submission.read_info(folder).defaults
    try:
        program = exported(discovery.load_workload(QUADRATIC), own(), folder, point, keep=True)
    except SubmissionError as error:
        return {"export": [str(error)]}
    answers = io.StringIO()
    request = Request(str(folder.path), dict(point), ())
    toy = Toy(str(QUADRATIC.path), own().manifest.id, program.manifest.id)
    examine(Reporter(answers, "quadratic", folder.path), request, toy)
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
NO_CALLBACK = ": a callback to the host (jax.debug.print, jax.pure_callback) cannot be part of a program"


def test_a_broken_workload_of_the_users_stands_in_nobodys_way(folder, tmp_path, monkeypatch) -> None:
    (tmp_path / "workloads/broken").mkdir(parents=True)
    (tmp_path / "workloads/broken/workload.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    assert "broken" in discovery.find_all("workloads")
    assert export.toys()[0].name == "quadratic"
    info, findings = static.look_at(folder(algorithm()))
    assert info is not None
    assert findings == []


def test_what_is_wrong_with_the_metadata_is_a_finding_each(folder) -> None:
    _, findings = static.look_at(folder(algorithm(), name=3, licence=None, space={"lr": {"min": "1e-3"}}))
    told = [finding.message for finding in findings if not finding.warning]
    assert len(told) == 4, told
    assert all("\n" not in text for text in told)


def test_a_sound_submission_passes_every_check(folder) -> None:
    found = examined(folder(algorithm()))
    assert found == {check: [] for check in RUN}


FAULTS = [
    ("export", "build must take (task, hp)", "def build(task): ..."),
    ("export", "KeyError in build: 'momentum'", "def build(task, hp): return optax.sgd(hp['momentum'])"),
    ("export", "mine/submission.py: jax.default_backend() tells of the process that exports",
     "def build(task, hp): return optax.sgd(0.1 if jax.default_backend() == 'cpu' else 0.2)"),
    ("export", "put a random key into opt_state['key']", algorithm(init="return {'key': key}")),
    ("export", "step() changed the shape of params['linear']['bias'] from (4,) to (1,); return (4,)",
     algorithm(step="new, m = base.step(loss, state, batch, key)\n        return new._replace(params={'linear': "
                    "new.params['linear'] | {'bias': jnp.zeros(1)}}), m")),
    ("export", "'loss' in it; got ['value']",
     algorithm(step="return base.step(loss, state, batch, key)[0], {'value': 1.0}")),
    ("export", "eval_variables may run the loss forward but takes no gradient",
     algorithm(evaluate="loss.value_and_grad(state.params, state.model_state, batches, key)")),
    ("export", "eval_variables() changed the tree of params",
     algorithm(evaluate="return state.params['linear'], state.model_state")),
    ("export", NO_CALLBACK, algorithm(step=NUDGED.format(HOST))),
    ("export", NO_CALLBACK,
     algorithm(evaluate="jax.debug.print('{}', state.step)\n        return state.params, state.model_state")),
    ("export", "step_32 holds 4",
     algorithm(before="TABLE = np.arange(10_000.0, dtype='float32')",
               step=NUDGED.format("jnp.asarray(TABLE)[state.step]"))),
    ("export", "mine/submission.py: jax.devices() tells of the process that exports; task.platform tells",
     algorithm(init="jax.devices()\n        return base.init(params, key)")),
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
    ("control", "asks for batch size 7; add it to batch_sizes, which has [16, 32]",
     algorithm(sizes="(16,)", control="return Control(batch_size=7)")),
    ("control", "in control at step 0: returned int; return a harness.api.Control", algorithm(control="return 16")),
    ("control", "its answer depends on `progress` alone", algorithm(control="return Control(stop=next(counter) > 20)")),
    ("control", "(control): KeyError in control at step 0: 'loss'", algorithm(control="progress.metrics['loss']")),
]  # fmt: skip


@pytest.mark.parametrize(("check", "says", "source"), FAULTS, ids=[f"{f[0]}-{n}" for n, f in enumerate(FAULTS)])
def test_planted_faults_are_found(folder, check: str, says: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if check == "determinism":  # what draws without a key has no program; were it let through, this would find it
        monkeypatch.setattr(operations, "WITHOUT_A_KEY", frozenset())
    made = folder(source)
    found = {name: findings for name, findings in examined(made).items() if findings}
    assert list(found) == [check], found
    assert says in found[check][0]
    assert "\n" not in found[check][0]


@pytest.mark.parametrize(
    ("name", "check", "says"),
    [
        ("changes_dtype", "export", "step() changed the dtype of params['linear']['bias'] from float32 to bfloat16"),
        ("changes_tree", "export", "step() changed the tree of opt_state"),
        ("missing_build", "export", "expected a function build(task, hp), found none"),
        ("raises_in_build", "export", "KeyError in build: 'momentum'"),
        ("syntax_error", "export", "submission.py:4: SyntaxError in import"),
        ("wants_a_petabyte", "training", "Out of memory allocating 1125899906842624 bytes"),
        ("wrong_return", "export", "build must return an optax.GradientTransformation or a harness.api.Algorithm"),
        ("calls_back", "export", "tests/faults/calls_back/submission.py:19: a callback to the host"),
        ("counts_in_python", "export", "step() changes steps when it is traced"),
    ],
)
def test_faults_of_trials_are_found_before_there_is_one(name: str, check: str, says: str) -> None:
    folder = discovery.find("submissions", f"{ROOT}/tests/faults/{name}")
    found = {name: findings for name, findings in examined(folder).items() if findings}
    assert list(found) == [check], found
    assert says in found[check][0]


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
    assert examined(discovery.find("submissions", str(path))) == {check: [] for check in RUN}


# ---- another process, and the search space ----

SPACE = {"lr": {"min": 0.01, "max": 0.1, "scaling": "log"}, "steps": {"min": 1, "max": 9}}


def made_anew(folder: Folder) -> list[Finding]:
    info = submission.read_info(folder)
    (made,) = export.export(folder, info, [QUADRATIC], lambda text: None)
    return list(export.export_anew(folder, info, made))


def test_points_that_make_no_program_are_found(folder) -> None:
    source = "def build(task, hp):\n    assert hp['steps'] < 7\n    return optax.sgd(hp['lr'])"
    found = made_anew(folder(source, defaults={"lr": 0.05, "steps": 2}, space=SPACE))
    assert {finding.check for finding in found} == {"space"}
    assert len(found) <= export.SHOWN
    assert found[0].message.startswith("at {'lr': 0.01, 'steps': 9}: ")
    assert "AssertionError in build: no message; narrow the search space, or mend build" in found[0].message


@pytest.mark.parametrize("drawn", ["random.random()", "next(iter({'1', '2', '3', '4', '5', '6', '7', '8'}))"])
def test_a_program_that_another_process_makes_otherwise_is_found(folder, drawn: str) -> None:
    """Where chance has it that both are the same (one time in eight), the next attempt finds out."""
    for _ in range(6):
        found = made_anew(folder(f"DRAWN = float({drawn})\ndef build(task, hp): return optax.sgd(hp['lr'] * DRAWN)"))
        if found:
            break
    (only,) = found
    assert only.check == "again"
    assert "of two processes that make its program, one gets another" in only.message


def test_points_that_differ_in_arguments_alone_share_a_program(folder) -> None:
    made = folder("", defaults={"lr": 0.05, "steps": 2}, space=SPACE)
    info = submission.read_info(made)
    assert [point["steps"] for point in export._space(made, info, ("lr",))].count(9) == 1
    assert len(export._space(made, info, ())) == 4 + export.DRAWN
    assert export._space(made, info, ("lr", "steps")) == []


def test_facts_are_relative_to_adamw(folder) -> None:
    made = folder("def build(task, hp): return optax.sgd(hp['lr'], momentum=0.9)")
    (program,) = export.export(made, submission.read_info(made), [QUADRATIC], lambda text: None)
    facts = program.facts()
    assert (facts.workload, facts.arguments, facts.products) == ("quadratic", ("lr",), 1.0)
    assert 0.45 < facts.state < 0.55, "one moment instead of two"


# ---- the files ----


def looked_at(folder: Folder, check: str) -> list[str]:
    return [one.message for one in static.look_at(folder)[1] if one.check == check]


def test_files_of_a_sound_submission() -> None:
    info, found = static.look_at(discovery.find("submissions", f"{ROOT}/submissions/adamw"))
    assert (info.name, found) == ("adamw", [])


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
    asked = "it starts with a title (`# name`) and says in 20 words or more which paper it follows, what differs from"
    assert f"README.md has 4 words; {asked}" in looked_at(made, "metadata")[0]
    readme.write_text("mine")
    assert f"README.md starts without a title; {asked}" in looked_at(made, "metadata")[0]
    readme.unlink()
    assert f"README.md is missing; {asked}" in looked_at(made, "metadata")[0]


def test_all_that_is_missing_is_told_at_once(folder) -> None:
    made = folder("")
    (made.path / "submission.yaml").write_text("name: mine\nlicence: ''\n")
    (made.path / "README.md").unlink()
    fields, empty, readme = looked_at(made, "metadata")
    for field, kind in (
        ("description", "a string"), ("authors", ""), ("tuning", "'external' or 'self'"), ("defaults", ""),
    ):  # fmt: skip
        assert f"the field '{field}' is missing; it must be {kind}" in fields
    assert "'licence' is empty; say it" in empty
    assert "README.md is missing" in readme


def test_size(folder) -> None:
    made = folder("")
    (made.path / "__pycache__").mkdir()
    (made.path / "__pycache__/big.pyc").write_bytes(bytes(static.MAX_BYTES))
    assert looked_at(made, "size") == []
    (made.path / "weights.bin").write_bytes(bytes(static.MAX_BYTES))
    assert "holds 257 KiB, of which weights.bin 256; a submission has at most 256" in looked_at(made, "size")[0]


def test_advice_is_a_warning(folder) -> None:
    (only,) = [one for one in static.look_at(folder("x = 'lm_grammar', 'lr'\n"))[1] if one.check == "advice"]
    assert only.warning
    assert only.message.startswith("submission.py:10: names the workload lm_grammar")


# ---- the report, and the process ----


def test_what_is_exported() -> None:
    toys = [place.name for place in export.toys()]
    assert toys == ["quadratic", "shrunk_gpt", "shrunk_mae", "shrunk_resnet"], "the smallest first"
    assert [place.name for place in export.demo()] == ["lm_grammar", "resnet_digits", "mae_digits"]


def test_marks() -> None:
    findings = (Finding("advice", "a", warning=True), Finding("resume", "b", "one"), Finding("resume", "b", "two"))
    report = Report("mine", "/mine", findings, frozenset(CHECKS) - {"control"})
    marks = {report.mark(check) for check in CHECKS}
    assert [report.mark(c) for c in ("size", "advice", "resume", "control")] == [
        "passed",
        "warned",
        "FAILED",
        "not run",
    ]
    assert marks == {"passed", "warned", "FAILED", "not run"}
    assert not report.passed
    assert report.grouped()[1] == (Finding("resume", "b"), ["one", "two"])
    assert Report("mine", "", findings[:1], frozenset(CHECKS)).passed, "a warning does not fail"
    assert not Report("mine", "", (), frozenset(CHECKS) - {"control"}).passed, "what did not run did not pass"


ENDS = """
import json, os, sys, time
say = lambda **a: print(json.dumps({"workload": "quadratic"} | a), flush=True)
say(begin="training")
say(end="training", findings=[])
say(begin="resume")
"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Return a function that puts a stub, ending so, in the place of the process that runs a program; and nothing is
    exported.
    """

    def put(end: str) -> None:
        (tmp_path / "stub.py").write_text(ENDS + end)
        monkeypatch.setattr(command, "CONFORMANCE", (sys.executable, str(tmp_path / "stub.py")))
        made = export.Made(QUADRATIC, own().manifest, own().manifest)
        monkeypatch.setattr(command, "export", lambda *_: iter([made]))
        monkeypatch.setattr(command, "export_anew", lambda *_: iter([]))
        facts = Facts("quadratic", 2048, 1.0, 1.0, ("lr",))
        monkeypatch.setattr(export.Made, "facts", lambda self: facts)

    return put


@pytest.mark.parametrize(
    ("end", "says"),
    [
        ("os._exit(7)", "the process ended: exit code 7: the worker printed nothing"),
        ("os.kill(os.getpid(), 11)", "the process ended: SIGSEGV"),
        ("sys.exit('no more')", "the process ended: exit code 1: no more"),
        ("time.sleep(60)", "no answer for 1.5 s; killed"),
    ],
)
def test_a_process_that_ends_is_a_finding(folder, stub, end: str, says: str) -> None:
    stub(end)
    report = command.check(folder("def build(task, hp): hp['lr']"), hang_s=1.5)
    (only,) = report.findings
    assert (only.check, only.workload) == ("resume", "quadratic")
    assert says in only.message
    assert [report.mark(check) for check in ("training", "resume", "control")] == ["passed", "FAILED", "not run"]


def test_exit_codes_and_json(folder, stub, capsys, monkeypatch) -> None:
    stub(f"""
for check in {RUN}:
    say(begin=check)
    say(end=check, findings=[])
""")
    monkeypatch.setattr(command, "PATIENCE_S", 0.0)
    made = folder("def build(task, hp): hp['lr']")
    assert cli.main(["check", str(made.path)]) == 0
    out, err = capsys.readouterr()
    assert "mine: resume on quadratic; exporting it anew, and over its search space\n" in err, "a line for each stage"
    assert "quadratic     2             1.00                     1.00  lr" in out
    assert out.endswith("mine: all checks passed\n")
    (made.path / "README.md").unlink()
    assert cli.main(["check", str(made.path)]) == 1
    out = capsys.readouterr().out
    assert "metadata     FAILED" in out
    assert "mine/README.md is missing; it starts with a title" in out
    assert out.endswith("mine: 1 finding\n")
    assert cli.main(["check", str(made.path), "--json"]) == 1
    out, err = capsys.readouterr()
    (told,) = json.loads(out)["submissions"]
    assert not err
    assert (told["name"], told["passed"], told["checks"]["metadata"]) == ("mine", False, "FAILED")
    assert told["findings"][0]["check"] == "metadata"
    assert told["programs"][0]["arguments"] == ["lr"]
    assert cli.main(["check", "mime"]) == 2
    assert cli.main(["check"]) == 2
    assert cli.main(["check", str(made.path), "--workload", "quadratic"]) == 2
    assert cli.main(["check", str(made.path), "--debug", "--json"]) == 2


def test_without_defaults_nothing_is_exported(folder, stub) -> None:
    stub("")
    made = folder("")
    (made.path / "submission.yaml").unlink()
    report = command.check(made)
    assert [report.mark(check) for check in ("metadata", "export", "training")] == ["FAILED", "not run", "not run"]
