"""How many programs are looked for, beside the name of each that is exported."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from harness.program.processes import Wanted


def counted(on_export: Callable[[str], object], wanted: Sequence[Wanted]) -> Callable[[str], object]:
    """Return what `harness.program.processes.program_ids` may call in place of `on_export`: the name of what is
    exported comes with its number, of all programs that these submissions and their workloads have. Those that the
    store holds already are never exported, so that the last number may be smaller.
    """
    most = len(wanted) + len({(each.workload, each.variant, each.platform) for each in wanted})
    numbers = itertools.count(1)
    return lambda name: on_export(f"{name}, program {min(next(numbers), most)} of at most {most}")
