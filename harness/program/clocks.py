"""Clocks that refuse to tell a submission's `control` the time: what it answers is a function of its progress alone.

This is for honest mistakes. Who looks for a way round finds one, and `harness/SECURITY.md` says what it is worth.
"""

from __future__ import annotations

import datetime
import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_READ = ("time", "monotonic", "perf_counter", "process_time", "thread_time", "clock_gettime")
_CLOCKS = (*_READ, *(f"{name}_ns" for name in _READ), "ctime", "localtime", "gmtime")
_refused_below: list[Path] = []  # folders whose code may not ask


class ClockError(Exception):
    """A submission's `control` asks what time it is."""


def replace() -> None:
    """Put clocks that can refuse in place of Python's own; what is imported afterwards gets these."""
    for name in _CLOCKS:
        setattr(time, name, _refusable(getattr(time, name), name))

    class DateTime(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            _check("datetime.now")
            return super().now(tz)

        @classmethod
        def utcnow(cls) -> Any:
            _check("datetime.utcnow")
            return super().now(datetime.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Any:
            _check("datetime.today")
            return super().now()

    datetime.datetime = DateTime  # type: ignore[misc]


@contextmanager
def refused(source: Path) -> Iterator[None]:
    """Refuse the code in a folder the time."""
    _refused_below.append(source)
    try:
        yield
    finally:
        _refused_below.pop()


def _refusable(clock: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(clock)
    def ask(*args: Any, **kwargs: Any) -> Any:
        _check(f"time.{name}")
        return clock(*args, **kwargs)

    return ask


def _check(name: str) -> None:
    """Refuse where the code that calls the clock, two frames up, is below a folder that may not."""
    caller = Path(sys._getframe(2).f_code.co_filename)
    if any(caller.is_relative_to(folder) for folder in _refused_below):
        raise ClockError(
            f"{name}() tells the time, and what `control` answers is a function of progress alone; use progress.step "
            "or progress.examples"
        )
