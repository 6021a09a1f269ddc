"""A run of the yardstick is made like a program's chunk: what is timed, and what the host does meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from harness.trial import yardstick
from harness.trial.yardstick import UNCOUNTED_CALLS, Yardstick


class Traced:
    """A step that takes no time, and a clock; both write down when they are asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, in_flight: bool):
        self.happened: list[str] = []
        monkeypatch.setattr(yardstick.time, "perf_counter", self.clock)
        monkeypatch.setattr(yardstick, "is_done", lambda metrics: not in_flight)
        monkeypatch.setattr(yardstick.jax, "block_until_ready", self.waited)

    def clock(self) -> float:
        self.happened.append("clock")
        return 0.0

    def waited(self, value: Any) -> Any:
        self.happened += [f"{value} done"] if isinstance(value, int) else []
        return value

    def order(self, state: Any, inputs: Any) -> str:
        return "order"

    def __call__(self, state: Any, *_: Any) -> tuple[Any, int]:
        self.happened.append("call")
        return state, self.happened.count("call")


@pytest.mark.parametrize(("in_flight", "last"), [(True, 5), (False, 6)])
def test_the_host_hands_over_as_many_calls_as_are_timed_while_they_are(monkeypatch, in_flight, last):
    """Else the timed calls would have both cores to themselves, and every program, whose host works beside its steps,
    would be charged 2 to 5% more than it takes.
    """
    traced = Traced(monkeypatch, in_flight=in_flight)
    made = Yardstick(lambda *_: None, traced, "inputs", {}, 1, "cpu", _state="state")  # type: ignore[arg-type]
    made._timed(4)
    before, timed = ["call"] * UNCOUNTED_CALLS + ["1 done"], ["call"] * 4 + [f"{last} done"]
    assert traced.happened == [*before, "clock", *timed, "clock"]
