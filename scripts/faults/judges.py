"""Is nothing lost? What a disturbed campaign came to, against the undisturbed one, and what lies about."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from faults import processes
from faults.desk import Desk

from harness.errors import RunFolderError
from harness.program.workload import WorkloadInfo
from harness.record import run_folder, search_record
from harness.record.result import UNFINISHED, Status
from harness.record.run_folder import Trial
from harness.verify import from_log

KNOWN = {"spec.json", "log.jsonl", "result.json", "worker.log", "lock", "evaluated.npz", "checkpoints", "tensorboard"}
"""What a run folder holds."""
_COPIES = (".orbax-checkpoint-tmp", ".new-", ".damaged-")


def after(desk: Desk, *tolerated: Status) -> list[str]:
    """Return which trials have a status that the fault cannot have given them: one that nobody works on is not running,
    and a submission that did nothing wrong did not crash.
    """
    wanted, odd = desk.references(), []
    for out in desk.outs:
        for path in run_folder.find_trials(out):
            name = str(path.relative_to(out))
            try:
                trial = run_folder.read_trial(path)
            except RunFolderError as error:
                odd.append(f"{name} cannot be read: {error}")
                continue
            fine = {Status.PLANNED, Status.INTERRUPTED, *tolerated}
            if name in wanted:
                fine.add(wanted[name].status)
            if trial.status not in fine:
                odd.append(f"{name} is {trial.status}: {trial.reason}")
            elif trial.status not in (Status.PLANNED, wanted[name].status) and not trial.reason:
                odd.append(f"{name} is {trial.status} for no reason")
    return odd


def lost(desk: Desk) -> list[str]:
    """Return the trials of the undisturbed campaign that this one lacks, has not finished, or holds besides."""
    wanted, found = desk.references(), []
    for out in desk.outs:
        there = {str(path.relative_to(out)): path for path in run_folder.find_trials(out)}
        found += [f"{name} is there besides" for name in there.keys() - wanted.keys()]
        for name, reference in wanted.items():
            if name not in there:
                found.append(f"{name} is not there")
                continue
            try:
                trial = run_folder.read_trial(there[name])
            except RunFolderError as error:
                found.append(f"{name} cannot be read: {error}")
                continue
            if trial.status != reference.status:
                found.append(f"{name} is {trial.status} ({trial.reason}), undisturbed {reference.status}")
    return found


def differing(reference: Trial, trial: Trial) -> list[str]:
    """Return in what a finished trial is not the undisturbed one, bit for bit."""
    if reference.result is None or trial.result is None:
        return ["one of them has no result"]
    pairs = {
        "final state": (reference.result.final_hash, trial.result.final_hash),
        "evaluated variables": (reference.result.evaluated, trial.result.evaluated),
        "their file": tuple(map(evaluated, (reference, trial))),
        "steps and examples": tuple((one.result.steps, one.result.examples) for one in (reference, trial)),  # type: ignore[union-attr]
        "validation and test": tuple((one.result.validation, one.result.test) for one in (reference, trial)),  # type: ignore[union-attr]
        "best and last": tuple((one.result.best, one.result.last) for one in (reference, trial)),  # type: ignore[union-attr]
        "losses": tuple(map(losses, (reference, trial))),
        "measurements": tuple([(m.step, m.metrics) for m in one.measurements] for one in (reference, trial)),
        "control": tuple(map(answers, (reference, trial))),
    }
    if "; then out_of_memory" in trial.reason:  # decided, then without memory for what comes after: a note, not a miss
        for name in ("final state", "evaluated variables", "their file", "validation and test"):
            del pairs[name]
    return [f"{name} differ" for name, (one, other) in pairs.items() if one != other]


def evaluated(trial: Trial) -> bytes | None:
    """Return the file of what was evaluated."""
    file = trial.path / "evaluated.npz"
    return file.read_bytes() if file.is_file() else None


def other_searches(reference: Path, out: Path) -> list[str]:
    """Return the records of searches that do not hold the same runs."""
    odd = []
    for file in sorted(reference.glob("*/*/search.jsonl")):
        name = file.relative_to(reference)
        found = [[replace(run, seconds=0.0) for run in record.runs] if (record := search_record.read(place)) else None
                 for place in (file, out / name)]  # fmt: skip
        odd += [f"{name} differs"] if found[0] != found[1] else []
    return odd


def losses(trial: Trial) -> list[float | None]:
    """Return the loss of each step, as the log has it."""
    return [loss for e in trial.events if e["event"] == "chunk" for loss in e["metrics"]["loss"]]


def answers(trial: Trial) -> list[object]:
    """Return what `control` answered, and when."""
    return [(e["step"], e["answer"]) for e in trial.events if e["event"] == "control"]


def unbalanced(trial: Trial, info: WorkloadInfo | None) -> list[str]:
    """Return where the ledger does not sum, or the result does not follow from the log, as `harness verify` judges."""
    if trial.result is None or trial.status in UNFINISHED:
        return []
    return [f"{one.what}: {one.text}" for one in from_log.look(trial, info) if one.verdict == "differs"]


def left_over(desk: Desk) -> list[str]:
    """Return files and folders that should be gone: pieces of files, scratch folders, checkpoints of before."""
    found = list(strange(desk))
    places = [desk.folder / "tmp", desk.cache / "programs", desk.cache / "programs" / "index", *desk.outs]
    for place in places[:1]:
        found += [str(path.relative_to(desk.folder)) for path in place.iterdir()]
    if desk.own_cache is not None:  # the shared one is other rounds' too
        for place in places[1:3]:
            found += [f"programs: {path.name}" for path in place.glob(".*")]
    return found


def strange(desk: Desk) -> Iterable[str]:
    """Yield what lies in output folders that no run makes."""
    for out in desk.outs:
        for folder, folders, files in os.walk(out):
            folders[:] = [name for name in folders if ".failed-" not in name]  # kept as they were
            for name in [*folders, *files]:
                if name.startswith(".") or name.endswith("tmp") or any(part in name for part in _COPIES):
                    yield str((Path(folder) / name).relative_to(out))
        for path in run_folder.find_trials(out):
            yield from (f"{path.name}/{one.name}" for one in path.iterdir() if one.name not in KNOWN)
            steps = [one.name for one in (path / "checkpoints").glob("*") if one.is_dir()]
            if len(steps) > 1:
                yield f"{path.name}: checkpoints of steps {', '.join(sorted(steps))}"


def strays(patience_s: float = 10.0) -> list[str]:
    """Return the processes below this one that are left after so many seconds."""
    return [f"process {pid}: {processes.role(pid)}" for pid in processes.left(patience_s)]
