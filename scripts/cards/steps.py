"""The queue of the work that the project wants of a card, most valuable first, as a function of what is recorded."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cards import records
from cards.board import Asked
from cards.estimates import COMPILE_S, Figure, Known

from harness.data import store
from harness.machine import hardware
from harness.machine.flags import Device
from harness.program import discovery
from harness.program.workload import SMALL, WorkloadInfo, read_target
from harness.record.spec import short_hash
from harness.search import targets

FINAL: frozenset[str] = frozenset()
"""The workloads whose shape is final. Of the others the queue holds what measures them, and neither target nor board,
which another shape would make void."""

WORKLOADS = ("lm_books", "mae_small_cifar10", "resnet18_cifar10")
FIRST = ("adamw", "nadamw", "muon", "normuon", "schedule_free_adamw")
TUNED = ("adamw", "nadamw", "muon", "normuon")
SEEDS = 3
TUNED_RUNS = 12  # 5 points, halved on the way, and 7 seeds, about
TARGET_POINTS, TARGET_SEEDS = 4, 5
SLACK, SLACK_S = 2.0, 60.0  # a step may take so many times what is expected, and so much more
BEGIN_S = 45.0  # left over, with which a step is begun that goes on later from where it was

ROW_S = {"a": 70.0, "b": 90.0, "c": 80.0, "d": 300.0, "e": 150.0, "g": 150.0}
"""Estimates of the rows of scripts/bench_gpu.py, compilation included."""


@dataclass(frozen=True)
class Form:
    """The card's queue, or that of a rehearsal, which is short and runs on a CPU.

    Attributes:
      place: the folder in results/ and runs/.
      card: its full name.
      final: see `FINAL`.
      rows: of the bench, before the target and after the boards.
      torch_python: an interpreter that has torch.
      seed: of the trials of `tuned`: the nonce that was drawn for its board.
    """

    place: str
    card: str
    device: Device = "gpu"
    workloads: Sequence[str] = WORKLOADS
    submissions: Sequence[str] = ()
    tuned: Sequence[str] = TUNED
    final: frozenset[str] = FINAL
    rows: tuple[str, str] = ("abc", "deg")
    small: bool = False
    seeds: int = SEEDS
    points: tuple[int, int] = (TARGET_POINTS, TARGET_SEEDS)
    torch_python: str = sys.executable
    seed: int = 0


@dataclass(frozen=True)
class Step:
    """A part of the work.

    Attributes:
      key: what it is done for: sources, card, versions; of another key it is done again.
      seconds: that it takes.
      limit_s: seconds after which it is stopped and counts as failed.
      resumed: whether it goes on from where it was stopped; else it is begun only where there is time for all of it.
      waits_for: why it cannot be done yet, for people.
    """

    name: str
    key: str
    command: tuple[str, ...]
    seconds: Figure
    limit_s: float
    resumed: bool = False
    waits_for: str = ""

    @property
    def least_s(self) -> float:
        """Seconds that must be left for it to begin."""
        return min(BEGIN_S, self.seconds.value) if self.resumed else self.seconds.value


def queue(form: Form, known: Known) -> list[Step]:
    """Return what is left, in order; what failed before comes last."""
    left = [step for step in every(form, known) if records.newest(known.queue, step.name, step.key) is None]
    return sorted(left, key=lambda step: records.newest(known.queue, step.name, step.key, "failed") is not None)


def every(form: Form, known: Known) -> Iterator[Step]:
    """Yield all steps, done or not."""
    folders = [discovery.find("workloads", name) for name in form.workloads]
    final = [folder for folder in folders if folder.name in form.final]
    doctor = _module("cards.doctor", form.device, "256" if form.small else "8192")
    yield _step(known, "doctor", _key(form), doctor, 45.0)
    for folder in folders:
        yield from _measured(form, known, folder)
        if folder in final:
            yield from _scored(form, known, folder)
    for name, words in (("Muon's batches", ("--newton-schulz",)), ("update rules", ())):
        of = ("lm_shakespeare", "--pairs", "2", "--rules", "nadamw") if form.small else ("lm_books",)
        yield _step(known, name, _key(form), _script("bench_optim.py", *of, *words, "--json"), 90.0)
    for folder in final:
        yield from (_row(form, known, folder, row) for row in form.rows[1])
    for submission in form.tuned:
        yield from (_tuned(form, known, folder, submission) for folder in final if not _variant(form, folder))


def _measured(form: Form, known: Known, folder: discovery.Folder) -> Iterator[Step]:
    """Yield what a workload's step is: its time, the loop around it, PyTorch beside it, a profile."""
    yield from (_row(form, known, folder, row) for row in form.rows[0])
    hlo, steps = records.runs(form.place) / f"step-{folder.name}.hlo.gz", "4" if form.small else "40"
    variant = _variant(form, folder) or "-"
    command = _module("cards.profiling", folder.name, variant, form.device, steps, str(hlo))
    yield _step(known, f"profile {folder.name}", _key(form, folder), command, 45.0, waits_for=_missing(folder))


def _scored(form: Form, known: Known, folder: discovery.Folder) -> Iterator[Step]:
    """Yield a workload's target, then its board."""
    info, variant = info_of(folder), _variant(form, folder)
    if variant is None:
        points, seeds = form.points
        command = _script(
            "set_targets.py", folder.name, "--device", form.device, "--baselines", targets.REFERENCE,
            "--points", str(points), "--seeds", str(seeds), "--jobs", "1",
        )  # fmt: skip
        training_s = horizons(points, seeds) * info.step_hint * known.step_s(folder.name).value
        yield _step(
            known, f"target of {folder.name}", _key(form, folder), command, training_s + 60.0, resumed=True,
            waits_for=_missing(folder),
        )  # fmt: skip
    waits = _missing(folder) or ("" if variant or info.target.value is not None else "the target")
    asked = Asked(
        folder.name, form.device, str(records.runs(form.place)), form.seeds, variant=variant,
        max_steps=8 if variant else 10 * info.step_hint if form.small else None,  # smoke tests share a process
    )  # fmt: skip
    target, here = str(info.target.value), records.cache_id()  # what was compiled for another cache is not in this one
    command = _module("cards.compiling", folder.name, _options(asked), *form.submissions)
    compiling = _step(
        known, f"compile {folder.name}", _key(form, folder, target, here), command, COMPILE_S, resumed=True,
        waits_for=waits,
    )  # fmt: skip
    yield compiling
    if not any(records.newest(known.queue, compiling.name, compiling.key, end) for end in ("done", "failed")):
        waits = waits or "its compilation"
    for name in form.submissions:
        command = _module("cards.board", folder.name, _options(asked), name)
        key, expected_s = _key(form, folder, target, _sources(name)), known.board_s(info, name, form.seeds).value
        yield _step(known, f"{name} on {folder.name}", key, command, expected_s, resumed=True, waits_for=waits)


def _tuned(form: Form, known: Known, folder: discovery.Folder, name: str) -> Step:
    """Return the search for a submission's point and its fresh seeds."""
    info = info_of(folder)
    asked = Asked(
        folder.name, form.device, str(records.runs(form.place)), int(form.small), rules="tuned", seed=form.seed
    )  # fmt: skip
    waits = _missing(folder) or ("" if info.target.value is not None else "the target")
    key = _key(form, folder, str(info.target.value), _sources(name), str(form.seed))
    command = _module("cards.board", folder.name, _options(asked), name)
    expected_s = TUNED_RUNS * known.board_s(info, name, 1).value
    return _step(known, f"{name} tuned on {folder.name}", key, command, expected_s, resumed=True, waits_for=waits)


def _row(form: Form, known: Known, folder: discovery.Folder, row: str) -> Step:
    """Return a row of the bench."""
    command = _script(
        "bench_gpu.py", "--rows", row, "--workloads", folder.name, "--out", str(records.results(form.place)),
        "--torch-python", form.torch_python, *(("--small",) if form.small else ()),
    )  # fmt: skip
    name = f"bench {row} of {folder.name}"
    return _step(known, name, _key(form, folder), command, ROW_S[row], waits_for=_missing(folder))


def _step(known: Known, name: str, key: str, command: tuple[str, ...], expected_s: float, **more: Any) -> Step:
    """Return a step whose seconds are measured or, where it was never done, expected. Its limit is for a machine that
    has compiled nothing yet, whatever it took elsewhere.
    """
    seconds = known.seconds(name, expected_s)
    return Step(name, key, command, seconds, SLACK * max(seconds.value, expected_s) + SLACK_S, **more)


def horizons(points: int, seeds: int) -> float:
    """Return how many step hints scripts/set_targets.py trains for the target of one baseline."""
    found, left, before = float(targets.FINALISTS * (len(targets.STUDIES) - 1) + seeds), points, 0.0
    for rung in (*targets.RUNGS, 1.0):
        found += left * (rung - before)
        left, before = -(-left // 2), rung
    return found


def infos(form: Form) -> list[WorkloadInfo]:
    """Return the workloads' specifications."""
    return [info_of(discovery.find("workloads", name)) for name in form.workloads]


def info_of(folder: discovery.Folder) -> WorkloadInfo:
    """Return a workload's specification, with its target as it is by now: a step before may have set it."""
    return replace(discovery.workload_info(folder), target=read_target(str(folder.path / "workload.py")))


def submissions(named: Sequence[str]) -> list[str]:
    """Return those named, else all that are found, the most telling first."""
    found = list(named or discovery.find_all("submissions"))
    return sorted(found, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))


def _variant(form: Form, folder: discovery.Folder) -> str | None:
    return SMALL if form.small and SMALL in discovery.workload_info(folder).variants else None


def _missing(folder: discovery.Folder) -> str:
    """Return which data are not here."""
    names = [name for name in discovery.workload_info(folder).datasets if store.state(name)[0] == "missing"]
    return f"data: {', '.join(names)}" if names else ""


def _key(form: Form, folder: discovery.Folder | None = None, *more: str) -> str:
    jax = hardware.packages()["jax"]
    return short_hash([form.card, jax, _hash(folder) if folder else "", *more])


def _sources(submission: str) -> str:
    return _hash(discovery.find("submissions", submission))


@functools.cache
def _hash(folder: discovery.Folder) -> str:
    """Return the hash of a folder's sources, which stay as they are while this runs."""
    return folder.source_hash


def _options(asked: Asked) -> str:
    return json.dumps({name: value for name, value in asdict(asked).items() if name != "workload"})


def _script(name: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, str(records.ROOT / "scripts" / name), *words)


def _module(name: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name, *words)
