"""What stands behind the numbers of a board: each trial, the points that were tried, where the time went, and what the
trials ran on and by.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.record.readings import SPANS
from harness.record.run_folder import Trial
from harness.record.spec import Clock
from harness.scoring.outcomes import Outcome
from harness.scoring.score import Scores

Row = dict[str, Any]


def of_trial(trial: Trial, outcome: Outcome, counts: bool, below: Path | None) -> Row:
    """Return the row of a run folder or of a published record; `below` is the folder that links start from."""
    spec, result = trial.spec, trial.result
    return of_outcome(outcome, counts) | {
        "seed": spec.seed,
        "reason": trial.reason,
        "total_steps": result.steps if result else None,
        "last": result.last if result else None,
        "peak_bytes": result.peak_bytes if result else None,
        "wall_s": result.wall_s if result else None,
        "hyperparameters": spec.hyperparameters,
        "program": spec.program,
        "sources": spec.submission_hash,
        "flagged": list(result.flagged) if result else [],
        "href": None if below is None else _href(trial.path, below),
    }


def of_outcome(one: Outcome, counts: bool) -> Row:
    """Return what every log tells of a trial."""
    return {
        "submission": one.submission,
        "workload": one.workload,
        "study": one.study,
        "trial": one.trial,
        "status": one.status,
        "counts": counts,
        "times": dict(one.times),
        "steps": one.steps,
        "best": one.best,
        "test": one.test,
        "where": one.where,
        "href": None,
    }


def _href(path: Path, below: Path) -> str | None:
    """A link to a run folder's log, or to the file that a published record stands in; None where neither is there."""
    for file in (path / "log.jsonl", path, Path(str(path).rpartition(":")[0])):
        if file.is_file():
            return Path(os.path.relpath(file.resolve(), below.resolve())).as_posix()
    return None


def spent(trials: Sequence[Trial]) -> dict[str, dict[str, dict[str, float]]]:
    """Return by workload, submission and span the mean wall seconds of a finished trial, as far as ledgers are held."""
    held: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        if trial.result and trial.result.ledger:
            held.setdefault((trial.spec.workload, trial.spec.submission), []).append(trial)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (workload, name), of in sorted(held.items()):
        ledgers = [trial.result.ledger for trial in of if trial.result]
        means = {s: statistics.fmean(led[s].wall_s if s in led else 0.0 for led in ledgers) for s in SPANS}
        found.setdefault(workload, {})[name] = {span: value for span, value in means.items() if value > 0}
    return found


def points(found: Scores, trials: Sequence[tuple[Trial, Outcome]], clock: Clock) -> list[Row]:
    """Return each point that was tried on a workload and what it came to, where a submission tried several: in the
    search that chose one, or in the trials themselves. `result` is None for a miss.
    """
    rows: list[Row] = []
    for choice in found.choices:
        for candidate in choice.compared:
            costs = [math.inf if cost is None else cost for cost in candidate.costs]
            middle = statistics.median_low(costs) if costs else math.inf
            rows.append(
                _point(
                    choice.submission,
                    choice.workload,
                    candidate.hyperparameters,
                    middle,
                    f"{choice.unit} in the search",
                )
                | {"status": candidate.status, "best": candidate.best, "chosen": candidate.trial == choice.winner}
            )
    searched = {(row["submission"], row["workload"]) for row in rows}
    tried: dict[tuple[str, str], dict[str, list[tuple[Trial, Outcome]]]] = {}
    for trial, one in trials:
        cell = one.submission, one.workload
        if cell not in searched:
            point = repr(sorted(trial.spec.hyperparameters.items()))
            tried.setdefault(cell, {}).setdefault(point, []).append((trial, one))
    for (submission, workload), of in sorted(tried.items()):
        for same in of.values() if len(of) > 1 else ():
            times = [one.time(clock) for _, one in same]
            bests = [one.best for _, one in same if one.best is not None]
            middle = statistics.median(times)
            rows.append(
                _point(submission, workload, same[0][0].spec.hyperparameters, middle, found.unit)
                | {
                    "status": f"{sum(map(math.isfinite, times))} of {len(same)} reached",
                    "best": statistics.median(bests) if bests else None,
                    "chosen": False,
                }
            )
    return rows


def _point(submission: str, workload: str, values: dict[str, Any], result: float, unit: str) -> Row:
    return {
        "submission": submission,
        "workload": workload,
        "values": dict(values),
        "result": result if math.isfinite(result) else None,
        "unit": unit,
    }


def surroundings(trials: Sequence[Trial]) -> list[Row]:
    """Return the machines and versions that trials ran on, each once with the number of its trials."""
    found: dict[str, Row] = {}
    for trial in trials:
        held = trial.result.fingerprint if trial.result else {}
        git = held.get("git") or {}
        row = {
            "processor": held.get("cpu"),
            "cores": held.get("cores"),
            "memory": f"{held['memory_bytes'] / 2**30:.1f} GiB" if held.get("memory_bytes") else None,
            "device": held.get("device"),
            "system": held.get("os"),
            "Python": held.get("python"),
            **{name: version for name, version in (held.get("packages") or {}).items() if version},
            "commit": f"{str(git['commit'])[:10]}{' with changes' * bool(git.get('dirty'))}" if git else None,
            **(held.get("flags") or {}),
        }
        row = {name: str(value) for name, value in row.items() if value not in (None, "")}
        if row:
            one = found.setdefault(repr(row), {"trials": 0, "values": row})
            one["trials"] += 1
    return list(found.values())


def rules(trials: Sequence[Trial]) -> Row:
    """Return the terms that all trials share, by name."""
    spec = trials[0].spec
    told = {
        "ruleset": spec.rules,
        "stop": spec.stop,
        "ranking clock": spec.clock,
        "counts": spec.counts,
        "studies": spec.studies,
        "trials of a study": spec.trials,
        "compile time scored": "yes" if spec.score_compile else "no",
        "batch size free": "yes" if spec.free_batch_size else "no",
        "device": spec.device,
        "deterministic": "yes" if spec.deterministic else "no",
        "nonce of the seeds": ", ".join(map(str, sorted({t.spec.seed for t in trials}))),
    }
    return {name: str(value) for name, value in told.items() if value is not None}


def workloads(trials: Sequence[Trial]) -> list[Row]:
    """Return what each workload is: its version, target, lengths, program and sources."""
    rows = {}
    for spec in (trial.spec for trial in trials):
        rows[spec.workload] = {
            "workload": spec.workload,
            "version": spec.workload_version,
            "batch size": spec.batch_size,
            "step hint": spec.step_hint,
            "budget in steps": spec.budget_steps,
            "program": spec.workload_program or "older than programs",
            "sources": spec.workload_hash,
        }
    return [rows[name] for name in sorted(rows)]


def programs(trials: Sequence[Trial]) -> list[Row]:
    """Return the programs that ran, by submission and workload."""
    rows: dict[tuple[str, str, str], Row] = {}
    for spec in (trial.spec for trial in trials):
        program = spec.program or "older than programs"
        row = rows.setdefault(
            (spec.submission, spec.workload, program),
            {"submission": spec.submission, "workload": spec.workload, "program": program,
             "sources": spec.submission_hash, "trials": 0},
        )  # fmt: skip
        row["trials"] += 1
    return [rows[key] for key in sorted(rows)]
