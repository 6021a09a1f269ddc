"""A worker with several run folders: one that fails, dies or is interrupted costs the others nothing, not even a bit.

And what a worker leaves out: nothing of a submission or a model is imported, and no controller outlives it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.record import run_folder
from harness.record.result import Status

TESTS = Path(__file__).resolve().parent.parent
HANGS, PETABYTE = TESTS / "faults/hangs", TESTS / "faults/wants_a_petabyte"
SLOW, FAST = {"learning_rate": 0.05}, {"learning_rate": 0.1}  # of HANGS, which hangs by default
STEPS = 144  # in six chunks


def events(path, kind):
    return [e for e in run_folder.read_events(path) if e["event"] == kind]


def status(path):
    return run_folder.read_trial(path).status


def test_a_trial_without_memory_is_followed_by_the_next(make_trial, start_worker):
    paths = [
        make_trial("quadratic", HANGS, hp=SLOW, stop="horizon"),
        make_trial("quadratic", PETABYTE),
        make_trial("quadratic", HANGS, hp=FAST, stop="horizon"),
    ]
    assert start_worker(*paths).wait(300) == 0
    assert [status(path) for path in paths] == [Status.HORIZON_REACHED, Status.OUT_OF_MEMORY, Status.HORIZON_REACHED]
    printed = [(path / "worker.log").read_text() for path in paths]
    assert ["Out of memory" in text for text in printed] == [False, True, False]


def test_what_comes_before_a_crash_stands_and_the_rest_runs_when_typed_again(make_trial, start_worker, run_worker):
    first = make_trial("quadratic", HANGS, hp=SLOW, stop="horizon")
    hangs = make_trial("quadratic", HANGS, seed=1, budget_steps=10_000)
    last = make_trial("quadratic", HANGS, hp=FAST, seed=2, stop="horizon")
    assert len({run_folder.read_spec(path)[0].program for path in (first, hangs, last)}) == 1
    worker = start_worker(first, hangs, last)
    worker.wait_for(lambda: any(e["step"] >= 140 for e in events(hangs, "chunk")))  # of 150 that come to an end
    worker.send_signal(signal.SIGSEGV)
    assert worker.wait(60) == -signal.SIGSEGV
    assert [status(path) for path in (first, hangs, last)] == [
        Status.HORIZON_REACHED,
        Status.INTERRUPTED,
        Status.PLANNED,
    ]

    before = (first / "result.json").read_bytes()
    trials = run_worker(first, last)
    assert [trial.status for trial in trials] == [Status.HORIZON_REACHED] * 2
    assert (first / "result.json").read_bytes() == before, "a finished trial is not run again"


@pytest.fixture(scope="module")
def three(trial_below):
    """Return a function that prepares three trials of one program, of other seeds and points, below a folder."""

    def make(root, **fields):
        points = [{"learning_rate": 0.00894}, {"learning_rate": 0.02}, {"weight_decay": 0.1}]
        return [
            trial_below(root, "lm_grammar", "adamw", hp=hp, seed=seed, stop="horizon", max_steps=STEPS, **fields)
            for seed, hp in enumerate(points)
        ]

    return make


@pytest.fixture(scope="module")
def whole(three, run_worker, tmp_path_factory):
    """The three, run by one worker that nothing disturbs."""
    paths = three(tmp_path_factory.mktemp("whole"))
    assert len({run_folder.read_spec(path)[0].program for path in paths}) == 1
    trials = run_worker(*paths)
    assert [trial.status for trial in trials] == [Status.HORIZON_REACHED] * 3
    assert len({trial.result.final_hash for trial in trials}) == 3
    return trials


def same(trials, whole):
    """Assert that trials ended with the same bits, and the same measurements on the way."""
    for trial, other in zip(trials, whole, strict=True):
        assert trial.result.final_hash == other.result.final_hash
        assert [(m.step, m.metrics) for m in trial.measurements] == [(m.step, m.metrics) for m in other.measurements]
        assert trial.result.test == other.result.test


def test_a_trial_ends_with_the_same_bits_whatever_ran_before_it(whole, three, run_worker, tmp_path):
    same([run_worker(three(tmp_path)[1])], whole[1:2])


def test_killed_in_the_second_of_three_all_end_with_the_same_bits(whole, three, start_worker, run_worker, tmp_path):
    paths = three(tmp_path, checkpoint_s=0.0)
    delay_s = random.uniform(0, 0.3)
    worker = start_worker(*paths)
    worker.wait_for(lambda: events(paths[1], "checkpoint"))
    time.sleep(delay_s)
    worker.kill()
    worker.wait()
    found = [status(path) for path in paths]
    assert found == [Status.HORIZON_REACHED, Status.INTERRUPTED, Status.PLANNED], f"killed after {delay_s} s"
    trials = run_worker(*paths)
    assert [trial.result.attempts for trial in trials] == [1, 2, 1]
    assert events(paths[1], "attempt")[-1]["resume_step"] > 0
    same(trials, whole)


def test_interrupted_in_the_second_of_three_all_end_with_the_same_bits(
    whole, three, start_worker, run_worker, tmp_path
):
    paths = three(tmp_path)
    worker = start_worker(*paths)
    worker.wait_for(lambda: events(paths[1], "chunk"))
    worker.send_signal(signal.SIGINT)
    assert worker.wait(60) == 0
    assert [status(path) for path in paths] == [Status.HORIZON_REACHED, Status.INTERRUPTED, Status.PLANNED]
    assert "run again to go on" in run_folder.read_trial(paths[1]).reason
    assert not (paths[2] / "log.jsonl").exists(), "an interruption ends the list"
    trials = run_worker(*paths)
    assert [trial.result.attempts for trial in trials] == [1, 2, 1]
    assert 0 < events(paths[1], "attempt")[-1]["resume_step"] < STEPS
    same(trials, whole)


IMPORTED = """
import sys
from harness.trial import worker
code = worker.main(sys.argv[1:])
print(*sorted(sys.modules), sep="\\n")
sys.exit(code)
"""


def test_a_worker_imports_no_submission_and_no_model(make_trial):
    paths = [
        make_trial("lm_grammar", "adamw", max_steps=2),
        make_trial("lm_grammar", TESTS / "algorithms/batch_ramp", max_steps=48),  # with a `control` that is asked
    ]
    command = [sys.executable, "-c", IMPORTED, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=TESTS.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [status(path) for path in paths] == [Status.HORIZON_REACHED] * 2
    assert events(paths[1], "control")
    names = done.stdout.splitlines()
    assert "jax" in names
    assert not [name for name in names if name.split(".")[0] in ("flax", "optax", "hydra")]
    found = {name.partition(".")[2] for name in names if name.startswith("_found_")} - {""}
    families = {f"families.{name}" for name in ("spec", "batches", "subsets")}
    data_side = {"lm_grammar", "lm_grammar.workload", "families", *families}
    assert found == data_side, "neither the model in families.gpt nor a submission"


def controllers(parent: int) -> dict[int, str]:
    """Return the controllers of a worker: state by process id, as /proc has it."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, fields = (folder / "cmdline").read_text(), (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if "harness.program.control" in command and int(fields[1]) == parent:
            found[int(folder.name)] = fields[0]
    return found


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize(
    ("name", "hp", "state"),
    [
        ("algorithms/batch_ramp", {}, "T"),  # stopped between two questions
        ("faults/bad_control", {"fault": "waits"}, "S"),  # at work on an answer, for ever
    ],
)
def test_a_killed_worker_leaves_no_controller_behind(make_trial, start_worker, name, hp, state):
    path = make_trial("lm_grammar", TESTS / name, hp=hp, stop="horizon")
    worker = start_worker(path)
    worker.wait_for(lambda: len(events(path, "chunk")) > (state == "T"))
    (controller,) = worker.wait_for(lambda: [p for p, found in controllers(worker.pid).items() if found == state])
    if state == "S":
        time.sleep(0.5)
        assert controllers(worker.pid) == {controller: "S"}
    assert os.getpgid(controller) == controller != os.getpgid(worker.pid)
    worker.kill()
    worker.wait()
    deadline = time.monotonic() + 20
    try:
        while not is_gone(controller):
            assert time.monotonic() < deadline, "the controller goes on"
            time.sleep(0.05)
    finally:
        if not is_gone(controller):
            os.kill(controller, signal.SIGKILL)


IMPORTING = """
import os, signal, sys
from pathlib import Path
from harness.trial import priming, worker

def prime(spec, folder):  # what an extension does that is being loaded as the signal comes
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt as interruption:
        raise ImportError("Encountered an error while initializing the extension.") from interruption

priming.prime = prime
sys.exit(worker.Work().on(Path(sys.argv[1]), 0.0))
"""


def test_an_interruption_that_an_import_takes_for_its_own_error_is_one(make_trial):
    path = make_trial("quadratic", HANGS, hp=FAST, stop="horizon")
    subprocess.run([sys.executable, "-c", IMPORTING, str(path)], cwd=TESTS.parent, timeout=120, check=True)
    assert status(path) is Status.INTERRUPTED
