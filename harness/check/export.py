"""Whether a submission becomes programs: on every toy and every workload of the suite `demo`, anew, and over its search
space. Data are looked at nowhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.campaign import config, scale_ladder, typed
from harness.campaign.counting import counted
from harness.check.findings import Facts, Finding
from harness.errors import ConfigError, HarnessError
from harness.program import discovery, processes, search_space, store, submission
from harness.program.discovery import Folder
from harness.program.manifest import Leaf, Manifest
from harness.program.processes import Found, Wanted
from harness.program.submission import SubmissionInfo
from harness.record import plain_data
from harness.record.spec import Suite, Value

FIRST = "quadratic"  # the smallest toy: a program is made on it in a tenth of a second
DRAWN = 4  # points between the corners of the search space
SHOWN = 3  # points that make no program are told, at most


@dataclass(frozen=True)
class Made:
    """A program that was made: of which workload, and the manifests of its own program and the submission's."""

    workload: Folder
    own: Manifest
    program: Manifest

    def facts(self) -> Facts:
        """Return what the StableHLO says, relative to AdamW's."""
        contract, steps = self.program.contract, self.program.functions
        size = self.own.contract.batch[0].shape[0]
        return Facts(
            workload=self.workload.name,
            program_bytes=sum(function.program_bytes for function in steps.values()),
            state=_bytes(contract.opt_state) / max(1, _bytes(self.own.contract.opt_state)),
            products=steps[f"step_{size}"].products / self.own.functions["yardstick_step"].products,
            arguments=contract.arguments,
        )


def toys() -> list[Folder]:
    """Return the workloads that are not scored, the smallest first: small ones, for tests; no rungs of ladders."""
    unscored = [
        discovery.find("workloads", name)
        for name, info in discovery.usable_workloads().items()
        if not info.scored and not scale_ladder.is_rung(name)
    ]
    return sorted(unscored, key=lambda place: (place.name != FIRST, place.name))


def demo() -> list[Folder]:
    """Return the workloads of the suite `demo`. Raises ConfigError where there is none."""
    files = config.options("suite").get("demo")
    if not files:
        raise ConfigError("configs/suite/demo.yaml is missing; it comes with the harness")
    suite = plain_data.read(Suite, plain_data.read_yaml(files[0]), str(files[0]))
    return [discovery.find("workloads", name) for name in suite.workloads]


def export(
    folder: Folder, info: SubmissionInfo, places: Sequence[Folder], say: Callable[[str], None]
) -> Iterator[Made | Finding]:
    """Make the programs at the defaults, in the form in which trials run them; yield them, and why there is none."""
    wanted = [_wanted(folder, info, place, [info.defaults]) for place in places]
    told = counted(lambda what: say(f"exporting {what}"), wanted)
    for place, found in zip(places, processes.program_ids(wanted, told), strict=True):
        if isinstance(found, HarnessError):
            yield Finding("export", str(typed.of_own_file(found, folder)), place.name)
        else:
            made = _read(place, found)
            yield made
            yield from (Finding("export", text, place.name, warning=True) for text in made.program.flagged)


def export_anew(folder: Folder, info: SubmissionInfo, made: Made) -> Iterator[Finding]:
    """Make the program once more by another process, and those of the search space."""
    arguments = made.program.contract.arguments
    points = [info.defaults, *_space(folder, info, arguments)]
    wanted = _wanted(folder, info, made.workload, points)
    again, *space = processes.ids_anew(wanted, arguments)
    space = [typed.of_own_file(one, folder) if isinstance(one, HarnessError) else one for one in space]
    where = discovery.entry(folder.path)
    if isinstance(again, HarnessError) or again != made.program.id:
        came = f"none: {again}" if isinstance(again, HarnessError) else "another"
        yield Finding(
            "again",
            f"{where}: of two processes that make its program, one gets {came}; what is imported or built depends on "
            "more than (task, hp), as random numbers, the time, or the order of a set: draw from keys, and sort sets",
            made.workload.name,
        )
    bad = [(point, why) for point, why in zip(points[1:], space, strict=True) if isinstance(why, HarnessError)]
    for point, why in bad[:SHOWN]:
        moved = {name: value for name, value in point.items() if value != info.defaults[name]}
        yield Finding("space", f"at {moved}: {why}; narrow the search space, or mend build", made.workload.name)


def _space(folder: Folder, info: SubmissionInfo, arguments: Collection[str]) -> list[dict[str, Value]]:
    """Return the corners of the search space, points in between and those of a list: of those that differ in arguments
    alone, which share a program, one; and none that the defaults share theirs with.
    """
    if not info.space and not info.points:
        return []
    drawn = search_space.draw_points(info, tuple(info.space), DRAWN, 0) if info.space else []
    points = [*search_space.corner_points(info), *drawn, *info.points]
    chosen = [submission.choose_point(folder, info, point) for point in points]
    different = {_constants(point, arguments): point for point in reversed(chosen)}
    different.pop(_constants(info.defaults, arguments), None)
    return list(reversed(different.values()))


def _constants(point: Mapping[str, Value], arguments: Collection[str]) -> tuple[Any, ...]:
    return tuple(repr(value) for name, value in sorted(point.items()) if name not in arguments)


def _wanted(folder: Folder, info: SubmissionInfo, place: Folder, points: Iterable[Mapping[str, Value]]) -> Wanted:
    budget_steps = discovery.workload_info(place).budget_steps
    return Wanted(place, folder, tuple(points), budget_steps, ends=processes.ends_of(info))


def _read(place: Folder, found: Found) -> Made:
    own, program = store.read(found.workload), store.read(found.programs[0])
    if own is None or program is None:
        raise HarnessError(f"programs in {store.root()} are removed while they are read; try again")
    return Made(place, own.manifest, program.manifest)


def _bytes(leaves: Iterable[Leaf]) -> int:
    """Return the bytes of arrays; the digits of a dtype's name are its bits."""
    total = 0
    for leaf in leaves:
        bits = re.search(r"\d+", leaf.dtype)
        total += math.prod(leaf.shape) * (max(1, int(bits[0]) // 8) if bits else 1)
    return total
