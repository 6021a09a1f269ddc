"""Programs as real processes make them: by content, within limits, and never by the exporter's word alone."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from jax import export
from planted import META

from harness.errors import MachineError, SubmissionError, WorkloadError
from harness.program import child, discovery, identity, processes, store, submission
from harness.program import export as exporter
from harness.program.discovery import Folder
from harness.program.requests import Job

ROOT = Path(__file__).resolve().parents[3]
QUADRATIC = discovery.find("workloads", "quadratic")
GPT = discovery.find("workloads", "shrunk_gpt")
BUDGET = 200

ALGORITHM = """
import jax, jax.numpy as jnp
from harness.api import Algorithm


def init(params, key):
    return {{"count": jnp.zeros((), jnp.int32)}}


def step(loss, state, batch, key):
    (value, model_state), grads = loss.value_and_grad(state.params, state.model_state, batch, key)
    params = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads)
    opt_state = {{"count": state.opt_state["count"] + 1}}
    {extra}
    return state._replace(params=params, opt_state=opt_state, model_state=model_state), {{"loss": value}}


def build(task, hp):
    {build}
    return Algorithm(init=init, step=step{fields})
"""


@pytest.fixture(scope="module", autouse=True)
def own_store(tmp_path_factory):
    before = os.environ["HARNESS_CACHE"]
    os.environ["HARNESS_CACHE"] = str(tmp_path_factory.mktemp("programs"))
    yield
    os.environ["HARNESS_CACHE"] = before


@pytest.fixture
def planted(tmp_path):
    """Return a function that writes a submission and returns its folder."""

    def write(code: str = "", name: str = "mine", *, extra="pass", build="pass", fields="") -> Folder:
        path = tmp_path / name
        path.mkdir()
        (path / "submission.yaml").write_text(META.format(name, ""))
        (path / "submission.py").write_text(code or ALGORITHM.format(extra=extra, build=build, fields=fields))
        return Folder("submissions", name, path)

    return write


def program(folder: Folder, workload: Folder = QUADRATIC, **options) -> store.Program:
    info = submission.read_info(folder)
    (made,) = processes.submission_programs(workload, folder, [info.defaults], BUDGET, **options)
    return made


def text(made: store.Program, function: str) -> str:
    return export.deserialize(bytearray(made.functions[function])).mlir_module()


def adamw() -> Folder:
    return discovery.find("submissions", "adamw")


def test_a_program_is_what_its_manifest_says_and_runs_alone(tmp_path):
    own, made = processes.workload_program(QUADRATIC), program(adamw())
    assert set(own.functions) == {
        "init", "batch", "loss", "evaluate_validation_slice", "evaluate_validation", "evaluate_test", "yardstick_init",
        "yardstick_step",
    }  # fmt: skip
    assert set(made.functions) == {"init_opt", "step_32"}
    contract = made.manifest.contract
    assert [leaf.name for leaf in contract.params] == ["params['linear']['bias']", "params['linear']['kernel']"]
    assert (contract.batch_sizes, contract.metrics, contract.control) == ((32,), ("loss",), "")
    assert made.manifest.declared["cost"]["32"]["gradient_calls"] == 1
    assert not made.manifest.flagged
    for name, data in made.functions.items():
        (tmp_path / name).write_bytes(data)
    code = f"""if True:
        import sys
        import numpy as np
        from jax import export
        step = export.deserialize(bytearray(open({str(tmp_path / "step_32")!r}, "rb").read()))
        zeros = [np.zeros(aval.shape, aval.dtype) for aval in step.in_avals]
        import jax
        arguments, keywords = jax.tree.unflatten(step.in_tree, zeros)
        params, opt_state, model_state, metrics = step.call(*arguments, **keywords)
        assert float(metrics["loss"]) == 0.0
        heavy = [name for name in ("flax", "optax", "orbax", "hydra") if name in sys.modules]
        sys.exit(f"imported {{heavy}}" if heavy else 0)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_exporter_needs_no_data(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "none"))
    workload = discovery.find("workloads", "lm_shakespeare")
    made = program(adamw(), workload)
    assert made.manifest.contract.batch[0].shape[0] == discovery.workload_info(workload).batch_size
    assert not (tmp_path / "none").exists()


def test_nothing_is_traced_twice_and_content_decides_the_id(planted, monkeypatch):
    first = planted(name="first")
    made = program(first)
    monkeypatch.setattr(child.subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    assert program(first).manifest.id == made.manifest.id
    monkeypatch.undo()
    same = planted(ALGORITHM.format(extra="pass  # another text", build="unused = 1", fields=""), "second")
    assert same.source_hash != first.source_hash
    assert program(same).manifest.id == made.manifest.id
    other = planted(name="third", extra="params = jax.tree.map(lambda p: 0.999 * p, params)")
    assert program(other).manifest.id != made.manifest.id


def test_what_answers_control_calls_is_part_of_the_identity(planted):
    """It is no StableHLO, so its sources stand for it."""
    answers = [f", control=lambda progress: Control(stop=progress.step > {n})" for n in (100, 200)]
    one, other = (
        program(
            planted("from harness.api import Control\n" + ALGORITHM.format(extra="pass", build="pass", fields=f), n)
        )
        for f, n in zip(answers, ("soon", "later"), strict=True)
    )
    contracts = [dataclasses.replace(made.manifest.contract, control="") for made in (one, other)]
    assert contracts[0] == contracts[1]
    assert one.manifest.id != other.manifest.id


def started_by(parent: int, name: str) -> list[int]:
    """Return the processes of a module of `program` that a process started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes()
            if int(fields[1]) == parent and f"harness.program.{name}".encode() in command:
                found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize("name", ["export", "derive"])
def test_one_that_somebody_kills_is_no_fault_of_the_submission(planted, name):
    processes.workload_program(QUADRATIC)
    slow = planted(name=f"slow_{name}", build="import math; [math.sqrt(n) for n in range(2 * 10**7)]")
    found: list[object] = []
    wanted = processes.Wanted(QUADRATIC, slow, ({},), BUDGET)
    thread = threading.Thread(target=lambda: found.extend(processes.program_ids([wanted])))
    thread.start()
    deadline = time.monotonic() + 60
    while not (started := started_by(os.getpid(), name)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for pid in started:
        os.kill(pid, signal.SIGKILL)
    thread.join()
    (problem,) = found
    assert isinstance(problem, MachineError)
    assert f"slow_{name}: the process that makes its program was ended from outside (exit code -9" in str(problem)
    assert str(problem).endswith("type the same again")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_exporter_ends_with_whoever_started_it(planted, tmp_path, monkeypatch, number):
    loops = planted(name=f"endless_{number.name}", build="while True: pass")
    code = f"""if True:
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from pathlib import Path
        from harness.program import processes
        from harness.program.discovery import Folder
        folders = [Folder("workloads", "quadratic", Path({str(QUADRATIC.path)!r})),
                   Folder("submissions", {loops.name!r}, Path({str(loops.path)!r}))]
        processes.program_ids([processes.Wanted(*folders, ({{}},), 200)])
    """
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    processes.workload_program(QUADRATIC)
    parent = subprocess.Popen([sys.executable, "-c", code])

    deadline = time.monotonic() + 60
    while not (started := started_by(parent.pid, "export")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(4.0)  # until it loops
    parent.send_signal(number)
    parent.wait(timeout=60)
    assert started
    while any(Path(f"/proc/{pid}").exists() for pid in started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    if number is signal.SIGINT:
        assert not list((tmp_path / "programs").glob(".new-*"))
        return
    (left,) = (tmp_path / "programs").glob(".new-*")
    with store.scratch() as mine:
        assert not left.exists(), "what a killed process leaves is removed by the next"
        with store.scratch():
            assert mine.exists()
            elsewhere = tmp_path / "programs" / ".new-another.machine-1-abc"
            elsewhere.mkdir()
    with store.scratch():
        assert elsewhere.exists(), "whether a process of another machine lives cannot be seen"
        os.utime(elsewhere, (0, 0))
    with store.scratch():
        assert not elsewhere.exists(), "a day later"


def test_a_faster_optimizer_of_the_harness_is_another_index_entry(monkeypatch):
    made = program(adamw())
    monkeypatch.setattr(processes, "_own_hash", lambda: "edited")
    assert store.look_up(store.key(**processes._sources(QUADRATIC, None, "cpu"))) is None
    assert program(adamw()).manifest.id == made.manifest.id, "the same program came out of it"


@pytest.mark.parametrize("damage", ["step_32.mlir", store.MANIFEST])
def test_a_damaged_program_is_noticed_and_made_anew(damage):
    made = program(adamw())
    file = store.root() / made.manifest.id / damage
    file.write_bytes(file.read_bytes()[:-5] + b"wrong")
    assert store.read(made.manifest.id) is None
    again = program(adamw())
    assert (again.manifest.id, again.functions) == (made.manifest.id, made.functions)
    file.unlink()
    assert program(adamw()).functions == made.functions


def test_a_program_whose_content_is_another_s_is_refused():
    """Hashes in the manifest can be made to fit what somebody puts there; the id cannot."""
    made, other = program(adamw()), program(discovery.find("submissions", "sgd_momentum"))
    identity.check_identity(made)
    functions = made.functions | {"init_opt": other.functions["init_opt"]}
    place = store.root() / made.manifest.id
    held = json.loads((place / store.MANIFEST).read_text())
    held["functions"]["init_opt"]["sha256"] = store.sha256(functions["init_opt"])
    (place / store.MANIFEST).write_text(json.dumps(held))
    (place / "init_opt.mlir").write_bytes(functions["init_opt"])
    forged = store.read(made.manifest.id)
    assert forged is not None, "it is whole, as its manifest says"
    with pytest.raises(SubmissionError, match=r"the program .* in the store has the content of"):
        identity.check_identity(forged)
    shutil.rmtree(place)
    identity.check_identity(program(adamw()))


def test_several_processes_fill_the_store_at_once(planted):
    folder = planted(name="crowd")
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(program(folder).manifest.id)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert store.read(found[0]) is not None
    assert not list(store.root().glob(".new-*"))


def test_points_of_the_space_share_a_program_and_others_have_their_own():
    defaults = submission.read_info(adamw()).defaults
    moved = [("learning_rate", 0.02), ("horizon", 0.7), ("learning_rate", 0.5), ("learning_rate", 0.6), ("b1", 0.8)]
    points = [defaults, *({**defaults, name: value} for name, value in moved)]
    made = processes.submission_programs(QUADRATIC, adamw(), points, BUDGET)
    assert made[0].manifest.contract.arguments == ("horizon", "learning_rate", "weight_decay")
    assert made[3].manifest.contract.arguments == ("horizon", "weight_decay"), "0.5 is outside of the space"
    ids = [program.manifest.id for program in made]
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids[2:])) == 4, "those outside of the space, and what is no dimension of it, are constants"


def test_what_gives_other_bits_or_cannot_be_traced_is_a_constant(planted):
    """`build` looks at one value, loses digits of another in float32, and takes the third as it is."""
    code = """
import optax
from harness.optim.optax_adapter import from_optax
def build(task, hp):
    rate = 0.1 if hp["looked_at"] > 0.5 else 0.2
    adam = optax.chain(optax.scale_by_adam(b2=hp["b2"]), optax.scale_by_learning_rate(hp["lr"]))
    return from_optax(optax.chain(adam, optax.scale(rate)))
"""
    folder = planted(code, "mixed")
    point = {"looked_at": 0.7, "b2": 0.99, "lr": 0.1}
    ends = {"looked_at": (0.0, 1.0), "b2": (0.9, 0.999), "lr": (0.01, 1.0)}
    (made,) = processes.submission_programs(QUADRATIC, folder, [point], BUDGET, ends=ends)
    assert "lr" in made.manifest.contract.arguments or "lr" in made.manifest.declared["constants"]
    assert "looked_at" not in made.manifest.contract.arguments
    assert "b2" not in made.manifest.contract.arguments
    reasons = made.manifest.declared["constants"]
    assert "TracerBoolConversionError" in reasons["looked_at"]
    assert reasons["b2"].startswith("other bits than with the constant")


def test_one_broken_submission_stops_no_other(planted):
    """They are exported side by side, each by a process of its own."""
    good, bad = planted(name="good"), planted(name="bad", build="raise ValueError('oh')")
    dies = planted(name="dies", build="import os; os._exit(3)")
    wanted = [processes.Wanted(QUADRATIC, folder, ({},), BUDGET) for folder in (bad, good, dies)]
    told: list[str] = []
    one, other, last = processes.program_ids(wanted, told.append)
    assert "ValueError in build: oh" in str(one)
    assert "exit code 3" in str(last)
    assert isinstance(other, processes.Found)
    assert sorted(told) == ["bad on quadratic", "dies on quadratic", "good on quadratic"]
    assert isinstance(processes.program_ids([wanted[1]])[0], processes.Found)


def test_a_program_for_a_gpu_is_made_without_one():
    made = program(discovery.find("submissions", "muon"), GPT, platform="gpu")
    assert made.manifest.contract.platform == "gpu"
    assert "bf16" in text(made, "step_8"), "Muon takes bf16 on a GPU"
    here = program(discovery.find("submissions", "muon"), GPT)
    assert "bf16" not in text(here, "step_8")
    assert made.manifest.id != here.manifest.id


# ---- what is planted ----


def test_half_of_the_batch_is_flagged(planted):
    """It patches the loss, which counts as many examples as before."""
    half = """
import harness.program.loss as internal
real = internal.WorkloadLoss._call
def call(self, params, model_state, batch, key, train, options):
    halved = {name: array[: len(array) // 2] for name, array in batch.items()}
    losses, state = real(self, params, model_state, halved, key, train, options)
    import jax.numpy as jnp
    return jnp.concatenate([losses, losses]), state
internal.WorkloadLoss._call = call
"""
    honest, cheat = (
        planted(name="honest"),
        planted(half + ALGORITHM.format(extra="pass", build="pass", fields=""), "half"),
    )
    assert not program(honest, GPT).manifest.flagged
    (flag,) = program(cheat, GPT).manifest.flagged
    assert flag.startswith("a step of 8 examples takes 0.5")
    grown = ALGORITHM.format(
        extra="""def work(i, x): return x @ x
    opt_state['count'] += jax.lax.fori_loop(0, 10**6, work, jnp.zeros((0, 0))).size""",
        build="pass",
        fields="",
    )
    assert program(planted(half + grown, "grown"), GPT).manifest.flagged, "products of nothing make up for nothing"


def test_schedule_free_that_is_evaluated_where_it_trains_is_flagged(planted):
    """Without a word it would be measured at y, and look worse than it is."""
    made = "optax.contrib.schedule_free_adamw(hp['lr'])"
    head = "import optax\nfrom harness.optim.evaluation import evaluated_at\ndef build(task, hp):\n    return "
    (flag,) = program(planted(f"{head}{made}\n", "at_y"), QUADRATIC).manifest.flagged
    assert "evaluated at y" in flag and "optax.contrib.schedule_free_eval_params" in flag
    averaged = f"{head}evaluated_at({made}, optax.contrib.schedule_free_eval_params)\n"
    assert not program(planted(averaged, "at_x"), QUADRATIC).manifest.flagged


def test_initial_parameters_and_evaluation_are_none_of_its_business(planted):
    """It patches the workload that it is traced with; the workload's own program never meets it."""
    before = processes.workload_program(GPT)
    code = "import gc, sys, jax\nfrom harness.program.workload import Workload\n" + ALGORITHM.format(
        extra="pass",
        build="""for one in gc.get_objects():
        if isinstance(one, Workload):
            zeros = jax.tree.map(lambda p: jax.numpy.zeros(p.shape), task.params)
            object.__setattr__(one, "init", lambda key: (zeros, {}))
            object.__setattr__(one, "evaluate", lambda *_: {"loss": 0.0})""",
        fields="",
    )
    made = program(planted(code, "patches"), GPT)
    assert made.manifest.contract.params == before.manifest.contract.params
    assert not {"init", "evaluate_test"} & set(made.functions)
    assert processes.workload_program(GPT).functions == before.functions


def test_data_hidden_in_constants_are_refused(planted):
    """300 KB of numbers that no operation makes."""
    numbers = planted(
        name="hoard",
        build="global HOARD; HOARD = __import__('numpy').random.default_rng(0).normal(size=75_000).astype('float32')",
        extra="opt_state['count'] += (jnp.asarray(HOARD)[state.step % 75_000] > 9.0).astype(jnp.int32)",
    )
    with pytest.raises(
        SubmissionError, match=r"hoard: step_32 holds 3000\d\d bytes of constants; .* at most 8192 are allowed"
    ):
        program(numbers)


def test_many_scalars_are_counted_too(planted):
    spread = planted(
        name="spread",
        extra="for i in range(3000): opt_state['count'] += jnp.where(state.step == 7 * i + 11, 13 * i + 5, 0)",
    )
    with pytest.raises(SubmissionError, match=r"spread: step_32 holds \d+ bytes of constants"):
        program(spread)


def test_another_tree_is_refused_whoever_checks_it(planted):
    other = planted(name="other", extra="opt_state = {'count': opt_state['count'], 'more': value}")
    with pytest.raises(SubmissionError, match=r"other/submission\.py: step\(\) changed the tree of opt_state"):
        program(other)
    quiet = "import harness.program.trace as t, harness.program.exporting as e\nt.check_same = lambda *_: None\n"
    patched = planted(
        quiet
        + ALGORITHM.format(extra="opt_state = {'count': opt_state['count'], 'more': value}", build="pass", fields=""),
        "patched",
    )
    with pytest.raises(SubmissionError, match=r"patched: step_32 returns \d arrays, expected are \d"):
        program(patched)
    wide = "import harness.program.trace as t\nt.check_same = lambda *_: None\n"
    dtype = planted(wide + ALGORITHM.format(extra="opt_state = {'count': value}", build="pass", fields=""), "dtype")
    with pytest.raises(
        SubmissionError, match=r"step_32 returns float32\[\] for opt_state\['count'\], expected is int32"
    ):
        program(dtype)


def test_a_gradient_in_evaluation_is_refused_whoever_checks_it(planted):
    quiet = """
import dataclasses
import harness.program.loss as internal
internal.WorkloadLoss.__init__ = (lambda real: lambda self, workload, gradients=True: real(self, workload, True))(
    internal.WorkloadLoss.__init__)
import harness.program.exporting as exporting
nothing = internal.StepCost(0.0, 0.0, True)
exporting.cost_of = lambda *_: nothing
"""
    evaluate = """
def evaluate(loss, state, batches, key):
    batch = jax.tree.map(lambda x: x[0], batches)
    _, grads = loss.value_and_grad(state.params, state.model_state, batch, key)
    return jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads), state.model_state
"""
    fields = ", eval_variables=evaluate, recalibration_batches=1"
    plain = planted(evaluate + ALGORITHM.format(extra="pass", build="pass", fields=fields), "plain")
    with pytest.raises(SubmissionError, match="eval_variables may run the loss forward but takes no gradient"):
        program(plain, GPT)
    patched = planted(quiet + evaluate + ALGORITHM.format(extra="pass", build="pass", fields=fields), "patched")
    with pytest.raises(
        SubmissionError, match=r"patched: eval_variables takes .* operations; .* it may take no gradient"
    ):
        program(patched, GPT)
    forward = evaluate.replace("_, grads = loss.value_and_grad", "loss.value").replace(
        "jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads)", "state.params"
    )
    program(planted(forward + ALGORITHM.format(extra="pass", build="pass", fields=fields), "forward"), GPT)


def test_devices_are_not_asked_for(planted):
    asks = planted(name="asks", build="jax.default_backend()")
    with pytest.raises(SubmissionError, match=r"asks/submission\.py: jax\.default_backend\(\) .*task\.platform tells"):
        program(asks)
    asks = planted(name="counts", extra="jax.devices()")
    with pytest.raises(SubmissionError, match=r"counts/submission\.py: jax\.devices\(\) tells"):
        program(asks)


def test_a_store_on_a_full_disk_is_no_fault_of_the_submission(tmp_path):
    """Functions are written through links to the one file that is always full."""
    for name in ("init_opt", "step_32"):
        (tmp_path / f"{name}.mlir").symlink_to("/dev/full")
    adam = ROOT / "submissions/adamw"
    point = submission.read_info(Folder("submissions", "adamw", adam)).defaults
    job = Job(str(tmp_path), str(QUADRATIC.path), None, "cpu", point, BUDGET)
    told = exporter.done(job, str(adam), discovery.load_workload)
    assert told is not None
    assert told.startswith(f"{tmp_path}/")
    assert "No space left on device; free some space there" in told


def test_a_dtype_of_less_than_a_byte_is_refused(planted):
    code = ALGORITHM.format(extra="pass", build="pass", fields="").replace(
        "jnp.zeros((), jnp.int32)", "jnp.zeros((), jnp.uint4)"
    )
    with pytest.raises(SubmissionError, match=r"small/submission\.py: init\(\) put uint4 into opt_state\['count'\]; "):
        program(planted(code, "small"))


def test_host_callbacks_cannot_be_exported(planted):
    calls = planted(name="calls", extra="jax.debug.print('{}', value)")
    with pytest.raises(
        SubmissionError,
        match=r"calls/submission\.py:14: a callback to the host .* return what you want to see as a metric",
    ):
        program(calls)


def test_limits_end_with_one_clear_error(planted, monkeypatch):
    monkeypatch.setattr(child, "MAX_EXPORT_S", 20.0)
    loops = planted(name="loops", build="while True: pass")
    with pytest.raises(SubmissionError, match=r"loops: .*no program within 20 s"):
        program(loops)
    hungry = planted(name="hungry", build="x = bytearray(10 * 2**30)")
    with pytest.raises(SubmissionError, match=r"hungry.*(4 GiB|MemoryError)"):
        program(hungry)
    exits = planted(name="exits", build="import os; os._exit(3)")
    with pytest.raises(SubmissionError, match=r"exits: the process .* ended: exit code 3"):
        program(exits)


def test_a_workload_that_states_no_shapes_says_so(tmp_path):
    path = tmp_path / "workloads/bare"
    path.mkdir(parents=True)
    text = (ROOT / "workloads/quadratic/workload.py").read_text().replace("quadratic", "bare")
    (path / "workload.py").write_text(text)
    model = (ROOT / "workloads/quadratic/model.py").read_text()
    (path / "model.py").write_text(model.replace("shapes=data.shapes,", ""))
    with pytest.raises(WorkloadError, match=r"bare: Workload\.shapes is None; state the shapes"):
        processes.workload_program(Folder("workloads", "bare", path))


def test_the_manifest_is_read_strictly():
    made = program(adamw())
    file = store.root() / made.manifest.id / store.MANIFEST
    held = json.loads(file.read_text())
    assert held["id"] == made.manifest.id == file.parent.name
    assert held["functions"]["step_32"]["sha256"] == store.sha256(made.functions["step_32"])
    assert np.isfinite(held["functions"]["step_32"]["flops"])
