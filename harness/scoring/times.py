"""Time to target: which trials count, whether they can be compared, and how long each submission took on each workload.

A study's time is that of its fastest trial; a submission's time on a workload is the median over its studies, a miss
taking part as infinity (the rule of AlgoPerf: Dahl et al. 2023, arXiv:2306.07179).
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from harness.errors import RunFolderError
from harness.records import FAILED, UNFINISHED, Status, Trial
from harness.spec import Clock

Times: TypeAlias = dict[str, dict[str, float | None]]
"""By submission, then by workload; None where the target was not reached."""

UNITS: dict[Clock, str] = {
    "wall": "seconds",
    "cpu": "processor seconds",
    "steps": "calibrated seconds",
    "energy": "joules",
}

_SAME_EVERYWHERE = ("rules", "clock", "score_compile", "compile_cap_s", "free_batch_size", "device", "deterministic")
_SAME_PER_WORKLOAD = (
    "workload_version", "target", "workload_hash", "metric", "mode", "step_hint", "batch_size", "budget_steps",
    "reference_step_s",
)  # fmt: skip
_SAME_MACHINE = {"cpu": ("cpu", "cores"), "gpu": ("device",)}  # keys of the fingerprint, by platform


@dataclass(frozen=True)
class Selection:
    """The trials that count, and a line on each thing that was left out or has to be known."""

    trials: tuple[Trial, ...]
    notes: tuple[str, ...]


def select(trials: Iterable[Trial]) -> Selection:
    """Return the trials that are scored together, whatever the order they come in.

    Left out, with a note: smoke tests (`max_steps`), trials on tuning seeds, and what a newer run folder supersedes:
    another source of the same submission, or another spec (hyperparameters, seed) of the same study and trial. Newer is
    by the times of the run folder's files.

    Raises RunFolderError where the rest cannot be compared: it was run by different rules, on different machines, or on
    different versions of a workload.
    """
    remaining = sorted(trials, key=lambda t: (_order(t), str(t.path)))
    notes: list[str] = []
    remaining = _leave_out(
        remaining, notes, lambda t: t.spec.max_steps is not None, "run with max_steps; smoke tests are never ranked"
    )
    remaining = _leave_out(remaining, notes, lambda t: t.spec.tuning, "run on tuning seeds, which are never scored")
    check_comparable(remaining)
    remaining = _newest_sources(remaining, notes)
    remaining = _newest_specs(remaining, notes)
    return Selection(tuple(remaining), tuple(notes + _remarks(remaining)))


def check_comparable(trials: Sequence[Trial]) -> None:
    """Raise RunFolderError naming the first field in which two trials differ that must agree to be scored together."""
    first_of_workload: dict[str, Trial] = {}
    first_of_machine: dict[str, Trial] = {}
    for trial in trials:
        for name in _SAME_EVERYWHERE:
            _check_equal(name, trials[0], getattr(trials[0].spec, name), trial, getattr(trial.spec, name))
        known = first_of_workload.setdefault(trial.spec.workload, trial)
        for name in _SAME_PER_WORKLOAD:
            what = f"{name} of {trial.spec.workload}"
            _check_equal(what, known, getattr(known.spec, name), trial, getattr(trial.spec, name))
        for name in _SAME_MACHINE[trial.spec.device]:
            value = _fingerprint(trial, name)
            if value is not None:
                holder = first_of_machine.setdefault(name, trial)
                _check_equal(f"{name} of the machine", holder, _fingerprint(holder, name), trial, value)


def time_to_target(trials: Iterable[Trial], clock: Clock) -> Times:
    """Return the scored time of the first measurement that met the target, in the clock's unit (see `UNITS`).

    The median over studies, each with its fastest trial; None where the target was missed or the trial failed or is not
    finished. Raises RunFolderError where a hit was not measured on this clock.
    """
    return _by_cell(trials, clock, lambda t: hit_time(t, clock))


def steps_to_target(trials: Iterable[Trial], clock: Clock) -> Times:
    """Return the training steps to the target of the trials that `time_to_target` picks; None where it was missed."""
    return _by_cell(trials, clock, lambda t: float(t.hit.step) if counts(t) and t.hit else None)


def test_metric(trials: Iterable[Trial], clock: Clock) -> Times:
    """Return the workload's metric on the test split at the end of the same trials; None where it was not evaluated."""

    def value(trial: Trial) -> float | None:
        return trial.result.test.get(trial.spec.metric) if trial.result and trial.result.test else None

    return _by_cell(trials, clock, value)


def status(trials: Iterable[Trial], clock: Clock) -> dict[str, dict[str, Status]]:
    """Return how the same trials ended: over several studies an unfinished one comes first, then the commonest."""

    def rank(counted: tuple[Status, int]) -> tuple[bool, int, str]:
        return counted[0] not in UNFINISHED, -counted[1], counted[0]

    return {
        submission: {
            workload: min(Counter(t.status for t in chosen).items(), key=rank)[0] for workload, chosen in cells.items()
        }
        for submission, cells in _chosen(trials, clock).items()
    }


def hit_time(trial: Trial, clock: Clock) -> float | None:
    """Return the scored time of a trial's first hit; None without one, or where it failed or is not finished."""
    if not counts(trial) or trial.hit is None:
        return None
    time: float | None = getattr(trial.hit.scored, clock)
    if time is None:
        raise RunFolderError(
            f"{trial.path}: the {clock} clock was not measured there; rank by another: clock=wall, cpu or steps"
        )
    return time


def counts(trial: Trial) -> bool:
    """Whether a hit of this trial is scored."""
    return trial.status not in FAILED | UNFINISHED


def _by_cell(trials: Iterable[Trial], clock: Clock, value: Callable[[Trial], float | None]) -> Times:
    return {
        submission: {workload: _median([value(t) for t in chosen]) for workload, chosen in cells.items()}
        for submission, cells in _chosen(trials, clock).items()
    }


def _chosen(trials: Iterable[Trial], clock: Clock) -> dict[str, dict[str, list[Trial]]]:
    """By submission and workload: one trial per study, the fastest; where all missed, the first."""
    studies: dict[tuple[str, str, int], list[Trial]] = defaultdict(list)
    for trial in trials:
        studies[trial.spec.submission, trial.spec.workload, trial.spec.study].append(trial)

    def speed(trial: Trial) -> tuple[float, int]:
        time = hit_time(trial, clock)
        return math.inf if time is None else time, trial.spec.trial

    chosen: dict[str, dict[str, list[Trial]]] = {}
    for (submission, workload, _), group in sorted(studies.items()):
        chosen.setdefault(submission, {}).setdefault(workload, []).append(min(group, key=speed))
    return chosen


def _median(values: Sequence[float | None]) -> float | None:
    median = statistics.median(math.inf if v is None else v for v in values)
    return None if math.isinf(median) else median


def _leave_out(trials: list[Trial], notes: list[str], unwanted: Callable[[Trial], bool], why: str) -> list[Trial]:
    kept = [t for t in trials if not unwanted(t)]
    if len(kept) < len(trials):
        notes.append(f"left out: {_count(len(trials) - len(kept), 'trial')} {why}")
    return kept


def _newest_sources(trials: list[Trial], notes: list[str]) -> list[Trial]:
    """Keep, of each submission, the trials of the source hash that the newest of its run folders holds."""
    newest = {name: max(group, key=_age).spec.submission_hash for name, group in _grouped(trials, _submission).items()}
    kept = [t for t in trials if t.spec.submission_hash == newest[t.spec.submission]]
    old = _grouped((t for t in trials if t.spec.submission_hash != newest[t.spec.submission]), _submission)
    for name, group in old.items():
        hashes = ", ".join(sorted({t.spec.submission_hash for t in group}))
        notes.append(
            f"superseded: {_count(len(group), 'trial')} of {name} by older sources ({hashes}; scored: {newest[name]}) "
            f"on {', '.join(sorted({t.spec.workload for t in group}))}"
        )
    return kept


def _newest_specs(trials: list[Trial], notes: list[str]) -> list[Trial]:
    """Keep the newest run folder of each (workload, submission, study, trial); a finished one before an unfinished."""
    kept = []
    for group in _grouped(trials, _order).values():
        newest = max(group, key=lambda trial: (trial.status not in UNFINISHED, _age(trial)))
        kept.append(newest)
        for old in (t for t in group if t is not newest):
            differs = ", ".join(_differences(old, newest))
            why = f"they differ in {differs}" if differs else "the same trial, run again"
            notes.append(f"superseded: {old.path} by {newest.path}; {why}; `harness score {old.path}` shows it")
    return kept


def _remarks(trials: Sequence[Trial]) -> list[str]:
    """What a reader of the scores has to know."""
    notes = []
    versions = {t.spec.workload: (t.spec.workload_version, t.spec.target) for t in trials}
    for workload, (version, target) in sorted(versions.items()):
        if target is None:
            notes.append(f"{workload} has no target yet: no time to it, and no score")
        elif version == 0:
            notes.append(f"{workload}: the target is provisional (version 0); these times are no leaderboard entry")
    unfinished = sum(t.status in UNFINISHED for t in trials)
    if unfinished:
        notes.append(f"{_count(unfinished, 'trial')} not finished: counted as missed so far; `harness run` goes on")
    cells = {(t.spec.submission, t.spec.workload) for t in trials}
    for submission in sorted({s for s, _ in cells}):
        absent = [w for w in sorted(versions) if (submission, w) not in cells]
        if absent:
            notes.append(f"{submission} was not run on {', '.join(absent)}: counted as missed")
    for packages in ("jax", "jaxlib"):
        found = {str(v) for t in trials if (v := (_fingerprint(t, "packages") or {}).get(packages))}
        if len(found) > 1:
            notes.append(f"run with different versions of {packages}: {', '.join(sorted(found))}")
    if len({s for s, _ in cells}) == 1:
        notes.append(
            "one submission: ratios and score are to the best of those scored together, so all are 1 or a miss; "
            "`harness score` takes all runs below runs/"
        )
    studies = _grouped(trials, lambda t: (t.spec.submission, t.spec.workload))
    counted = {len({t.spec.study for t in group}) for group in studies.values()}
    if counted == {1}:
        notes.append("one study: no interval, so a small difference may be chance")
    elif len(counted) > 1:
        notes.append(f"not all have the same number of studies: from {min(counted)} to {max(counted)}")
    return notes


def _check_equal(what: str, first: Trial, expected: object, trial: Trial, value: object) -> None:
    if value != expected:
        raise RunFolderError(
            f"trials that cannot be compared: {what} is {expected!r} in {first.path} and {value!r} in {trial.path}; "
            "score them apart: move one kind to a folder of its own, or run with out=DIR"
        )


def _differences(one: Trial, other: Trial) -> list[str]:
    names = (f.name for f in fields(one.spec))
    return [
        f"{name} ({getattr(one.spec, name)!r}, now {getattr(other.spec, name)!r})"
        for name in names
        if getattr(one.spec, name) != getattr(other.spec, name)
    ]


def _grouped(trials: Iterable[Trial], key: Callable[[Trial], Hashable]) -> Mapping[Hashable, list[Trial]]:
    groups: dict[Hashable, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(key(trial), []).append(trial)
    return groups


def _submission(trial: Trial) -> str:
    return trial.spec.submission


def _order(trial: Trial) -> tuple[str, str, int, int]:
    return trial.spec.workload, trial.spec.submission, trial.spec.study, trial.spec.trial


def _age(trial: Trial) -> tuple[float, str]:
    """Larger for what was written to later; the path decides between equals, so that the answer is always the same."""
    files = (trial.path / name for name in ("spec.json", "log.jsonl"))
    return max((f.stat().st_mtime for f in files if f.exists()), default=0.0), str(trial.path)


def _fingerprint(trial: Trial, name: str) -> Any:
    return trial.result.fingerprint.get(name) if trial.result else None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")
