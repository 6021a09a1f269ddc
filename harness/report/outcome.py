"""How trials ended, for programs: the object that `harness run --json`, with `--collect` too, prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from harness.errors import HarnessError
from harness.program.workload import SMALL
from harness.record import plain_data
from harness.record.result import UNFINISHED
from harness.record.run_folder import Trial
from harness.record.spec import TrialSpec
from harness.report import score_files, scores, variants

SCHEMA = 1


def as_json(
    trials: Sequence[Trial], *, problems: Iterable[HarnessError] = (), notes: Sequence[str] = (), so_far: bool = False
) -> dict[str, Any]:
    """Return each trial, and the scores of those that are scored; `so_far` leaves out trials that have not ended.

    `scores` holds what `harness score --json` prints, one object for each ruleset; `variants` what `--variants --json`
    does. What cannot be scored is told under `problems`.
    """
    told = list(map(str, problems))
    done = [trial for trial in trials if not so_far or trial.status not in UNFINISHED]
    held_out, _, ranked = by_kind(done)

    def tried(make: Callable[[], dict[str, Any]]) -> list[dict[str, Any]]:
        try:
            return [make()]
        except HarnessError as error:
            told.append(str(error))
            return []

    tables = []
    for group in by_rules(ranked):
        tables += tried(lambda group=group: score_files.as_json(scores.scored(group, allow_missing=so_far)))  # type: ignore[misc]
    shown = tried(lambda: variants.of_trials(held_out)) if held_out else []
    return {
        "schema": SCHEMA,
        "trials": [trial_as_json(trial) for trial in trials],
        "scores": tables,
        "variants": shown[0] if shown else None,
        "problems": told,
        "notes": list(notes),
    }


def trial_as_json(trial: Trial) -> dict[str, Any]:
    """Return one trial: `scored` is the time on each clock to the last measurement, `time_to_target` that to the first
    that met the target, in seconds (energy: joules); null stands for what there is not (yet).
    """
    spec, result, last = trial.spec, trial.result, trial.measurements[-1] if trial.measurements else None
    return {
        **name(spec),
        "status": trial.status,
        "reason": trial.reason,
        "steps": result.steps if result else last.step if last else 0,
        "metric": spec.metric,
        "target": spec.target,
        "best": result.best if result else None,
        "last": result.last if result else last.metrics[spec.metric] if last else None,
        "test": result.test if result else None,
        "scored": plain_data.to_plain(last.scored) if last else None,
        "time_to_target": plain_data.to_plain(result.time_to_target) if result else None,
        "wall_s": result.wall_s if result else None,
        "path": str(trial.path),
    }


def name(spec: TrialSpec) -> dict[str, Any]:
    """Return what tells a trial from others."""
    names = ("workload", "variant", "submission", "hyperparameters", "rules", "study", "trial", "seed", "max_steps")
    return {"id": spec.id} | {field: plain_data.to_plain(getattr(spec, field)) for field in names}


def by_kind(trials: Sequence[Trial]) -> tuple[list[Trial], list[Trial], list[Trial]]:
    """Return trials of held-out variants, those that are not ranked (smoke tests, workloads in small), and the rest."""
    held_out, unranked, ranked = [], [], []
    for trial in trials:
        if trial.spec.max_steps is not None or trial.spec.variant == SMALL:
            unranked.append(trial)
        elif trial.spec.variant is not None:
            held_out.append(trial)
        else:
            ranked.append(trial)
    return held_out, unranked, ranked


def by_rules(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Return the trials of each ruleset: those of self-tuning have a table of their own."""
    rules = dict.fromkeys(trial.spec.rules for trial in trials)
    return [[trial for trial in trials if trial.spec.rules == one] for one in rules]
