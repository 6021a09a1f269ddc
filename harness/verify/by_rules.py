"""Whether a trial is what its ruleset and its workload say, and a campaign has all its studies, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from harness.campaign.tuned_point import choose
from harness.errors import HarnessError
from harness.machine import flags, hardware
from harness.program.workload import WorkloadInfo
from harness.record.result import UNFINISHED
from harness.record.run_folder import Trial
from harness.record.spec import TrialSpec
from harness.report.staleness import departures, ruleset
from harness.verify.findings import Finding, judged, same, unchecked

_OF_WORKLOAD = ("metric", "mode", "target", "step_hint", "batch_size", "reference_step_s")


def look(trial: Trial, info: WorkloadInfo | None) -> Iterator[Finding]:
    """Yield what is found; `info` is the workload's specification, where this version of it is here."""
    spec = trial.spec
    if info is not None:
        yield from _workload(spec, info)
    if ruleset(spec.rules) is None:
        yield unchecked("rules", f"rules {spec.rules}", "no such ruleset is in configs/rules")
    elif told := overrides(spec, info):
        yield Finding("rules", f"rules {spec.rules}", "no entry", f"not by the rules: {', '.join(told)}")
    else:
        yield Finding("rules", f"rules {spec.rules}", "ok")
    yield from _seeds(spec)
    yield from _point(trial)
    yield from _settings(trial)


def campaign(trials: Sequence[Trial]) -> Iterator[Finding]:
    """Yield whether all studies of a campaign are there, each once, in one setting. Studies under several seeds are
    several campaigns, of which a board takes one.
    """
    groups: dict[tuple[str, str, str, int], list[TrialSpec]] = {}
    for trial in trials:
        if trial.spec.max_steps is None and trial.spec.variant is None and not trial.spec.tuning:
            key = trial.spec.rules, trial.spec.submission, trial.spec.workload, trial.spec.seed
            groups.setdefault(key, []).append(trial.spec)
    missing, twice, mixed = [], [], []
    for (rules, name, workload, seed), specs in sorted(groups.items()):
        where = f"{name} on {workload} by {rules}, seed={seed}"
        due = {(s, t) for s in range(specs[0].studies or 1) for t in range(specs[0].trials or 1)}
        count = Counter((spec.study, spec.trial) for spec in specs)
        if gone := sorted(due - count.keys()):
            missing.append(f"{where}: study {', '.join(str(s) if t == 0 else f'{s} trial {t}' for s, t in gone)}")
        if more := [number for number, times in count.items() if times > 1]:
            twice.append(f"{where}: study {', '.join(str(s) for s, _ in sorted(more))}")
        fresh = specs[0].counts == "fresh_seeds" or (specs[0].trials or 1) == 1
        if fresh and len({repr(sorted(spec.hyperparameters.items())) for spec in specs}) > 1:
            mixed.append(f"{where}: its studies have different hyperparameters")
        if len({spec.submission_hash for spec in specs}) > 1:
            mixed.append(f"{where}: its studies have different sources")
    yield judged("campaign", "all studies there", not missing, f"missing are {'; '.join(missing)}")
    yield judged("campaign", "each once", not twice, f"there more than once are {'; '.join(twice)}")
    yield judged("campaign", "one setting", not mixed, "; ".join(mixed))
    seeds = Counter(key[:3] for key in groups)
    if several := [f"{name} on {workload} by {rules}" for (rules, name, workload), n in seeds.items() if n > 1]:
        told = f"under several seeds= ran {'; '.join(several)}: scored is the campaign with the most studies"
        yield Finding("campaign", "one seed", "no entry", told)
    if left := [trial for trial in trials if trial.status in UNFINISHED]:
        yield unchecked("campaign", "finished", f"{len(left)} of {len(trials)} trials are not")


def _workload(spec: TrialSpec, info: WorkloadInfo) -> Iterator[Finding]:
    here = {name: getattr(info, name, None) for name in _OF_WORKLOAD}
    here |= {"target": info.target.value, "reference_step_s": info.target.reference_step_s}
    wrong = [
        f"{name} is {getattr(spec, name)!r}, expected {here[name]!r}"
        for name in here
        if getattr(spec, name) != here[name]
    ]
    yield judged("rules", f"{spec.task} at version {spec.workload_version}", not wrong, ", ".join(wrong), "the spec")


def overrides(spec: TrialSpec, info: WorkloadInfo | None) -> list[str]:
    """Return in what the run departs from its ruleset, as `stop=horizon` does: no forgery, and no entry of a board.
    `info` is the workload's specification, where this version of it is here.
    """
    rules = ruleset(spec.rules)
    if rules is None:
        return []
    found = departures(spec, rules)
    if spec.variant is not None:
        found.pop("stop", None)  # held-out variants have no target
    told = [f"{name}={was} (the rules have {now})" for name, (was, now) in found.items()]
    if info is not None and (budget := round(info.budget_steps * rules.budget_factor)) != spec.budget_steps:
        told.append(f"a budget of {spec.budget_steps} baseline steps (the rules give {budget})")
    return told


def _seeds(spec: TrialSpec) -> Iterator[Finding]:
    fine = spec.seed >= 0 and 0 <= spec.study < (spec.studies or spec.study + 1)
    fine = fine and 0 <= spec.trial < (spec.trials or spec.trial + 1)
    told = f"seed {spec.seed}, study {spec.study} of {spec.studies}, trial {spec.trial} of {spec.trials}"
    yield judged("rules", "seed and study", fine and not spec.tuning, told, "the spec")


def _point(trial: Trial) -> Iterator[Finding]:
    """Where a search chose the point, it is the one that ran."""
    if trial.search is None:
        return
    try:
        choice = choose(trial.search)
    except (HarnessError, ValueError, LookupError) as error:
        yield Finding("rules", "search", "differs", f"its record chooses no point: {error}")
        return
    if choice is None:
        yield unchecked("rules", "search", "its record is not finished")
    else:
        yield same("rules", "point that the search chose", choice.point, trial.spec.hyperparameters, "the spec")


def _settings(trial: Trial) -> Iterator[Finding]:
    """XLA's flags are those that the harness sets, and no variables of jax were handed in."""
    held: dict[str, Any] = trial.result.fingerprint if trial.result else {}
    told = held.get("flags")
    if told is None:
        yield unchecked("rules", "flags", "the record holds none")
        return
    if (held.get("packages") or {}).get("jaxlib") != hardware.packages()["jaxlib"]:
        yield unchecked(
            "rules", "flags", f"they are of jaxlib {(held.get('packages') or {}).get('jaxlib')}, not of this one"
        )
        return
    spec = trial.spec
    ours = flags.environment(spec.device, deterministic=spec.deterministic, given={})
    expected = set(flags.without_caches(ours["XLA_FLAGS"]).split())
    held_flags = flags.without_caches(told.get("XLA_FLAGS", ""))
    if spec.devices > 1:  # how many of them a process has is no matter of numbers
        held_flags = flags.without_devices(held_flags)
    more = sorted(set(held_flags.split()) ^ expected)
    names = ("JAX_PLATFORMS", "JAX_NUMPY_RANK_PROMOTION")
    more += [name for name in told if name.startswith("JAX_") and name not in names]
    yield judged("rules", "flags", not more, f"{', '.join(more)}: not as the harness sets them", "result: fingerprint")
