"""What stands in for exporting where a test plans fake submissions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.program import processes
from harness.program.processes import Found, Wanted
from harness.record.spec import short_hash


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


def install() -> None:
    """Put them in place, in a process of its own."""
    processes.program_ids = program_ids
