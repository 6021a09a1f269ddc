"""The kinds of faults. Each is a function that types the command, strikes at a moment that is drawn, and looks at once
what came of it; it returns None where the command ended before. What a fault leaves is put right by typing the same
again (`rounds.py`).
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from faults import damage, machine
from faults.desk import Desk, Home
from faults.forms import Form
from faults.strikes import Strike, Struck, kill, looked, missed, moment

from harness.record.result import Status


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
      strike: injects one.
      fits: whether a form of campaign can have it.
      light: whether it may strike a campaign several times, before others.
      lacks: says why it cannot be injected here; empty where it can.
    """

    name: str
    strike: Strike
    fits: Callable[[Form], bool] = lambda form: True
    light: bool = False
    lacks: Callable[[Home], str] = lambda home: ""


def press(*numbers: signal.Signals, code: int, apart_s: float = 0.0) -> Strike:
    """Return what sends signals to the command."""

    def strike(desk: Desk, draw: random.Random) -> Struck | None:
        when, delay_s = moment(draw, "planning", "worker", "worker", "train", "train", "saving", "end")
        if draw.random() < 0.2:
            desk.take_store(cold=True)
            when, delay_s = moment(draw, "export")
        typed = desk.type()
        if not typed.reaches(when, delay_s):
            return missed(typed)
        for number in numbers:
            with suppress(ProcessLookupError):
                os.kill(typed.process.pid, number)
            typed.waits(lambda: False, draw.uniform(0.05, apart_s) if apart_s else 0.0)
        names = " and ".join(number.name for number in numbers)
        return looked(typed, [code, -numbers[0]], f"{names} {delay_s:.2f} s after {when}")

    return strike


def suspend(desk: Desk, draw: random.Random) -> Struck | None:
    """Stop a process, or all, for some seconds."""
    (when, delay_s), seconds = moment(draw), draw.uniform(0.5, 3.0)
    which = draw.choice(("worker", "parent", "all"))
    typed = desk.type()
    if not typed.reaches(when, delay_s):
        return missed(typed)
    pids = [typed.find(role) for role in (("parent", "worker") if which == "all" else (which,))]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid or typed.process.pid, number)
        if number == signal.SIGSTOP:
            typed.waits(lambda: False, seconds)
    return looked(typed, [0], f"{which} stopped for {seconds:.1f} s, {delay_s:.2f} s after {when}")


def hang(desk: Desk, draw: random.Random) -> Struck | None:
    """Stop the worker for good: it gives no sign of life."""
    when, delay_s = moment(draw, "train", "saving")
    typed = desk.type("hang_s=12")  # a busy machine compiles for seconds without a sign
    if not typed.reaches(when, delay_s) or (pid := typed.find("worker")) is None:
        return missed(typed)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    struck = looked(
        typed, [1], f"hangs {delay_s:.2f} s after {when}", Status.HUNG, said="no sign of life", then=("retry=true",)
    )
    return struck


def two_on_a_folder(desk: Desk, draw: random.Random) -> Struck | None:
    """Type the same in two terminals."""
    one = desk.type()
    one.waits(lambda: False, draw.uniform(0.0, 2.5))
    two = desk.type()
    one.end(), two.end()
    first, second = (looked(each, [1, 2], "the same command twice") for each in (one, two))
    return Struck(second.what, [*first.problems, *second.problems])


def two_on_a_store(desk: Desk, draw: random.Random) -> Struck | None:
    """Type the command in two terminals, for two folders and one store that lacks the programs."""
    desk.take_store(cold=True)
    desk.outs.append(desk.folder / "other")
    one = desk.type()
    one.waits(lambda: False, draw.uniform(0.0, 1.5))
    two = desk.type(out=desk.outs[1])
    one.end(), two.end()
    first, second = (looked(each, [], "two commands on one store") for each in (one, two))
    return Struck(second.what, [*first.problems, *second.problems])


def stale_lock(desk: Desk, draw: random.Random) -> Struck | None:
    """Leave a lock file behind that names a process of another machine."""
    struck = kill("parent", "worker", moments=("train", "saving"))(desk, draw)
    for trial in desk.trials():
        (trial / "lock").write_text("process 1 on elsewhere since 2020-01-01 00:00:00\n")
    return struck and Struck("a lock file left behind", struck.problems)


PARTIES = ("worker", "exporter", "controller", "parent", "deriver")
KINDS = (
    Kind("kill -9 worker", kill("worker", moments=("worker", "train", "saving", "end")), light=True),
    Kind("kill -9 exporter", kill("exporter", "deriver", moments=("export",), cold=True)),
    Kind("kill -9 controller", kill("controller", moments=("control",)), lambda form: form.control, light=True),
    Kind("kill -9 searcher", kill("searcher", "parent", moments=("search",)), lambda form: form.search),
    Kind("kill -9 parent", kill("parent"), light=True),
    Kind("kill -9 any two", kill(*PARTIES, moments=("worker", "control", "train", "saving", "end"), count=2),
         light=True),
    Kind("kill -9 two that export", kill("parent", "exporter", "deriver", moments=("export",), cold=True, count=2)),
    Kind("Ctrl-C", press(signal.SIGINT, code=130), light=True),
    Kind("Ctrl-C twice", press(signal.SIGINT, signal.SIGINT, code=130, apart_s=0.6), light=True),
    Kind("SIGTERM", press(signal.SIGTERM, code=130), light=True),
    Kind("SIGSTOP for seconds", suspend),
    Kind("hanging worker", hang),
    Kind("two on a folder", two_on_a_folder),
    Kind("two on a store", two_on_a_store),
    Kind("lock left behind", stale_lock),
    *(Kind(name, strike, fits, lacks=lacks) for name, strike, fits, lacks in machine.KINDS),
    *(Kind(name, strike) for name, strike in damage.KINDS),
)  # fmt: skip
