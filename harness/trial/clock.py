"""The ledger clock: every second of a trial is in exactly one span, so that the spans sum to wall time.

Time is read from a monotonic clock; the caller waits for the device before a span that must hold the device's work
ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from harness.record.readings import SPANS, Reading, Scored, Span

_now = time.perf_counter  # kept from before any submission is imported
_cpu_now = time.process_time


class Ledger:
    """Books the passing time to spans. One span runs at any moment; `other` runs when no other does.

    A span opened within another takes its own time out of the outer one.
    """

    def __init__(
        self,
        elapsed_s: float = 0.0,
        *,
        now: Callable[[], float] = _now,
        cpu_now: Callable[[], float] = _cpu_now,
        energy_now: Callable[[], float | None] = lambda: None,
    ):
        """Start in `setup`, with the `elapsed_s` since the process was started already booked there."""
        self._read: Callable[[], Reading] = lambda: Reading(now(), cpu_now(), energy_now())
        self._last = self._read()
        self._current: Span = "setup"
        self.zero = self._last - self._last
        """A reading of nothing, with energy where this machine tells it."""
        self._totals = dict.fromkeys(SPANS, self.zero)
        self._totals["setup"] += Reading(elapsed_s, self._last.cpu_s, 0.0)

    @contextmanager
    def span(self, name: Span) -> Iterator[None]:
        """Book the time of the `with` block to `name`."""
        outer = self._switch(name)
        try:
            yield
        finally:
            self._switch(outer)

    @property
    def current(self) -> Span:
        """The span that runs now."""
        return self._current

    def start(self, name: Span) -> None:
        """Make `name` the span that runs outside of any `with` block."""
        self._switch(name)

    def totals(self) -> dict[Span, Reading]:
        """Return what each span has taken so far."""
        self._switch(self._current)
        return dict(self._totals)

    def total(self) -> Reading:
        """Return the sum over all spans."""
        return sum(self.totals().values(), self.zero)

    def restore(self, saved: Mapping[Span, Reading]) -> None:
        """Take over the totals of an earlier process; what this one has spent so far (on starting again) is `other`."""
        restart = self.total()
        self._totals = dict.fromkeys(SPANS, self.zero) | dict(saved)
        self._totals["other"] += restart

    def _switch(self, name: Span) -> Span:
        reading = self._read()
        self._totals[self._current] += reading - self._last
        self._last = reading
        previous, self._current = self._current, name
        return previous


def scored(
    totals: Mapping[Span, Reading],
    eval_variables: Reading,
    *,
    yardstick_steps: float | None,
    baseline_step_s: float,
    reference_step_s: float,
    compile_cap_s: float | None,
) -> Scored:
    """Return control + init + train + `eval_variables`, plus compile beyond the cap where it is scored (cap not None).

    Calibrated seconds count steps of the yardstick: `yardstick_steps` that train and `eval_variables` are worth, and
    the rest at their mean in this trial, `baseline_step_s`; times the workload's reference step time. None where the
    yardstick did not run beside.
    """
    fixed = totals["control"] + totals["init"]
    if compile_cap_s is not None:
        spent = totals["compile"]
        share = max(0.0, 1.0 - compile_cap_s / spent.wall_s) if spent.wall_s > 0 else 0.0
        energy = None if spent.energy_j is None else spent.energy_j * share
        fixed += Reading(spent.wall_s * share, spent.cpu_s * share, energy)
    measured = fixed + totals["train"] + eval_variables
    calibrated = None
    if yardstick_steps is not None:
        calibrated = (yardstick_steps + fixed.wall_s / baseline_step_s) * reference_step_s
    return Scored(measured.wall_s, measured.cpu_s, calibrated, measured.energy_j)
