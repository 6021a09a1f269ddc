"""What has changed since a campaign was published: code, versions and rules beside its records, and the locked jax.

It follows from the records and the files here alone, not from what a machine has in its store of programs: so the
leaderboard in README.md says the same wherever it is written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.campaign import config
from harness.machine import hardware
from harness.program import discovery
from harness.record import plain_data
from harness.record.run_folder import Trial
from harness.record.spec import Rules, TrialSpec
from harness.search import targets

_LOCK = "requirements.lock"


def since_published(trials: Sequence[Trial], *, bundled: bool = False) -> list[str]:
    """Return a line on each thing that is another one now; empty where nothing is stale.

    Code is compared by the hash of its sources; that of a workload, which a proof shows to train to the same bits as
    before, counts as what it was. With `bundled` only the folders that come with the harness are looked at, else all
    that are found.
    """
    return [*_submissions(trials, bundled), *_workloads(trials, bundled), *_rules(trials, bundled), *_jax(trials)]


def commits(trials: Sequence[Trial]) -> list[str]:
    """Return the commits that the trials ran from, shortened, as far as the records tell."""
    told = (trial.result.fingerprint.get("git") for trial in trials if trial.result)
    return sorted({str(git["commit"])[:10] for git in told if git and not git.get("dirty")})


def locked_jax(lock: Path) -> list[str]:
    """Return the versions of jax that a lock file names; without the file, the one that is installed."""
    if lock.is_file():
        return re.findall(r"^jax==([^\s;\\]+)", lock.read_text(), re.MULTILINE)
    return [version] if (version := hardware.packages()["jax"]) else []


def submissions(trials: Sequence[Trial], bundled: bool = False) -> tuple[list[str], list[str]]:
    """Return the names of the submissions whose code is another one here now, and of those that are not here."""
    here = discovery.find_all("submissions", bundled_only=bundled)
    was = {trial.spec.submission: trial.spec.submission_hash for trial in trials}
    changed = sorted(name for name in was.keys() & here.keys() if here[name].source_hash != was[name])
    return changed, sorted(was.keys() - here.keys())


def _submissions(trials: Sequence[Trial], bundled: bool) -> list[str]:
    changed, gone = submissions(trials, bundled)
    lines = [f"the code of {', '.join(changed)} has changed since"] if changed else []
    return lines + ([f"the code of {', '.join(gone)} is not here"] if gone else [])


def _workloads(trials: Sequence[Trial], bundled: bool) -> list[str]:
    here = discovery.find_all("workloads", bundled_only=bundled)
    lines, edited = [], []
    for name, spec in sorted({trial.spec.workload: trial.spec for trial in trials}.items()):
        if name not in here:
            lines.append(f"the workload {name} is not here")
        elif (version := discovery.workload_info(here[name]).target.version) != spec.workload_version:
            lines.append(f"{name} was at version {spec.workload_version}, and is at version {version} now")
        elif not _same_bits(name, spec.workload_hash, here[name].source_hash):
            edited.append(name)
    return lines + ([f"the code of {', '.join(edited)} has changed since, at the same version"] if edited else [])


def _same_bits(workload: str, was: str, now: str) -> bool:
    """Whether sources are the same, or proofs in the record of the target lead from the old ones to those of today
    (`harness.search.restamp`).
    """
    record = config.folders()[0].parent / "results/targets" / f"{workload}.jsonl"
    proofs = [line["restamp"] for line in targets.read_restamps(record)] if was != now else []
    newer = {proof["old_hash"]: proof["new_hash"] for proof in proofs}
    while was != now and was in newer:
        was = newer.pop(was)
    return was == now


def _rules(trials: Sequence[Trial], bundled: bool) -> list[str]:
    here = discovery.find_all("workloads", bundled_only=bundled)
    lines = []
    for name in sorted({trial.spec.rules for trial in trials}):
        rules = ruleset(name)
        if rules is None:
            lines.append(f"the rules {name} are not in configs/rules")
            continue
        differ: dict[str, None] = {}
        for spec in (trial.spec for trial in trials if trial.spec.rules == name and not trial.spec.tuning):
            differ |= dict.fromkeys(differences(spec, rules))
            info = discovery.workload_info(here[spec.workload]) if spec.workload in here else None
            if info and info.target.version == spec.workload_version:
                budget = round(info.budget_steps * rules.budget_factor)
                told = f"the budget on {spec.workload} was {spec.budget_steps} steps, and is {budget}"
                differ |= dict.fromkeys([told] if spec.budget_steps != budget else [])
        if differ:
            lines.append(f"not run by the rules {name} as they are now: {', '.join(differ)}")
    return lines


def differences(spec: TrialSpec, rules: Rules) -> list[str]:
    """Return in what a trial was not run by these rules, but for its budget, in words."""
    return [f"{name} was {was}, and is {now}" for name, (was, now) in departures(spec, rules).items()]


def departures(spec: TrialSpec, rules: Rules) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which a trial departs from these rules, but for its budget, with its value and theirs. More
    studies than the rules ask for are by the rules, but not where fresh seeds count: whoever looks after each and stops
    at a good one would choose their number by the result.
    """
    gpu = spec.device == "gpu"
    now = {
        "studies": rules.studies if rules.counts == "fresh_seeds" else max(rules.studies, spec.studies or 0),
        "counts": rules.counts,
        "stop": rules.stop,
        "clock": ("wall" if gpu else "calibrated") if rules.clock == "auto" else rules.clock,
        "score_compile": rules.score_compile,
        "compile_cap_s": rules.compile_cap_gpu_s if gpu else rules.compile_cap_cpu_s,
        "free_batch_size": rules.free_batch_size,
    }
    was = {name: getattr(spec, name) for name in now}
    return {name: (was[name], now[name]) for name in now if was[name] not in (None, now[name])}


def ruleset(name: str) -> Rules | None:
    """Return the rules that come with the harness under this name, or that are those of self-tuning of others."""
    files = sorted((config.folders()[0] / "rules").glob("*.yaml"))
    every = [plain_data.read(Rules, plain_data.read_yaml(file), str(file)) for file in files]
    for rules in every:
        if rules.name == name:
            return rules
    for rules in every:
        if rules.self_tuning and rules.self_tuning.rules == name:
            own = rules.self_tuning
            return replace(rules, name=own.rules, budget_factor=own.budget_factor)
    return None


def _jax(trials: Sequence[Trial]) -> list[str]:
    told = ((trial.result.fingerprint.get("packages") or {}).get("jax") for trial in trials if trial.result)
    ran, locked = sorted({str(version) for version in told if version}), locked_jax(config.folders()[0].parent / _LOCK)
    other = [version for version in ran if version not in locked]
    return [f"run under jax {' and '.join(other)}, and it is {' or '.join(locked)} now"] if other and locked else []
