"""What is shown while a trial runs, a view of its log: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.record.spec import TrialSpec

Event = dict[str, Any]

PHASES = {
    "priming": "starting",  # on a GPU: compiled once beforehand, untimed, where that was not done before
    "setup": "loading",
    "compile": "compiling",
    "warmup": "warming up",
    "init": "initialising",
    "train": "training",
    "finish": "evaluating",
}
CLOCK_UNITS = {"wall": "s wall", "cpu": "s CPU", "calibrated": "calibrated s", "energy": "J"}
RECENT = 8  # chunks behind the shown speed
BARS = "▁▂▃▄▅▆▇█"
PLAIN_S = 5.0  # between plain lines on measurements, so that the log of many trials can be read


class _Chunk(NamedTuple):
    steps: int
    seconds: float
    gained: float  # of `Progress.spent`


@dataclass
class Progress:
    """How far a trial is, as its events tell.

    Attributes:
      spec: the trial's.
      phase: for people.
      step, loss: of the last chunk.
      metric, met: of the last measurement; `values` holds the metric of all.
      spent: what counts against the budget, in the ranking clock; `budget` in the same unit.
      status, reason: of the end.
    """

    spec: TrialSpec
    phase: str = "starting"
    step: int = 0
    loss: float | None = None
    metric: float | None = None
    met: bool = False
    values: list[float] = field(default_factory=list)
    spent: float | None = None
    budget: float | None = None
    clock: str = ""
    status: str | None = None
    reason: str = ""
    _recent: deque[_Chunk] = field(default_factory=lambda: deque(maxlen=RECENT))

    def add(self, event: Event) -> bool:
        """Take in one event; return whether it is news: a new phase, a measurement or the end. Unknown ones are not."""
        kind = event["event"]
        if kind in ("start", "attempt"):
            self.status, self.reason = None, ""
            self._recent.clear()
            if kind == "attempt":  # what was done past the checkpoint is done again
                self.step, self.loss, self.spent, self.values = event["resume_step"], None, None, []
        elif kind == "phase":
            self.phase = PHASES.get(event["phase"], str(event["phase"]))
            return True
        elif kind == "budget":
            self.budget, self.clock = event["seconds"], event.get("clock", self.spec.clock)
        elif kind == "chunk":
            self._chunk(event)
        elif kind == "measurement":
            self.step, self.met = event["step"], event["met"]
            self.metric = event["metrics"].get(self.spec.metric)
            self.values += [] if self.metric is None else [self.metric]
            return True
        elif kind == "end":
            self.status, self.reason = event["status"], event["reason"]
            return True
        return False

    @property
    def limit(self) -> int:
        """The step at which the trial ends at the latest, were its steps as dear as the baseline's."""
        limit = self.spec.horizon if self.spec.stop == "horizon" else self.spec.budget_steps
        return limit if self.spec.max_steps is None else min(limit, self.spec.max_steps)

    @property
    def fraction(self) -> float:
        """The part of the budget that is spent, or of the steps that are done, whichever is nearer to the end."""
        spent = self.spent / self.budget if self.spec.stop == "target" and self.spent and self.budget else 0.0
        steps = self.step / self.limit if self.spec.stop == "horizon" or self.spec.max_steps else 0.0
        return min(max(spent, steps), 1.0)

    @property
    def steps_per_s(self) -> float | None:
        """Training steps per second over the last chunks."""
        seconds = sum(chunk.seconds for chunk in self._recent)
        return sum(chunk.steps for chunk in self._recent) / seconds if seconds > 0 else None

    @property
    def left_s(self) -> float | None:
        """Seconds of training left at the present speed, at most: to the last step, or until the budget is spent."""
        speeds: list[tuple[float, float]] = (
            [] if self.steps_per_s is None else [(max(self.limit - self.step, 0), self.steps_per_s)]
        )
        if self.spec.stop == "target":
            speeds = speeds if self.spec.max_steps else []
            gained, seconds = sum(c.gained for c in self._recent), sum(c.seconds for c in self._recent)
            if self.budget is not None and self.spent is not None and gained > 0:
                speeds.append((max(self.budget - self.spent, 0.0), gained / seconds))
        return min((left / speed for left, speed in speeds if speed > 0), default=None)

    def _chunk(self, event: Event) -> None:
        spent = event["spent"].get(self.clock or self.spec.clock)
        gained = 0.0 if spent is None or self.spent is None else spent - self.spent
        self._recent.append(_Chunk(event["step"] - self.step, event["seconds"], gained))
        self.step, self.spent = event["step"], spent
        self.loss = (event["metrics"].get("loss") or [None])[-1]


def title(spec: TrialSpec) -> str:
    """Return the trial's name for people."""
    return f"{spec.task} / {spec.submission} {spec.number}"


def line(p: Progress) -> str:
    """Return one line of plain text on where the trial stands."""
    if p.status is not None:
        return f"{title(p.spec)}: {p.status}" + (f" ({p.reason})" if p.reason else "")
    return ", ".join([f"{title(p.spec)}: {p.phase}", *(f"{name} {text}" for name, text in facts(p))])


def facts(p: Progress) -> Iterator[tuple[str, str]]:
    """Yield the names and values worth showing, those that are known."""
    if not p.step:
        return
    speed = f" ({p.steps_per_s:.3g}/s)" if p.steps_per_s else ""
    yield "step", (f"{p.step}{speed}" if p.step > p.limit else f"{p.step}/{p.limit}{speed}")  # cheap steps go past it
    if p.phase not in (PHASES["train"], PHASES["finish"]):
        return
    if p.loss is not None:
        yield "train loss", f"{p.loss:.4f}"
    if p.metric is not None:
        goal = "no target" if p.spec.target is None else f"target {p.spec.target:.4f}{', met' if p.met else ''}"
        yield f"validation {p.spec.metric}", f"{p.metric:.4f} ({goal})"
    if p.spent is not None:
        unit = CLOCK_UNITS.get(p.clock or p.spec.clock, "")
        limited = p.spec.stop == "target" and p.budget is not None
        yield "scored", f"{_amount(p.spent)}{f' of {_amount(p.budget)}' if limited and p.budget else ''} {unit}"
    if p.left_s is not None and p.phase != PHASES["finish"]:
        yield "left", f"{'at most ' if p.spec.stop == 'target' else ''}{duration(p.left_s)}"


def _amount(value: float) -> str:
    """Return seconds or joules, to a tenth; of a toy, which takes less than one, to two digits."""
    return f"{value:.2g}" if 0 < value < 1 else f"{value:.1f}"


def sparkline(values: Sequence[float], target: float | None, width: int = 30) -> str:
    """Return the values as bars, the newest last, each the higher the larger it is. A target that is not met yet is the
    end of the scale.
    """
    shown = [value for value in values if math.isfinite(value)][-width:]
    if len(shown) < 2:
        return ""
    low, high = (
        min([*shown, *([] if target is None else [target])]),
        max([*shown, *([] if target is None else [target])]),
    )
    steps = len(BARS) - 1
    return "".join(BARS[round(steps * (value - low) / (high - low))] if high > low else BARS[0] for value in shown)


def duration(seconds: float) -> str:
    """Return seconds for people, as 45s, 3m20s or 2h05m; what takes less than one takes 1s, and only nothing 0s."""
    whole = max(round(seconds), 1 if seconds > 0 else 0)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02}m"


@contextmanager
def shown(
    spec: TrialSpec, history: Iterable[Event] = (), *, alone: bool = True, above: Callable[[], str] = str
) -> Iterator[View]:
    """Show a trial while the block runs; yield where to hand its events to, and how to print a line above them.

    One that is not `alone` is shown in plain lines. `history` holds the events of earlier attempts, which are not shown
    again. `above` says how far the campaign is, for the live panel.
    """
    progress = Progress(spec)
    for event in history:
        progress.add(event)
    progress.status, progress.phase = None, "starting"
    if alone and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        with _live(progress, above) as view:
            yield view
    else:
        yield _plain(progress)


class View(NamedTuple):
    """Where the events of a trial go, and how to say something else meanwhile."""

    add: Callable[[Event], None]
    note: Callable[[str], None]


def _say(text: str) -> None:
    print(text, flush=True)


def _plain(progress: Progress) -> View:
    said = -math.inf

    def add(event: Event) -> None:
        nonlocal said
        if not progress.add(event):
            return
        now = time.monotonic()
        if event["event"] == "measurement" and not event["met"] and now - said < PLAIN_S:
            return
        said = now
        _say(line(progress))

    return View(add, _say)


@contextmanager
def _live(progress: Progress, above: Callable[[], str]) -> Iterator[View]:
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    started = time.monotonic()

    def panel() -> Table:
        table = Table.grid(padding=(0, 1))
        name = Text(title(progress.spec), style="bold")
        table.add_row(name, Text(f"{progress.phase}, {duration(time.monotonic() - started)}"))
        if progress.step:
            table.add_row("", ProgressBar(total=1.0, completed=progress.fraction, width=40))
        for fact, value in facts(progress):
            table.add_row(Text(fact, style="dim"), Text(value))
        if bars := sparkline(progress.values, progress.spec.target):
            table.add_row(Text(progress.spec.metric, style="dim"), Text(bars))
        if text := above():
            table.add_row(Text("campaign", style="dim"), Text(text))
        return table

    console = Console()
    with Live(get_renderable=panel, console=console, refresh_per_second=4, transient=True) as live:

        def add(event: Event) -> None:
            progress.add(event)
            if event["event"] == "end":
                live.console.print(Text(line(progress)))

        yield View(add, lambda text: live.console.print(Text(text)))
