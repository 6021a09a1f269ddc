"""A trial as a subprocess: every way it can end, with small scripts in the worker's place."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from harness.campaign.launch import local
from harness.campaign.plan import PlannedTrial
from harness.errors import HarnessError, HeldError, MachineError, RunFolderError
from harness.record import run_folder
from harness.record.result import Status
from harness.record.run_folder import Trial
from harness.record.spec import SCHEMA, Options, TrialSpec

HEADER = """
import os, signal, sys, time
from pathlib import Path
from harness.record import run_folder
from harness.record.result import Result, Status
path = Path(sys.argv[1])
spec, _ = run_folder.read_spec(path)

def end(folder, status):
    folder.write_result(Result(Status(status), "told so", spec.id, steps=7))

"""
SCORED = '{"wall": 1.0, "cpu": 1.0, "calibrated": 1.0, "energy": None}'


@pytest.fixture
def planned(tmp_path: Path) -> PlannedTrial:
    spec = TrialSpec(
        schema=SCHEMA, workload="task", workload_version=1, workload_hash="w", metric="loss", mode="min", target=0.5,
        step_hint=400, batch_size=8, budget_steps=600, reference_step_s=0.1, submission="mine", submission_hash="s",
        hyperparameters={}, rules="quick", stop="target", clock="calibrated", score_compile=False, compile_cap_s=60.0,
        free_batch_size=True, study=0, trial=0, seed=0, tuning=False, device="cpu", deterministic=True,
    )  # fmt: skip
    options = Options("workloads/task", "submissions/mine", hang_s=60.0)
    return PlannedTrial(spec, options, tmp_path, tmp_path / spec.folder, Status.PLANNED, again=False, expected_s=None)


@pytest.fixture
def run(planned: PlannedTrial, tmp_path: Path):
    """Return a function that runs a script in the worker's place."""

    def run(script: str, on_event=lambda event: None, *, trial: PlannedTrial = planned, **options) -> Trial:
        file = tmp_path / "worker.py"
        file.write_text(HEADER + textwrap.dedent(script))
        return local.run_trial(trial, on_event, command=(sys.executable, str(file)), **options)

    return run


def test_the_worker_writes_its_own_result(run):
    seen: list[str] = []
    trial = run(
        """
        print("hello")
        assert sys.argv[2] == "--started" and 0 <= time.monotonic() - float(sys.argv[3]) < 600
        with run_folder.hold(path) as folder:
            folder.append("phase", phase="build")
            end(folder, "diverged")
        """,
        lambda event: seen.append(event["event"]),
        on_start=lambda: seen.append("on its way"),
    )
    assert (trial.status, trial.reason, trial.result.steps) == (Status.DIVERGED, "told so", 7)
    assert seen == ["on its way", "phase", "end"]
    assert (trial.path / "worker.log").read_text() == "hello\n"


@pytest.mark.parametrize("said", ["no space left there", ""])
def test_trouble_of_the_machine_is_told_and_not_recorded(run, planned, said):
    with pytest.raises(MachineError, match=said or "cannot be written; free some space there"):
        run(f"print({said!r}); sys.exit(7)")
    assert not (planned.path / "result.json").exists()


def test_events_are_handed_on_once_and_only_whole_and_new_ones(run, planned):
    path = run_folder.prepare(planned.root, planned.spec, planned.options)
    (path / "log.jsonl").write_text('{"v": 1, "event": "phase", "phase": "old"}\n{"v": 1, "eve')
    seen: list[str] = []

    def on_event(event):
        seen.append(event.get("phase", event["event"]))
        (path / "go").touch()

    run(
        """
        with run_folder.hold(path) as folder:
            folder.append("start", attempt=2)
            folder.append("phase", phase="one")
            with (path / "log.jsonl").open("a") as log:
                log.write('{"v": 1, "event": "phase", "pha')
                log.flush()
                while not (path / "go").exists():
                    time.sleep(0.01)
                time.sleep(0.3)
                log.write('se": "two"}\\n')
            end(folder, "stopped")
        """,
        on_event,
    )
    assert seen == ["start", "one", "two", "end"]


@pytest.mark.parametrize(
    ("script", "status", "reason"),
    [
        ("sys.exit(3)", Status.CRASHED, "exit code 3: the worker printed nothing"),
        (
            "print('first'); print('RuntimeError: last'); print(); sys.exit(1)",
            Status.CRASHED,
            "exit code 1: RuntimeError: last",
        ),
        ("raise ValueError('bad')", Status.CRASHED, "exit code 1: ValueError: bad"),
        ("print('left early')", Status.CRASHED, "exit code 0: left early"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", Status.CRASHED, "SIGSEGV: the worker printed nothing"),
        ("os.abort()", Status.CRASHED, "SIGABRT: the worker printed nothing"),
        (
            "import faulthandler; faulthandler.enable(); os.kill(os.getpid(), signal.SIGSEGV)",
            Status.CRASHED,
            "SIGSEGV: Fatal Python error: Segmentation fault",
        ),
    ],
)
def test_a_worker_that_leaves_no_result_gets_one(run, script, status, reason):
    seen = []
    trial = run(script, seen.append)
    assert (trial.status, trial.reason, trial.result.spec_id) == (status, reason, trial.spec.id)
    assert (seen[-1]["event"], seen[-1]["status"]) == ("end", status)  # so that it is shown, too


def test_the_result_in_its_stead_holds_what_the_log_tells(run):
    trial = run(
        f"""
        with run_folder.hold(path) as folder:
            folder.append("attempt", attempt=2, resume_step=0)
            for step, loss in (10, 0.9), (20, 0.7), (30, 0.8):
                folder.append("chunk", t=step / 10, step=step, examples=8 * step)
                values = dict(step=step, examples=8 * step, metrics={{"loss": loss}}, scored={SCORED}, met=False)
                folder.append("measurement", **values)
            os._exit(9)
        """
    )
    result = trial.result
    assert (result.steps, result.examples, result.best, result.last) == (30, 240, 0.7, 0.8)
    assert (result.wall_s, result.attempts) == (3.0, 2)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_worker_killed_from_outside_goes_on_when_run_again(run, name):
    trial = run(
        f"""
        with run_folder.hold(path) as folder:
            folder.append("phase", phase="train")
            os.kill(os.getpid(), signal.{name})
            time.sleep(60)
        """
    )
    assert trial.status == Status.INTERRUPTED
    assert not (trial.path / "result.json").exists()


def test_a_kill_while_the_kernel_counts_one_for_memory_is_out_of_memory(run, monkeypatch):
    counts = iter([4, 5])
    monkeypatch.setattr(local, "oom_kills", lambda: next(counts))
    trial = run("os.kill(os.getpid(), signal.SIGKILL)")
    assert trial.status == Status.OUT_OF_MEMORY
    assert "ran out of memory" in trial.reason


def test_verdict():
    assert local.verdict(-9, "", oom_killed=False) is None
    assert local.verdict(-9, "", oom_killed=True)[0] == Status.OUT_OF_MEMORY
    died = "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc"
    assert local.verdict(-6, died, oom_killed=False) == (Status.OUT_OF_MEMORY, f"SIGABRT: {died.splitlines()[0]}")
    died = "F1129 00:09:08.0 22166 env.cc:93] Check failed: Thread tf_XLAEigen creation via pthread_create() failed."
    trace = f"{died}\n*** Check failure stack trace: ***\n    @ 0x7f3ae9c40634  PyObject_Vectorcall"
    assert local.verdict(-6, trace, oom_killed=False) == (Status.OUT_OF_MEMORY, f"SIGABRT: {died}")
    other = trace.replace("pthread_create", "something")
    assert local.verdict(-6, other, oom_killed=False) == (Status.CRASHED, f"SIGABRT: {other.splitlines()[0]}")
    assert local.verdict(1, "Traceback\nMemoryError", oom_killed=False)[0] == Status.OUT_OF_MEMORY
    blas = "OpenBLAS error: Memory allocation still failed after 10 retries, giving up."
    assert local.verdict(1, blas, oom_killed=False) == (Status.OUT_OF_MEMORY, f"exit code 1: {blas}")
    assert local.verdict(-11, "x", oom_killed=True) == (Status.CRASHED, "SIGSEGV: x")  # the kill was another's


def test_kernel_counters(tmp_path):
    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert local.oom_kills(tmp_path) == 0
    write("proc/vmstat", "nr_free_pages 5\noom_kill 7\n")
    assert local.oom_kills(tmp_path) == 7
    write("proc/self/cgroup", "0::/slice/unit\n")
    assert local.oom_kills(tmp_path) == 7
    write("sys/fs/cgroup/slice/unit/memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert (
        local.oom_kills(tmp_path) == 2
    )  # one's own control group tells; what the rest of the machine does is no matter
    write("proc/self/cgroup", "9:cpu:/\n4:memory:/job\n")
    write("sys/fs/cgroup/memory/job/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    assert local.oom_kills(tmp_path) == 3
    write("proc/self/cgroup", "4:memory:/unseen\n")  # the container shows its own group as the root
    write("sys/fs/cgroup/memory/memory.oom_control", "oom_kill 4\n")
    assert local.oom_kills(tmp_path) == 11


def with_hang_s(planned: PlannedTrial, hang_s: float) -> PlannedTrial:
    options = Options(planned.options.workload_path, planned.options.submission_path, hang_s=hang_s)
    return PlannedTrial(planned.spec, options, planned.root, planned.path, planned.status, False, None)


def test_a_worker_without_a_sign_of_life_is_killed(run, planned, monkeypatch):
    started = []

    def popen(*args, _real=subprocess.Popen, **options):
        started.append(_real(*args, **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", popen)
    trial = run("time.sleep(600)", trial=with_hang_s(planned, 0.2))
    assert trial.status == Status.HUNG
    assert trial.reason.startswith(
        f"no sign of life for hang_s=0.2 s; killed. What it printed is in {trial.path}/worker.log"
    )
    assert trial.reason.endswith("run it again with retry=true hang_s=0.6"), "how to wait longer"
    assert started[0].returncode == -signal.SIGKILL


class FakeTime:
    """Time that passes only while one sleeps."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class SleepingWorker:
    def poll(self) -> None:
        return None


def test_every_event_is_a_sign_of_life(monkeypatch):
    clock, due = FakeTime(), [2.5, 5.0, 7.5]
    monkeypatch.setattr(local, "time", clock)

    def events():
        return [{"event": "chunk", "step": due.pop(0)}] if due and clock.now >= due[0] else []

    done = local._follow(SleepingWorker(), lambda: None, events, lambda event: None, 3.0, [], lambda text: None)  # type: ignore[arg-type]
    assert done == local.HUNG
    assert clock.now == pytest.approx(7.5 + 3.0, abs=3 * local.POLL_S)


def test_a_folder_held_by_another_process_is_not_touched(run, planned):
    path = run_folder.prepare(planned.root, planned.spec, planned.options)
    with run_folder.hold(path), pytest.raises(RunFolderError, match=f"is held by process {os.getpid()} on "):
        run("raise AssertionError('must not be started')")
    assert not (path / "worker.log").exists()


@pytest.mark.parametrize(("code", "error"), [(4, HeldError), (5, HarnessError)])
def test_what_a_worker_says_before_it_takes_the_folder_is_passed_on(run, planned, code, error):
    with pytest.raises(error, match="the reason") as caught:
        run(f"print('noise'); print('the reason'); sys.exit({code})")
    assert type(caught.value) is error
    assert not (planned.path / "result.json").exists()


def test_a_crash_after_an_interrupted_attempt_is_no_longer_interrupted(run):
    interrupt = """
        with run_folder.hold(path) as folder:
            folder.append("phase", phase="train")
            end(folder, "interrupted")
        """
    assert run(interrupt).status == Status.INTERRUPTED
    assert run("print('gone'); os._exit(2)").status == Status.CRASHED


def test_a_crash_after_the_result_does_not_undo_it(run):
    trial = run("with run_folder.hold(path) as folder: end(folder, 'target_reached')\nos.abort()")
    assert (trial.status, trial.reason) == (Status.TARGET_REACHED, "told so")


SAVES = """
    with run_folder.hold(path) as folder:
        def save(*_):
            end(folder, "interrupted")
            os._exit(0)
        signal.signal(signal.SIGINT, save)
        folder.append("phase", phase="train")
        time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_lets_the_worker_save(run, planned, number):
    notes: list[str] = []
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        run(SAVES, lambda event: event["event"] == "phase" and os.kill(os.getpid(), number), note=notes.append)
    assert notes == [local.SAVING + local.KILLS]
    assert run_folder.read_trial(planned.path).status == Status.INTERRUPTED
    assert signal.getsignal(number) is before


def test_an_interrupt_before_the_worker_can_save_leaves_the_trial_to_go_on(run, planned):
    with pytest.raises(KeyboardInterrupt):
        run("time.sleep(60)", on_start=lambda: os.kill(os.getpid(), signal.SIGINT), note=lambda text: None)
    assert run_folder.read_trial(planned.path).status == Status.PLANNED


def test_an_interrupt_that_meets_a_full_disk_ends_the_campaign_all_the_same(run, planned):
    told: list[str] = []
    script = """
        def full(*_):
            print("no room for the checkpoint", flush=True)
            os._exit(7)
        signal.signal(signal.SIGINT, full)
        with run_folder.hold(path) as folder:
            folder.append("phase", phase="train")
            time.sleep(600)
        """
    with pytest.raises(KeyboardInterrupt):
        run(script, lambda event: os.kill(os.getpid(), signal.SIGINT), note=told.append)
    assert told == [local.SAVING + local.KILLS, "no room for the checkpoint"]
    assert not (planned.path / "result.json").exists()


def test_the_second_interrupt_kills_the_worker(run, planned):
    def press(*_):
        os.kill(os.getpid(), signal.SIGINT)

    script = """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with run_folder.hold(path) as folder:
            (path / "pid").write_text(str(os.getpid()))
            folder.append("phase", phase="train")
            time.sleep(600)
        """
    with pytest.raises(KeyboardInterrupt):
        run(script, press, note=press)
    with pytest.raises(ProcessLookupError):
        os.kill(int((planned.path / "pid").read_text()), 0)
    assert run_folder.read_trial(planned.path).status == Status.INTERRUPTED
    assert not (planned.path / "result.json").exists()


def test_an_error_in_the_view_does_not_leave_the_worker_behind(run, planned):
    script = """
        with run_folder.hold(path) as folder:
            (path / "pid").write_text(str(os.getpid()))
            folder.append("phase", phase="train")
            time.sleep(600)
        """

    def fail(event):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(script, fail)
    with pytest.raises(ProcessLookupError):
        os.kill(int((planned.path / "pid").read_text()), 0)


def test_the_worker_sees_its_parent_go(planned, tmp_path):
    """kill -9 of the parent closes the pipe that is the worker's standard input."""
    run_folder.prepare(planned.root, planned.spec, planned.options)
    worker = tmp_path / "worker.py"
    worker.write_text(HEADER + "(path / 'started').touch()\nsys.stdin.read()\n(path / 'parent gone').touch()\n")
    parent = tmp_path / "parent.py"
    parent.write_text(
        textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from harness.campaign.launch import local
        from harness.campaign.plan import PlannedTrial
        from harness.record import run_folder
        spec, options = run_folder.read_spec(Path({str(planned.path)!r}))
        root, path = Path({str(planned.root)!r}), Path({str(planned.path)!r})
        trial = PlannedTrial(spec, options, root, path, "planned", False, None)
        local.run_trial(trial, command=(sys.executable, {str(worker)!r}))
        """)
    )
    with subprocess.Popen([sys.executable, str(parent)]) as process:
        wait_for(planned.path / "started")
        assert not (planned.path / "parent gone").exists()
        process.kill()
    wait_for(planned.path / "parent gone")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


WRITES = "with run_folder.hold(path) as folder: end(folder, {status!r})"


def test_what_another_run_finished_since_the_plan_was_made_stays(planned, run):
    """Two `harness run` of the same thing: each made its plan before the other's trial ended."""
    assert run(WRITES.format(status="target_reached")).status == Status.TARGET_REACHED
    before = {path.name: path.read_bytes() for path in planned.path.iterdir() if path.is_file()}
    again = run("raise SystemExit('a worker was started')")
    assert (again.status, again.result.steps) == (Status.TARGET_REACHED, 7)
    after = {path.name: path.read_bytes() for path in planned.path.iterdir() if path.is_file()}
    assert {name for name in before if after[name] != before[name]} <= {"lock", "spec.json"}
    assert b"a worker was started" not in after["worker.log"]


def test_a_retry_planned_before_another_one_succeeded_moves_nothing(planned, run):
    stale = dataclasses.replace(planned, again=True)
    assert run("sys.exit('broke')").status == Status.CRASHED
    assert run(WRITES.format(status="target_reached"), trial=stale).status == Status.TARGET_REACHED
    assert run("raise SystemExit('a worker was started')", trial=stale).status == Status.TARGET_REACHED
    assert len(list(planned.path.parent.glob("*.failed-*"))) == 1


def test_the_worker_itself_looks_under_the_lock(planned, run):
    assert run(WRITES.format(status="diverged")).status == Status.DIVERGED
    log = (planned.path / "log.jsonl").read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "harness.trial.worker", str(planned.path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "diverged already; nothing to do" in done.stdout) == (0, True), done.stderr
    assert (planned.path / "log.jsonl").read_bytes() == log


@pytest.mark.parametrize("fault", ["os.abort()", "time.sleep(60)"])
def test_what_happens_after_the_end_changes_no_status(planned, run, fault):
    script = f"""
        with run_folder.hold(path) as folder:
            folder.append("attempt", attempt=1, resume_step=0)
            folder.append("decided", step=7, status="target_reached", reason="met")
            {fault}
    """
    hasty = dataclasses.replace(planned, options=dataclasses.replace(planned.options, hang_s=1.0))
    trial = run(script, trial=hasty)
    assert trial.status == Status.TARGET_REACHED
    assert trial.reason.startswith("met; then ")


KEPT = """
    import json
    number = int(sys.argv[sys.argv.index("--more") + 1]) if "--more" in sys.argv else None
    while True:
        (path / "worker.log").touch()
        with run_folder.hold(path) as folder:
            spec, _ = run_folder.read_spec(path)
            folder.append("attempt", attempt=os.getpid())
            end(folder, "horizon_reached")
        if number is None:
            break
        os.write(number, (json.dumps({"code": 0}) + "\\n").encode())
        path = Path(sys.stdin.readline().rstrip())
        if not path.name:
            break
    """


@pytest.mark.parametrize(
    ("device", "max_steps", "score_compile", "shared"),
    [
        ("cpu", 5, False, True),
        ("cpu", 5, True, False),
        ("cpu", None, False, False),
        ("gpu", None, False, True),
        ("gpu", None, True, False),
    ],
)
def test_trials_of_one_program_share_a_process_on_a_gpu_or_as_smoke_tests(
    run, planned, device, max_steps, score_compile, shared
):
    """On a CPU a scored trial has one of its own, for a compiled program is faster in one process than in another."""
    pids = []
    with local.worker() as worker:
        for study in range(2):
            spec = dataclasses.replace(
                planned.spec, study=study, device=device, max_steps=max_steps, score_compile=score_compile
            )
            one = dataclasses.replace(planned, spec=spec, path=planned.root / spec.folder)
            trial = run(KEPT, trial=one, worker=worker)
            assert trial.status == Status.HORIZON_REACHED
            pids += [event["attempt"] for event in trial.events if event["event"] == "attempt"]
    assert len(set(pids)) == (1 if shared else 2)
