"""What a command does now, on standard error: a line that is written over on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.report.progress import duration

Say = Callable[[str], None]


@contextmanager
def shown(title: str, patience_s: float = 0.0) -> Iterator[Say]:
    """Show stages while the block works; yield where to say that one begins, from any thread.

    On a terminal the present stage stands in one line with the seconds since the block began, and is gone at its end.
    Elsewhere each stage is a line, none of them before `patience_s` are over: what is done sooner needs none.
    """
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _live(title) as say:
            yield say
    else:
        with _plain(title, patience_s) as say:
            yield say


def _line(began: float, title: str, stage: str) -> str:
    return (
        f"{duration(time.monotonic() - began):>5}  {title}{stage}"  # the seconds first: a narrow terminal cuts the end
    )


@contextmanager
def _live(title: str) -> Iterator[Say]:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    began, stages = time.monotonic(), [""]

    def line() -> Text:
        return Text(_line(began, title, stages[-1]) if stages[-1] else "", overflow="ellipsis", no_wrap=True)

    with Live(
        get_renderable=line,
        console=Console(stderr=True),
        refresh_per_second=4,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        yield stages.append


@contextmanager
def _plain(title: str, patience_s: float) -> Iterator[Say]:
    began, lock = time.monotonic(), threading.Lock()
    waiting: list[str] = []

    def tell(text: str) -> None:
        print(_line(began, title, text), file=sys.stderr, flush=True)

    def late() -> None:
        with lock:
            if waiting:
                tell(waiting[-1])
            waiting.clear()

    def say(text: str) -> None:
        with lock:
            if time.monotonic() - began < patience_s:
                waiting.append(text)
            else:
                waiting.clear()
                tell(text)

    timer = threading.Timer(patience_s, late)
    timer.daemon = True
    if patience_s:
        timer.start()
    try:
        yield say
    finally:
        timer.cancel()
