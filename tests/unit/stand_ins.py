"""What stands in for exporting, and for the processes of a search, where a test plans fake submissions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from harness.program import processes
from harness.program.processes import Found, Wanted
from harness.record.spec import short_hash
from harness.search import sweeps
from harness.trial.sweep_messages import Answer, Request


def program_ids(wanted: Sequence[Wanted], on_export: Callable[[str], None] = str) -> list[Found]:
    """Return ids that follow from sources, lengths and constants alone; no process is started."""

    def one(each: Wanted, point: dict) -> str:
        constants = {name: value for name, value in point.items() if name not in each.ends}
        lengths = each.budget_steps, each.declared_steps, each.variant, each.platform
        return short_hash(["submission", each.workload.source_hash, each.submission.source_hash, constants, lengths])

    return [
        Found(
            short_hash(["workload", each.workload.source_hash, each.variant, each.platform]),
            tuple(one(each, point) for point in each.points),
        )
        for each in wanted
    ]


class Sweeps:
    """Answers by a formula: the nearer `lr` is to 0.1, the sooner the loss is at 0.5. `asked` holds what was."""

    asked: list[Request] = []  # noqa: RUF012

    def run(self, requests: Sequence[Request], on_answer: Callable[[Request, Answer], None]) -> None:
        """Answer each request; those of a submission called `slow` take a while."""
        for request in requests:
            time.sleep(0.1 if request.submission == "slow" else 0.0)
            self.asked.append(request)
            on_answer(request, self.answer(request))

    def answer(self, request: Request) -> Answer:
        """Return the measurements on every 16th step."""
        needed = 250 * (1 + abs(math.log10(float(request.hyperparameters["lr"]) / 0.1))) + 10 * request.study
        steps: list[int] = []
        start = [0] if request.from_start else []
        while not steps or steps[-1] < request.until:
            steps.append(min(request.until, 16 * (len(steps) + 1)))
            if request.target is not None and 0.5 * needed / steps[-1] <= request.target:
                break
        values = [10.0] * len(start) + [0.5 * needed / step for step in steps]
        return Answer("running", (*start, *steps), tuple(values), 1.0)


@contextmanager
def started(*_: Any, **__: Any) -> Iterator[Sweeps]:
    """Start no process."""
    yield Sweeps()


def install() -> None:
    """Put them in place, in a process of its own."""
    processes.program_ids = program_ids
    sweeps.started = started
