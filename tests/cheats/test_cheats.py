"""Submissions that try to get what they have not earned: each is prevented, found, or charged; or gets through, and
`harness/SECURITY.md` says so.

All are exported by one process, confined as any submission's, and looked at by one deriver.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import plants
import pytest
from jax import export
from plants import CHARGED, CHEATS, FLAGGED, HARMLESS, MEASURED, ON, PREVENTED, THROUGH, point

from harness.api import Control, Progress
from harness.errors import HarnessError
from harness.program import confinement, discovery, limits, manifest, processes, store
from harness.program.discovery import Folder
from harness.program.requests import Job
from harness.record import run_folder
from harness.record.readings import Reading
from harness.record.result import Result, Status
from harness.trial import loop, setup, yardstick
from harness.trial.clock import Ledger
from harness.trial.controller import Controller
from harness.trial.programs import call_of

QUADRATIC = discovery.find("workloads", "quadratic")
HELD = confinement.kernel()
pytestmark = pytest.mark.skipif(
    not HELD["seccomp"] or HELD["landlock"] < confinement.WHOLE, reason=f"this kernel: {confinement.told(HELD)}"
)


@pytest.fixture(scope="module")
def answers(together, place):
    """Return the ids of each one's program, or the error, by name."""
    names = [*CHEATS, "honest"]  # one goes on after its answer, so that it is not the last
    wanted = []
    for name in names:
        workload = discovery.find("workloads", ON.get(name, "quadratic"))
        steps = discovery.workload_info(workload).budget_steps
        wanted.append(processes.Wanted(workload, together, (point(name, place),), steps))
    return dict(zip(names, processes.program_ids(wanted), strict=True))


@pytest.fixture(scope="module")
def made(answers):
    """Return a function: name of a cheat -> its program."""

    def program(name: str) -> store.Program:
        found = answers[name]
        assert not isinstance(found, HarnessError), found
        return store.read(found.programs[0])

    return program


@pytest.mark.parametrize("name", PREVENTED)
def test_prevented(answers, together, name):
    answer = answers[name]
    assert isinstance(answer, HarnessError), answer
    assert re.search(PREVENTED[name], str(answer)), answer
    assert "\n" not in str(answer)


@pytest.mark.parametrize("name", HARMLESS)
def test_changes_nothing(answers, name):
    assert answers[name] == answers["honest"]


@pytest.mark.parametrize("name", FLAGGED)
def test_flagged(made, name):
    (flag,) = made(name).manifest.flagged
    assert re.match(FLAGGED[name], flag), flag


@pytest.mark.parametrize("name", THROUGH)
def test_gets_through(made, name):
    """Where one of these is stopped one day, its row in the table moves."""
    assert not made(name).manifest.flagged


@pytest.mark.parametrize(
    ("name", "function", "written", "compiled"),
    [
        (
            "clock/as_it_compiles",
            "step_32",
            r"dot_general .*tensor<16x16xf32>, tensor<16x16xf32>",
            r"f32\[16,16\]\S* dot",
        ),
        ("patch/less_work_and_padding", "step_8", r"dot_general .*tensor<4096x4096xf32>", r"f32\[4096,4096\]"),
    ],
)
def test_xla_does_none_of_it_when_it_runs(made, name, function, written, compiled):
    """What two of them hope for: their products are in the program, and not in what XLA makes of it."""
    exported = export.deserialize(bytearray(made(name).functions[function]))
    assert re.search(written, exported.mlir_module())
    shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in exported.in_avals]
    arguments, keywords = jax.tree.unflatten(exported.in_tree, shapes)
    text = jax.jit(exported.call).lower(*arguments, **keywords).compile().as_text()
    assert not re.search(compiled, text)


def test_both_ways_of_attention_are_looked_at():
    """A trial on a card takes cuDNN's way, whose functions lie beside XLA's; they could be others."""
    facts = manifest.Facts("", 0, None, None, 100.0, True, 0, least=100.0)
    own = manifest.Contract("workload", "gpu", (), (), (), (manifest.Leaf("x", (8,), "float32"),))
    named = dict.fromkeys(("yardstick_step", "yardstick_step.cudnn"), facts)
    half = {"step_8": facts, "step_8.cudnn": dataclasses.replace(facts, products=50.0, least=50.0)}
    (flag,) = limits.flags(half, manifest.Manifest("", own, named))
    assert flag == "a step of 8 examples takes 0.50 of the products of one gradient on them"
    assert not [*limits.flags(dict.fromkeys(half, facts), manifest.Manifest("", own, named))]


def test_what_it_raises_steers_no_terminal(tmp_path):
    folder = tmp_path / "loud"
    folder.mkdir()
    (folder / "submission.py").write_text(
        "def build(task, hp):\n    raise ValueError('\\x1b[2K\\rloud: all checks passed\\x07')"
    )
    wanted = processes.Wanted(
        discovery.find("workloads", "quadratic"), Folder("submissions", "loud", folder), ({},), 200
    )
    (answer,) = processes.program_ids([wanted])
    assert re.search(r"ValueError in build: \ufffd\[2K\ufffdloud: all checks passed\ufffd", str(answer)), repr(
        str(answer)
    )


def test_files_that_change_meanwhile_are_noticed(tmp_path):
    """As one does that is read for its hash first, and then imported."""
    folder = tmp_path / "moves"
    folder.mkdir()
    (folder / "submission.py").write_text(plants.HONEST)
    told = []

    def change(what: str) -> None:
        told.append(what)
        (folder / "submission.py").write_text(plants.HONEST.replace("0.1", "0.3"))

    wanted = processes.Wanted(
        discovery.find("workloads", "quadratic"), Folder("submissions", "moves", folder), ({},), 200
    )
    (answer,) = processes.program_ids([wanted], change)
    assert told == ["moves on quadratic"]
    assert re.search(r"moves: its files changed while its program was made; try again", str(answer))
    (answer,) = processes.program_ids([wanted])
    assert not isinstance(answer, HarnessError)


@pytest.fixture
def thinker(tmp_path):
    """Return a controller whose `control` leaves a thread that counts."""
    folder = tmp_path / "thinks"
    folder.mkdir()
    (folder / "submission.py").write_text(plants.THINKS)
    (made,) = processes.submission_programs(QUADRATIC, Folder("submissions", "thinks", folder), [{}], 200)
    controller = Controller(folder, Job("", str(QUADRATIC.path), None, "cpu", {}, 200, None), made.manifest)
    yield controller
    controller.close()


def test_control_stands_still_between_questions(thinker):
    def threads() -> set[str]:
        """What the kernel says of each: R for one that runs, T for one that is stopped."""
        tasks = Path(f"/proc/{thinker._process.pid}/task").iterdir()
        return {(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks}

    for step in (0, 8):
        assert thinker.ask(Progress(step, 32 * step, {})) == Control()
        for _ in range(1000):  # until the signal has reached each of them
            if threads() == {"T"}:
                break
            time.sleep(0.01)
        assert threads() == {"T"}


# ---- trials, on a clock that steps alone move ----


@pytest.fixture
def run(make_trial, together, place, monkeypatch):
    """Return a function that runs a cheat's trial; `step_s` gives what each step takes, `init_s` what the first state
    does, in steps of the yardstick.
    """
    clock = {"now": 0.0, "steps": 0}
    compile_programs = setup.compile_programs

    def wrapped(step_s, init_s):
        def programs(*args, **kwargs):
            found = compile_programs(*args, **kwargs)
            (size,) = found.steps

            def step(*given):
                clock["now"] += step_s(clock["steps"])
                clock["steps"] += 1
                return found.steps[size].compiled(*given)

            def init(*given):
                clock["now"], clock["steps"] = clock["now"] + init_s, 0
                return found.init(*given)

            return dataclasses.replace(
                found, init=init, steps={size: dataclasses.replace(found.steps[size], compiled=step)}
            )

        return programs

    def timed(self, calls):
        clock["now"] += calls
        return Reading(float(calls), float(calls))

    def start(name, step_s=lambda step: 1.0, init_s=0.0, **fields) -> tuple[Result, run_folder.Trial]:
        monkeypatch.setattr(setup, "compile_programs", wrapped(step_s, init_s))
        monkeypatch.setattr(yardstick.Yardstick, "_timed", timed)
        monkeypatch.setattr(yardstick.time, "perf_counter", lambda: clock["now"])
        path = make_trial("quadratic", together.path, hp=point(name, place))
        spec, options = run_folder.read_spec(path)
        with run_folder.hold(path) as folder:
            ledger = Ledger(now=lambda: clock["now"], cpu_now=lambda: clock["now"])
            spec = dataclasses.replace(spec, **fields)
            folder.write_result(result := loop.run_trial(spec, options, folder, ledger, lambda: False))
        return result, run_folder.read_trial(path)

    return start


@pytest.mark.parametrize("name", CHARGED)
def test_charged(made, run, name):
    """The plant is in the program, and the clock sums whole chunks: all steps count, whenever they are dear."""
    step = made(name).manifest.functions["step_32"]
    assert step.products >= 21 * step.least or not step.exact
    step_s = CHARGED[name]
    result, trial = run(name, step_s, max_steps=200, budget_steps=10**6, target=None)
    true = sum(map(step_s, range(200)))
    assert result.steps == 200
    assert result.ledger["train"].wall_s == pytest.approx(true)
    assert result.calibration.step_ratio[32] == pytest.approx(true / 200)
    assert trial.measurements[-1].scored.wall == pytest.approx(true)


def test_work_in_init_is_charged(made, run):
    assert made("clock/in_init").manifest.functions["init_opt"].products >= 100 * 2 * 64**3
    result, trial = run("clock/in_init", init_s=50.0, max_steps=24, budget_steps=10**6, target=None)
    assert result.ledger["init"].wall_s == 50.0
    assert trial.measurements[-1].scored.wall == pytest.approx(50.0 + 24.0)
    unit = trial.spec.reference_step_s
    assert trial.measurements[-1].scored.calibrated == pytest.approx((50.0 + 24.0) * unit)


@pytest.mark.parametrize("name", MEASURED)
def test_meets_no_target(run, name):
    result, trial = run(name, max_steps=50)
    assert result.status in (Status.HORIZON_REACHED, Status.DIVERGED)
    assert trial.measurements
    assert not any(m.met for m in trial.measurements)
    for m in trial.measurements:
        assert set(m.metrics) == {"loss"}
        assert m.metrics["loss"] is None or m.metrics["loss"] > trial.spec.target


# ---- evaluation ----

ODD = (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e30, 1e12, 1e-45, 0.0)


@pytest.mark.parametrize("workload", ["shrunk_gpt", "shrunk_resnet", "shrunk_mae"])
def test_no_odd_parameters_are_better_than_a_guess(workload):
    """All parameters the same odd number, or the output layer alone: NaN, or no better than what knows nothing."""
    own = processes.workload_program(discovery.find("workloads", workload))
    data = discovery.load_data(discovery.find("workloads", workload))
    arrays = {name: jnp.asarray(x) for name, x in data.load().validation_slice.items()}
    evaluate = jax.jit(call_of(own, "evaluate_validation_slice"))
    named = own.manifest.contract.params
    state = list(call_of(own, "init")(jax.random.key_data(jax.random.key(0))))
    params, model_state = state[: len(named)], state[len(named) :]

    def measured(given):
        return float(evaluate(given, model_state, arrays)[data.info.metric])

    guess = measured(params)
    for odd in ODD:
        everywhere = [jnp.full_like(x, odd) for x in params]
        last = [jnp.full_like(x, odd) if "head" in leaf.name else x for leaf, x in zip(named, params, strict=True)]
        for given in (everywhere, last):
            assert not measured(given) < 0.9 * guess, odd


def test_a_cross_entropy_of_large_logits_is_that_of_a_guess():
    """A difference of two numbers of 1e12 would round to 0."""
    vocabulary = importlib.import_module(f"{families()}.vocabulary")
    huge = jnp.full((4, 8), 1e12, jnp.float32)
    losses = vocabulary.token_losses(jnp.ones((1, 2, 4), jnp.float32), huge, jnp.zeros((1, 2), jnp.int32))
    np.testing.assert_allclose(losses, np.log(8), rtol=1e-6)


def families() -> str:
    """Return the name of the package that families of models lie in, once a workload of one is loaded."""
    folder = discovery.find("workloads", "shrunk_gpt")
    discovery.load_workload(folder)
    return next(name for name in sys.modules if name.endswith(".families"))
