"""How often each submission's validation metric was looked at: every look is a chance to fit it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.record.run_folder import Trial


def looks(trials: Iterable[Trial]) -> dict[str, int]:
    """Return, by submission, how many different programs and points of it were measured on one workload, the most over
    workloads. Trials of a search, on tuning seeds, are no looks: the harness looks there. Seeds count once.
    """
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for trial in trials:
        spec = trial.spec
        if not spec.tuning and any(event["event"] == "measurement" for event in trial.events):
            version = spec.program or spec.submission_hash, repr(sorted(spec.hyperparameters.items()))
            found.setdefault((spec.submission, spec.task), set()).add(version)
    most: dict[str, int] = {}
    for (submission, _), versions in sorted(found.items()):
        most[submission] = max(most.get(submission, 0), len(versions))
    return most


def note(most: Mapping[str, int]) -> list[str]:
    """Return a line on those that were looked at in more than one version."""
    told = ", ".join(f"{name} {number}" for name, number in most.items() if number > 1)
    return [f"versions whose validation metric was looked at, as far as the runs here tell: {told}"] if told else []
