"""The controller: answers `control`, confined and without a clock, and whatever it says takes no trial down."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from planted import ALONE, TO_ALL

from harness.api import Control, Progress
from harness.errors import MachineError, SubmissionError
from harness.program import confinement, discovery, processes
from harness.program.discovery import Folder
from harness.program.requests import Job
from harness.trial import controller as controllers
from harness.trial.controller import Controller

QUADRATIC = discovery.find("workloads", "quadratic")
HELD = confinement.kernel()
CODE = f"""
import datetime, logging, os, socket, time
from datetime import datetime as moment
from time import monotonic, perf_counter
import jax.numpy as jnp
import optax
from harness.api import Algorithm, Control
from harness.optim.optax_adapter import from_optax


{TO_ALL}

def build(task, hp):
    started = time.time(), moment.now()
    base = from_optax(optax.sgd(0.1))

    def control(progress):
        if progress.step:
            eval(compile(hp["does"], __file__, "eval"))
        logging.warning("at step %d", progress.step)
        return Control(stop=bool(jnp.sqrt(progress.step) > 5.0))

    return Algorithm(init=base.init, step=base.step, control=control)
"""
REFUSED = {
    **{
        f"{asked}()": rf"ClockError in control at step 8: {told}\(\) tells the time, .* use progress.step"
        for asked, told in {
            "time.time": r"time\.time",
            "time.time_ns": r"time\.time_ns",
            "monotonic": r"time\.monotonic",
            "perf_counter": r"time\.perf_counter",
            "moment.now": r"datetime\.now",
            "datetime.datetime.utcnow": r"datetime\.utcnow",
        }.items()
    },
    "to_all(b'junk\\n')": r"the process of `control` ended: it answered b'junk', which is no answer",
    "to_all(b'x' * 2**18)": r"the process of `control` ended: it answered b'x{80}', which is no answer",
    "[None for _ in iter(int, 1)]": r"the process of `control` ended: no answer within 4 s",
    "os._exit(7)": r"the process of `control` ended, exit code 7",
}
if HELD["landlock"] and HELD["seccomp"]:
    REFUSED |= {
        "open('/etc/hostname').read()": rf"PermissionError in control at step 8: .*; {ALONE}",
        "socket.socket()": rf"PermissionError in control at step 8: .*; {ALONE}",
        "os.fork()": rf"PermissionError in control at step 8: .*; {ALONE}",
        "os.setpgid(0, os.getppid())": rf"PermissionError in control at step 8: .*; {ALONE}",
    }


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Return a function that starts a controller whose `control` does something, and asks it twice."""
    path = tmp_path_factory.mktemp("planted") / "steers"
    path.mkdir()
    (path / "submission.py").write_text(CODE)
    source = Folder("submissions", "steers", path)
    points = [{"does": does} for does in (*REFUSED, "None")]
    made = processes.submission_programs(QUADRATIC, source, points, 200)
    manifests = {str(point["does"]): program.manifest for point, program in zip(points, made, strict=True)}

    def start(does: str, meanwhile: Callable[[int], None] = lambda pid: None) -> tuple[Control | None, ...]:
        job = Job("", str(QUADRATIC.path), None, "cpu", {"does": does}, 200, None)
        controller = Controller(path, job, manifests[does])
        try:
            first = controller.ask(Progress(0, 0, {}))
            meanwhile(controller._process.pid)
            return first, *(controller.ask(Progress(step, 32 * step, {})) for step in (8, 30))
        finally:
            controller.close()

    return start


def test_it_answers_and_may_compute_and_log(ask):
    assert ask("None") == (Control(), Control(), Control(stop=True))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_somebody_kills_is_no_fault_of_the_submission(ask, number):
    with pytest.raises(MachineError, match=rf"the process of `control` ended by {number.name}; type the same again"):
        ask("None", lambda pid: os.kill(pid, number))


@pytest.mark.parametrize("does", REFUSED)
def test_what_is_refused_is_told_with_its_line(ask, does, monkeypatch):
    if "iter" in does:  # it goes on without end
        monkeypatch.setattr(controllers, "MAX_EXPORT_S", 4.0)
    with pytest.raises(SubmissionError, match=REFUSED[does]) as caught:
        ask(does)
    assert "steers/submission.py" in str(caught.value)
    assert "\n" not in str(caught.value)
