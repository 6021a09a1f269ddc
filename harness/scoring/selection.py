"""Which run folders count, and whether they can be scored together."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from harness.errors import RunFolderError
from harness.machine import hardware
from harness.program.workload import SMALL
from harness.record.result import UNFINISHED
from harness.record.run_folder import Trial
from harness.record.spec import SOURCES, TrialSpec
from harness.scoring import speedrun

_SAME_EVERYWHERE = (
    "rules",
    "counts",
    "clock",
    "score_compile",
    "compile_cap_s",
    "free_batch_size",
    "device",
    "deterministic",
    "devices",
    "sharding",
)
_SAME_PER_WORKLOAD = (
    "workload_version", "target", "metric", "mode", "step_hint", "batch_size", "budget_steps",
    "reference_step_s",
)  # fmt: skip
_SAME_MACHINE = {"cpu": ("cpu", "cores"), "gpu": ("device",)}  # keys of the fingerprint, by platform
_SAME_PACKAGES = ("jax", "jaxlib")
MIXED = "that went on from the checkpoint of another trial (over other devices, say): steps and times are of both"
_COMPARED = operator.attrgetter(*_SAME_EVERYWHERE, "task", *_SAME_PER_WORKLOAD, "workload_program", "workload_hash")


@dataclass(frozen=True)
class Selection:
    """The trials that count, and a line on each thing that was left out or has to be known."""

    trials: tuple[Trial, ...]
    notes: tuple[str, ...]


def select(trials: Iterable[Trial], unscored: Collection[str] = ()) -> Selection:
    """Return the trials that are scored together, whatever the order they come in.

    Left out, with a note: smoke tests (`max_steps`), held-out variants, trials on tuning seeds (records that are older
    than searches), trials that went on from the checkpoint of another one, campaigns under another `seed=` than the one
    with the most studies, and what a newer run folder supersedes: another source of the same submission, or other
    hyperparameters of the same study and trial. Newer is by the times of the run folder's files. `unscored` names
    workloads that are only shown.

    Raises RunFolderError where the rest cannot be compared: it was run by different rules, on different machines, under
    different versions of jax or settings of XLA and malloc, or on different versions of a workload.
    """
    remaining = sorted(trials, key=lambda t: (_order(t), str(t.path)))
    notes: list[str] = []
    remaining = _leave_out(
        remaining, notes, lambda t: t.spec.max_steps is not None, "run with max_steps; smoke tests are never ranked"
    )
    remaining = _leave_out(
        remaining,
        notes,
        lambda t: t.spec.variant is not None,
        "on held-out variants, which have no target; `harness score --variants` shows them",
    )
    remaining = _leave_out(remaining, notes, lambda t: t.spec.tuning, "run on tuning seeds, which are never scored")
    remaining = _leave_out(remaining, notes, is_mixed, MIXED)
    check_comparable(remaining)
    remaining = _newest_sources(remaining, notes, unscored)
    remaining = _newest_specs(_one_seed(remaining, notes), notes)
    notes += _remarks(remaining, unscored)
    return Selection(tuple(remaining), tuple(notes))


def select_variants(trials: Iterable[Trial]) -> Selection:
    """Return the trials on held-out variants that are compared (`harness.scoring.variants`), whatever the order they
    come in: of several the newest, as for scores. Smoke tests and workloads in small are left out.

    Raises RunFolderError where they cannot be compared.
    """
    held_out = (
        t for t in trials if t.spec.variant not in (None, SMALL) and t.spec.max_steps is None and not t.spec.tuning
    )
    remaining = sorted(held_out, key=lambda t: (_order(t), str(t.path)))
    notes: list[str] = []
    remaining = _leave_out(remaining, notes, is_mixed, MIXED)
    check_comparable(remaining)
    remaining = _newest_specs(_one_seed(_newest_sources(remaining, notes, ()), notes), notes)
    return Selection(tuple(remaining), tuple(notes))


def is_mixed(trial: Trial) -> bool:
    """Whether a trial went on from the checkpoint of another one, over other devices say: its log holds both."""
    if trial.result is None or trial.result.attempts == 1:
        return False
    own = trial.result.spec_id  # that of `spec` takes a hash, and there may be thousands of trials
    return any(event["event"] == "start" and event.get("spec_id", own) != own for event in trial.events)


def check_comparable(trials: Sequence[Trial]) -> None:
    """Raise RunFolderError naming the first field in which two trials differ that must agree to be scored together.

    Of machine, versions and settings those count that a record holds: an older one may lack some.
    """
    first_of_task: dict[str, Trial] = {}
    kinds: dict[Hashable, Trial] = {}
    for trial in trials:
        kinds.setdefault(_alike(trial), trial)
    trials = list(kinds.values())
    first_under: dict[str, tuple[Trial, object]] = {}
    variables = sorted({name for trial in trials for name in _variables(trial) or ()})
    for trial in trials:
        for name in _SAME_EVERYWHERE:
            _check_equal(name, trials[0], getattr(trials[0].spec, name), trial, getattr(trial.spec, name))
        known = first_of_task.setdefault(trial.spec.task, trial)
        for name in _SAME_PER_WORKLOAD:
            what = f"{name} of {trial.spec.task}"
            _check_equal(what, known, getattr(known.spec, name), trial, getattr(trial.spec, name))
        both = known.spec.workload_program is not None and trial.spec.workload_program is not None
        name = "workload_program" if both else "workload_hash"  # records that are older than programs have no other
        what = f"{name} of {trial.spec.task}"
        _check_equal(what, known, getattr(known.spec, name), trial, getattr(trial.spec, name))
        for what, value in _surroundings(trial, variables).items():
            _check_equal(what, *first_under.setdefault(what, (trial, value)), trial, value)


def _alike(trial: Trial) -> Hashable:
    """Return a key that trials share which agree in all that is compared; there are few of them among many trials."""
    held = trial.result.fingerprint if trial.result else {}
    flags, packages = held.get("flags"), held.get("packages") or {}
    return (
        _COMPARED(trial.spec),
        *(held.get(name) for name in _SAME_MACHINE[trial.spec.device]),
        *(packages.get(name) for name in _SAME_PACKAGES),
        None if flags is None else tuple(flags.items()),
        tuple((held.get("images") or {}).items()),
        _clock_version(trial),
    )


def _surroundings(trial: Trial, variables: Sequence[str]) -> dict[str, object]:
    """What a trial ran on and under beside its programs, as far as its record tells; '' for a variable not set."""
    found: dict[str, object] = {
        f"{name} of the machine": _fingerprint(trial, name) for name in _SAME_MACHINE[trial.spec.device]
    }
    packages = _fingerprint(trial, "packages") or {}
    found |= {f"the version of {name}": packages.get(name) for name in _SAME_PACKAGES}
    found["the version of the calibrated clock"] = _clock_version(trial)
    found[f"the images of {trial.spec.task}"] = _fingerprint(trial, "images")
    held = _variables(trial)
    found |= {} if held is None else {f"the variable {name}": held.get(name, "") for name in variables}
    return {what: value for what, value in found.items() if value is not None}


def _clock_version(trial: Trial) -> int | None:
    """By which version of the calibrated clock a trial was timed; None where it has no such time."""
    calibration = trial.result.calibration if trial.result and trial.spec.clock == "calibrated" else None
    return calibration.clock_version if calibration else None


def command(trials: Sequence[Trial]) -> str:
    """Return the `harness run` that goes on with these trials, as far as their records tell it: without hp.NAME, stop=
    and the like. Empty where there are none.
    """
    if not trials:
        return ""
    specs = [trial.spec for trial in trials]
    studies = max(spec.studies or 0 for spec in specs)
    words = [
        *sorted({spec.submission for spec in specs}),
        f"workload={','.join(sorted({spec.workload for spec in specs}))}",
        f"rules={specs[0].rules}",
        *([f"studies={studies}"] if studies > 1 else []),
        *([f"seed={specs[0].seed}"] if specs[0].seed else []),
    ]
    return f"harness run {' '.join(words)}"


def _variables(trial: Trial) -> dict[str, str] | None:
    """The environment variables that decide its numbers; None where the record holds none at all."""
    held = _fingerprint(trial, "flags")
    return None if held is None else hardware.steering(held)


def _leave_out(trials: list[Trial], notes: list[str], unwanted: Callable[[Trial], bool], why: str) -> list[Trial]:
    kept = [t for t in trials if not unwanted(t)]
    if len(kept) < len(trials):
        notes.append(f"left out: {_count(len(trials) - len(kept), 'trial')} {why}")
    return kept


def _newest_sources(trials: list[Trial], notes: list[str], unscored: Collection[str]) -> list[Trial]:
    """Keep, of each submission, the trials of the source hash that the newest of its run folders holds.

    A run on an unscored workload, a first try of an edit, supersedes none on a scored one.
    """
    shown = [t for t in trials if t.spec.workload in unscored]
    if shown and len(shown) < len(trials):
        scored = [t for t in trials if t.spec.workload not in unscored]
        return sorted(_newest_sources(scored, notes, ()) + _newest_sources(shown, notes, ()), key=_order)
    version = _versions(trials)
    if version is _source:  # each submission has one source alone
        return trials
    newest = {name: _newest(group) for name, group in _grouped(trials, _submission).items()}
    kept = [t for t in trials if version(t) == version(newest[t.spec.submission])]
    old = _grouped((t for t in trials if version(t) != version(newest[t.spec.submission])), _submission)
    for name, group in old.items():
        where = ", ".join(sorted({t.spec.workload for t in group}))
        notes.append(
            f"left out: {_count(len(group), 'trial')} of {name} on {where}, which older code of it ran; the newest is "
            "scored"
        )
    return kept


def _versions(trials: Sequence[Trial]) -> Callable[[Trial], Hashable]:
    """Return what tells the versions of a submission apart: sources that came to the same programs are the same."""
    sources = {(trial.spec.submission, trial.spec.submission_hash) for trial in trials}
    if len({name for name, _ in sources}) == len(sources):
        return _source
    programs: dict[tuple[str, str], dict[Hashable, str | None]] = {}
    for trial in trials:
        spec = trial.spec
        point = spec.workload, spec.variant, repr(sorted(spec.hyperparameters.items())), spec.budget_steps, spec.steps
        programs.setdefault((spec.submission, spec.submission_hash), {})[point] = spec.program
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for source, ids in programs.items():
        same = (other for other in first if other[0] == source[0] and _same_programs(ids, programs[other]))
        first[source] = first[found] if (found := next(same, None)) else source
    return lambda trial: first[_source(trial)]


def _source(trial: Trial) -> tuple[str, str]:
    return trial.spec.submission, trial.spec.submission_hash


def _same_programs(one: Mapping[Hashable, str | None], other: Mapping[Hashable, str | None]) -> bool:
    """Whether two sources came to the same program wherever both were exported, which they were somewhere."""
    common = [(one[point], other[point]) for point in one.keys() & other.keys()]
    return bool(common) and all(a == b and a is not None for a, b in common)


def _newest(trials: Sequence[Trial]) -> Trial:
    if len({t.spec.submission_hash for t in trials}) == 1:
        return trials[0]  # the disk is asked only where it matters
    return max(trials, key=_age)


def _one_seed(trials: list[Trial], notes: list[str]) -> list[Trial]:
    """Keep, of each submission on a workload, the trials under one seed=: studies of several seeds are several
    campaigns, and never mixed. The one with the most finished studies counts, those by hp.NAME after the others; of
    equals the newest.
    """

    def worth(campaign: list[Trial]) -> tuple[int, int, tuple[float, str]]:
        done = [t.spec for t in campaign if t.status not in UNFINISHED]
        as_it_is = {spec.study for spec in done if not spec.by_hand}
        return len(as_it_is), len({spec.study for spec in done}), max(map(_age, campaign))

    kept = []
    for group in _grouped(trials, lambda t: (t.spec.task, t.spec.submission)).values():
        by_seed = _grouped(group, lambda t: t.spec.seed)
        counts = max(by_seed.values(), key=worth) if len(by_seed) > 1 else group
        kept += counts
        for seed, others in by_seed.items():
            if len(by_seed) > 1 and others is not counts:
                spec = others[0].spec
                told = f"{_count(len(others), 'trial')} of {spec.submission} on {spec.task} under seed={seed}"
                notes.append(f"left out: {told}; those under seed={counts[0].spec.seed} are scored")
    return kept


def _newest_specs(trials: list[Trial], notes: list[str]) -> list[Trial]:
    """Keep one run folder of each (workload, submission, study, trial): what is no experiment by hp.NAME first, then
    what is finished, then the newest.
    """
    kept = []
    for group in _grouped(trials, _order).values():
        if len(group) == 1:
            kept += group
            continue
        newest = max(group, key=lambda t: (not t.spec.by_hand, t.status not in UNFINISHED, _age(t)))
        kept.append(newest)
        for old in (t for t in group if t is not newest):
            tried = old.spec.by_hand and not newest.spec.by_hand
            what, newer = ("by hp.NAME, an experiment", "") if tried else ("earlier", "(newer) ")
            notes.append(
                f"left out: {old.path} ran {_how(old.spec, newest.spec)} {what}; {newest.path} {newer}is scored; "
                f"`harness score {'--variants ' if old.spec.variant else ''}{old.path}` shows it"
            )
    return kept


def _remarks(trials: Sequence[Trial], unscored: Collection[str]) -> list[str]:
    """What a reader of the scores has to know."""
    notes = []
    versions = {t.spec.workload: (t.spec.workload_version, t.spec.target) for t in trials}
    for workload, (version, target) in sorted(versions.items()):
        if target is None:
            notes.append(f"{workload} has no target yet: no time to it, and no score")
        elif version == 0 and workload not in unscored:
            notes.append(f"{workload}: the target is provisional (version 0); these times are no leaderboard entry")
    if by_hand := sorted({t.spec.submission for t in trials if t.spec.by_hand}):
        notes.append(f"at a point that hp.NAME gave, not at its own: {', '.join(by_hand)}")
    if older := sorted({t.spec.submission for t in trials if t.spec.program is None}):
        notes.append(
            f"older than programs: {', '.join(older)} ran in the process that held data and clock, and what of the "
            "harness they ran by is not in the record's identity"
        )
    flagged = {(t.spec.submission, t.spec.workload, line) for t in trials if t.result for line in t.result.flagged}
    notes += [f"flagged: {submission} on {workload}: {line}" for submission, workload, line in sorted(flagged)]
    public = {t.spec.study for t in trials if t.spec.seed == 0}
    if len(public) > 1 or any(t.spec.seed == 0 and (t.spec.studies or 1) > 1 for t in trials):
        notes.append("seed 0 is public, so everybody may have tuned on these studies; a published board draws a nonce")
    by_seed: dict[int, set[str]] = {}
    for trial in trials:
        by_seed.setdefault(trial.spec.seed, set()).add(trial.spec.submission)
    if len(by_seed) > 1:
        told = "; ".join(f"{seed} by {', '.join(sorted(names))}" for seed, names in sorted(by_seed.items()))
        notes.append(f"different seeds, which may have been chosen for what came of them: {told}")
    if any(t.spec.counts == "mean" for t in trials):
        notes.append(speedrun.OWN_WORD)
    cells: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        cells.setdefault((trial.spec.submission, trial.spec.workload), []).append(trial)
    for (submission, workload), group in sorted(cells.items()):
        one_each = len({t.spec.study for t in group}) == len(group)
        if one_each and any(t.spec.hyperparameters != group[0].spec.hyperparameters for t in group):
            notes.append(f"the studies of {submission} on {workload} were run with different hyperparameters")
        points = _grouped(
            group, lambda t: (repr(sorted(t.spec.hyperparameters.items())), t.spec.budget_steps, t.spec.steps)
        )
        if any(len({t.spec.program for t in of}) > 1 for of in points.values()):
            notes.append(
                f"the trials of {submission} on {workload} ran different programs at one point: its export depends "
                "on more than the point, and the better may have been kept"
            )
    return notes


def _check_equal(what: str, first: Trial, expected: object, trial: Trial, value: object) -> None:
    if value != expected:
        apart = (
            "`harness score FOLDER ...` takes only the folders it names, and out=DIR gives new runs one of their own"
        )
        if what == "rules":
            apart = f"--rules {value} takes those alone"
        raise RunFolderError(
            f"trials that cannot be compared: {what} is {expected!r} in {first.path} and {value!r} in {trial.path}; "
            f"score them apart: {apart}"
        )


def _how(old: TrialSpec, new: TrialSpec) -> str:
    """How an older spec of the same study and trial differs, as one would type it: by its values."""
    told = {name: value for name, value in old.hyperparameters.items() if new.hyperparameters.get(name) != value}
    if not told:
        aside = (*SOURCES, "program", "workload_program", "hyperparameters")
        names = [f.name for f in fields(old) if f.name not in aside]
        told = {name: getattr(old, name) for name in names if getattr(old, name) != getattr(new, name)}
    if told:
        return f"with {', '.join(f'{name}={value}' for name, value in told.items())}"
    return "the same" if old.program == new.program else "other code"


def _grouped(trials: Iterable[Trial], key: Callable[[Trial], Hashable]) -> Mapping[Hashable, list[Trial]]:
    groups: dict[Hashable, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(key(trial), []).append(trial)
    return groups


def _submission(trial: Trial) -> str:
    return trial.spec.submission


def _order(trial: Trial) -> tuple[str, str, int, int]:
    return trial.spec.task, trial.spec.submission, trial.spec.study, trial.spec.trial


def _age(trial: Trial) -> tuple[float, str]:
    """Larger for what was written to later; the path decides between equals, so that the answer is always the same."""
    files = (trial.path / name for name in ("spec.json", "log.jsonl"))
    return max((f.stat().st_mtime for f in files if f.exists()), default=0.0), str(trial.path)


def _fingerprint(trial: Trial, name: str) -> Any:
    return trial.result.fingerprint.get(name) if trial.result else None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")
