"""Published records: the trials of a campaign in one file, small enough for a repository.

A JSON-lines file for each suite and ruleset below `results/<device>/`. The first line says what it is; then come the
environments that trials ran in, the searches that chose points, and the trials, each with its spec (hyperparameters,
seeds and source hashes among it), its result, and of its measurements the one that met the target and the last. Read
again they are trials like those of run folders, and are scored by the same code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import RunFolderError
from harness.record import older, plain_data, search_record
from harness.record.result import Status, to_result
from harness.record.run_folder import Trial
from harness.record.search_record import SearchRecord
from harness.record.spec import SCHEMA as RECORD_SCHEMA
from harness.record.spec import TrialSpec, short_hash

KIND = "published trials"
SCHEMA = 1
_LEFT_OUT = ("fingerprint", "ledger", "cost", "state_bytes")  # the first is in a line of its own; the rest is long


def find(root: Path) -> list[Path]:
    """Return the files of published records at or below `root`, sorted."""
    files = [root] if root.is_file() else sorted(root.rglob("*.jsonl"))
    return [file for file in files if file.name != "log.jsonl" and _is_published(file)]


def write(file: Path, trials: Iterable[Trial], suite: str) -> None:
    """Write trials, in an order that does not depend on the one they come in."""
    ordered = sorted(trials, key=lambda t: (t.spec.workload, t.spec.submission, not t.spec.tuning, *_numbers(t.spec)))
    rules = sorted({trial.spec.rules for trial in ordered})
    lines: list[dict[str, Any]] = [{"kind": KIND, "schema": SCHEMA, "suite": suite, "rules": ", ".join(rules)}]
    environments = {short_hash(env): env for trial in ordered if (env := _environment(trial))}
    lines += [{"environment": key, "fingerprint": env} for key, env in sorted(environments.items())]
    searches = {(trial.spec.workload, trial.spec.submission): trial.search for trial in ordered if trial.search}
    lines += [{"search": search_record.to_plain(search)} for _, search in sorted(searches.items(), key=lambda s: s[0])]
    lines += [_line(trial) for trial in ordered]
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.{os.getpid()}")
    new.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    new.replace(file)


def read(file: Path) -> list[Trial]:
    """Return the trials of a file. Raises RunFolderError naming the line where it is damaged."""
    environments: dict[str, Any] = {}
    searches: dict[tuple[str, str], SearchRecord] = {}
    trials = []
    for number, text in enumerate(file.read_text().splitlines(), 1):
        where = f"{file}: line {number}"
        try:
            data = json.loads(text)
            if number == 1:
                _check_head(data, file)
            elif "fingerprint" in data:
                environments[data["environment"]] = data["fingerprint"]
            elif "search" in data:
                search = search_record.from_plain(data["search"], where)
                searches[search.asked.workload, search.asked.submission] = search
            else:
                trial = _trial(data, environments, where)
                search_of = None if trial.spec.tuning else searches.get((trial.spec.workload, trial.spec.submission))
                trials.append(replace(trial, search=search_of))
        except (ValueError, KeyError, TypeError) as error:
            raise RunFolderError(
                f"{where} is damaged ({error!r}); take the file as it was published, or make it again"
            ) from None
    return trials


def merged(old: Sequence[Trial], new: Sequence[Trial]) -> list[Trial]:
    """Return the new trials, and the old ones of the submissions that have none among them."""
    names = {trial.spec.submission for trial in new}
    return [*(trial for trial in old if trial.spec.submission not in names), *new]


def suite_of(file: Path) -> str:
    """Return the name of the suite whose trials a file holds."""
    with file.open() as lines:
        return str(json.loads(lines.readline())["suite"])


def _is_published(file: Path) -> bool:
    try:
        with file.open() as lines:
            head = json.loads(lines.readline())
    except (ValueError, OSError):
        return False
    return isinstance(head, dict) and head.get("kind") == KIND


def _check_head(data: Any, file: Path) -> None:
    if data["kind"] != KIND or data["schema"] != SCHEMA:
        raise RunFolderError(
            f"{file}: expected '{KIND}' of schema {SCHEMA}, got {data['kind']!r} of schema {data['schema']!r}"
        )


def _line(trial: Trial) -> dict[str, Any]:
    result = (
        {k: v for k, v in plain_data.to_plain(trial.result).items() if k not in _LEFT_OUT} if trial.result else None
    )
    events = [event for event in trial.events if event["event"] == "measurement"]
    hit = next((number for number, event in enumerate(events) if event["met"]), len(events))
    kept = events[max(0, hit - 1) : hit + 1]  # the one before the hit says how coarse the time to it is
    kept += [event for event in events[-1:] if event not in kept]
    return {
        "spec": plain_data.to_plain(trial.spec),
        "status": str(trial.status),
        "reason": trial.reason,
        "environment": short_hash(env) if (env := _environment(trial)) else None,
        "result": result,
        "measurements": [{k: v for k, v in event.items() if k not in ("v", "event", "t")} for event in kept],
    }


def _trial(data: dict[str, Any], environments: dict[str, Any], where: str) -> Trial:
    spec = plain_data.read(TrialSpec, older.spec(data["spec"]), f"{where}: spec", RunFolderError)
    result = data["result"]
    if result is not None:
        known = {} if data["environment"] is None else {"fingerprint": environments[data["environment"]]}
        result = to_result(result | known, f"{where}: result")
    events = [{"v": RECORD_SCHEMA, "event": "measurement", **older.event(one)} for one in data["measurements"]]
    return Trial(Path(where.replace(": line ", ":")), spec, Status(data["status"]), data["reason"], events, result)


def _environment(trial: Trial) -> dict[str, Any] | None:
    """What the trial ran on; the hashes of the sources are in its spec."""
    if trial.result is None or not trial.result.fingerprint:
        return None
    return {k: v for k, v in trial.result.fingerprint.items() if k != "hashes"}


def _numbers(spec: TrialSpec) -> tuple[int, int, str]:
    return spec.study, spec.trial, spec.id
