"""What all faults have in common: when they strike, what is looked at once they have, and `kill -9`."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from faults import judges
from faults.desk import MOMENTS, Desk, Typed

from harness.record.result import Status


@dataclass(frozen=True)
class Struck:
    """A fault that struck.

    Attributes:
      what: it was, for people.
      problems: what was wrong right after it.
      then: words with which the command is typed again the first time.
    """

    what: str
    problems: Sequence[str]
    then: tuple[str, ...] = ()


Strike = Callable[[Desk, random.Random], Struck | None]


def looked(
    typed: Typed, codes: Sequence[int], what: str, *tolerated: Status, said: str = "", then: tuple[str, ...] = ()
) -> Struck:
    """Wait for the end of what was struck; tell an exit code, a message or a status that does not fit."""
    code = typed.end()
    problems = [] if code in (0, *codes) else [f"exit code {code}, expected {[*codes]}: {last(typed)}"]
    if "Traceback (most recent call last)" in typed.said:
        problems.append(f"a traceback: {last(typed)}")
    if code != 0 and said and said not in typed.said:
        problems.append(f"it does not say '{said}': {last(typed)}")
    problems += judges.strays()
    return Struck(what, problems + judges.after(typed.desk, *tolerated), then)


def last(typed: Typed) -> str:
    """Return the last line that a command printed."""
    return ([line for line in typed.said.splitlines() if line.strip()] or ["it printed nothing"])[-1]


def moment(draw: random.Random, *moments: str) -> tuple[str, float]:
    """Draw a moment, and the seconds after it."""
    name = draw.choice(moments or ("planning", "worker", "train", "train", "saving", "saving", "end"))
    return name, draw.uniform(0.0, MOMENTS[name])


def kill(*roles: str, moments: tuple[str, ...] = (), cold: bool = False, count: int = 1) -> Strike:
    """Return what kills processes of these roles, of several as many as `count`, with SIGKILL."""

    def strike(desk: Desk, draw: random.Random) -> Struck | None:
        possible = [name for name in moments if name != "control" or desk.form.control]
        when, delay_s = moment(draw, *possible)
        wanted = draw.sample(roles, len(roles))
        if cold:
            desk.take_store(cold=True)
        typed = desk.type()
        if not typed.reaches(when, delay_s):
            return missed(typed)
        found = [pid for role in wanted if (pid := typed.find(role)) is not None][:count]
        if len(found) < count:
            return missed(typed)
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        codes = [-signal.SIGKILL] if typed.process.pid in found else [1]
        return looked(typed, codes, f"kill -9 {delay_s:.2f} s after {when}")

    return strike


def missed(typed: Typed) -> None:
    """Let a command end that could not be struck."""
    typed.end()
