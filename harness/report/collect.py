"""What is there so far of a campaign (`harness run --collect`): how far it is, and its scores; nothing runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.errors import RunFolderError
from harness.record import run_folder
from harness.record.result import FAILED, UNFINISHED, Status
from harness.record.run_folder import Trial
from harness.record.spec import RunSpec
from harness.report import outcome
from harness.report.scores import print_scores
from harness.report.tables import print_line, print_table
from harness.report.variants import print_variants


def print_collected(run: RunSpec, names: Sequence[str]) -> None:
    """Print how far the trials are that were asked for, and the scores of those that are finished.

    Raises RunFolderError where there are none.
    """
    trials = collected(run, names)
    print_progress(trials)
    done = [trial for trial in trials if trial.status not in UNFINISHED]
    if run.variant is not None and done:
        print_variants(done)
    elif done:
        for group in outcome.by_rules(done):
            print_scores(group, allow_missing=True)


def collected(run: RunSpec, names: Sequence[str]) -> list[Trial]:
    """Return the trials that are there of those asked for. Raises RunFolderError where there are none."""
    if not (trials := list(asked_for(run, names))):
        raise RunFolderError(f"nothing of this is in {run.out} yet; without --collect it runs")
    return trials


def asked_for(run: RunSpec, names: Sequence[str]) -> Iterable[Trial]:
    """Yield the trials below the output folder that `harness run` with these words would run, or has run."""
    wanted = {Path(name).resolve().name for name in names}
    asked = run.suite.workloads if run.workload is None else run.workload.split(",")
    workloads = {Path(name.strip()).resolve().name for name in asked}
    rules = {run.rules.name} | ({run.rules.self_tuning.rules} if run.rules.self_tuning else set())
    for path in run_folder.find_trials(Path(run.out)):
        trial = run_folder.read_trial(path)
        spec = trial.spec
        fits = (not wanted or spec.submission in wanted) and spec.workload in workloads
        fits = fits and spec.rules in rules and (spec.seed, spec.max_steps) == (run.seed, run.max_steps)
        if fits and (spec.variant is None) == (run.variant is None):
            yield trial


def print_progress(trials: Sequence[Trial]) -> None:
    """Print how many trials of each submission on each workload are finished."""
    groups: dict[tuple[str, str, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.spec.task, trial.spec.submission, trial.spec.rules), []).append(trial)
    rows, finished, due = [], 0, 0
    for (task, name, rules), found in sorted(groups.items()):
        done = sum(trial.status not in UNFINISHED for trial in found)
        of = max(len(found), (found[0].spec.studies or 1) * (found[0].spec.trials or 1))
        running = sum(trial.status is Status.RUNNING for trial in found)
        failed = sum(trial.status in FAILED for trial in found)
        rows.append([task, name, rules, f"{done} of {of}", str(running), str(failed)])
        finished, due = finished + done, due + of
    print_line(f"{finished} of {due} trials finished, of what has begun", style="bold")
    print_table(["workload", "submission", "rules", ">finished", ">running", ">failed"], rows)
