"""The searches of `rules=tuned`: what each has to decide, what its record holds already, and how the rest is run.

No clock runs in a search, so that it takes every core for a run of its own and ends what is not worth going on with
(`harness.search.two_passes`). The record, `<out>/<workload>/<submission>/search.jsonl`, is written after each run; what
is in it is not run again.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.campaign.expected_time import OVERHEAD_S
from harness.campaign.pairing import Pairing
from harness.campaign.tuned_point import Choice, choose
from harness.errors import HeldError
from harness.record import search_record
from harness.record.search_record import Asked, SearchRecord, SearchRun
from harness.search import recorded_search, sweeps, two_passes
from harness.search.recorded_search import Search


@dataclass(frozen=True)
class PlannedSearch:
    """The search for one submission's point on one workload.

    Attributes:
      pairing: the two, and the programs of the points.
      record: what was asked, and the runs of these programs so far.
      file: where the record lies.
      choice: the point, once the record has all that the search wants.
      expected_s: seconds that it will take, a guess; None where nothing is known. 0 for a finished one.
    """

    pairing: Pairing
    record: SearchRecord
    file: Path
    choice: Choice | None
    expected_s: float | None

    @property
    def asked(self) -> Asked:
        """What it has to decide."""
        return self.record.asked


def planned(pairing: Pairing) -> PlannedSearch:
    """Return the search of a pairing as it stands: what is recorded of other programs is none of it.

    Raises RunFolderError where the record is damaged.
    """
    assert pairing.found is not None
    run, points = pairing.run, pairing.points.studies[0]
    budget, limit = pairing.budget_steps, run.max_steps
    asked = two_passes.asked_of(pairing.info, pairing.folder.name, points, budget_steps=budget, max_steps=limit)
    file = search_record.file_of(Path(run.out) / pairing.place.name / pairing.folder.name, limit)
    programs = list(zip(pairing.wanted.points, pairing.found.programs, strict=True))
    found = search_record.read(file)
    runs = tuple(
        one
        for one in (found.runs if found else ())
        if one.workload_program == pairing.found.workload and (one.hyperparameters, one.program) in programs
    )
    record = SearchRecord(asked, runs)
    choice = choose(record)
    return PlannedSearch(pairing, record, file, choice, 0.0 if choice else _expected_s(record, pairing))


def _expected_s(record: SearchRecord, pairing: Pairing) -> float | None:
    """Return seconds from the baseline's recorded runs: cores with a run each get as much done as all on one run."""
    steps, step_s = steps_left(record, pairing), pairing.info.target.reference_step_s
    return None if steps is None or not step_s else steps * step_s + OVERHEAD_S[pairing.device]


def steps_left(record: SearchRecord, pairing: Pairing) -> int | None:
    """Return the steps that a search has left at most where its points take no longer to the target than the baseline;
    None where it is not known how long that takes.
    """
    target = pairing.info.target
    if not target.steps_to_target:
        return None
    usual = min(record.asked.budget_steps, target.steps_to_target)
    return most_steps_left(replace(record, asked=replace(record.asked, budget_steps=usual)))


def most_steps_left(record: SearchRecord) -> int:
    """Return the steps that a search has left at most."""
    return max(two_passes.most_steps(record.asked) - sum(run.steps[-1] for run in record.runs), 0)


def run(search: PlannedSearch, on_run: Callable[[SearchRun], None]) -> None:
    """Run what the record lacks; `on_run` is called with each run as it ends.

    Raises HarnessError where a run cannot be run, and HeldError where another process is at the same search.
    """
    pairing, asked = search.pairing, search.asked
    jobs = min(sweeps.places(pairing.device), max(len(asked.points), two_passes.FINALISTS * len(two_passes.STUDIES)))
    live = Search(
        pairing.place,
        pairing.info,
        search.file,
        (),
        1 if jobs > 1 else len(sweeps.cores()),
        on_run,
        pairing.device,
        wanted=pairing.wanted,
        asked=asked,
    )
    with held(search.file):
        live.load()
        with sweeps.started(pairing.place, jobs, device=pairing.device) as pool:
            ask = recorded_search.running(pairing.folder.name, [live], [pool], [asked])
            stages = two_passes.halved([asked], ask)
            two_passes.finish(stages[-1], two_passes.STUDIES, ask)


def record(search: PlannedSearch) -> None:
    """Write down what was asked, where runs that were recorded for another request answer it."""
    if search.choice is not None and search_record.read(search.file) != search.record:
        search_record.write(search.file, search.record)


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Hold a record; RunFolderError where another process does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeldError(f"{file} is held by another process; wait for it or stop it") from None
        yield
