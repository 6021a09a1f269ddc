"""How the trials of a plan ended: their scores, and what failed or is not finished."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.campaign.plan import Plan
from harness.errors import HarnessError
from harness.record import run_folder
from harness.record.result import FAILED, UNFINISHED
from harness.record.run_folder import Trial
from harness.report import outcome
from harness.report.scores import print_scores, print_times
from harness.report.tables import print_line, print_table
from harness.report.variants import print_variants


def trials_of(planned: Plan) -> list[Trial]:
    """Return the trials of a plan that have a run folder."""
    return [run_folder.read_trial(trial.path) for trial in planned.trials if (trial.path / "spec.json").exists()]


def print_summary(planned: Plan, *, tables: bool = True) -> bool:
    """Print the scores of the plan's trials (`tables`), and on standard error what failed or is left; return whether
    all of them finished and none failed.
    """
    trials = trials_of(planned)
    if tables:
        _print_tables(trials)
    for trial in trials:
        for warning in ((trial.result and trial.result.card) or {}).get("warnings", ()):
            print(f"{trial.path}: {warning}", file=sys.stderr)
    short = [trial for trial in trials if trial.status in FAILED | UNFINISHED]
    for trial in short:
        print(f"{trial.path}: {trial.status}: {trial.reason}", file=sys.stderr)
    for problem in planned.problems:
        print(f"error: not run: {problem}", file=sys.stderr)
    for later in planned.later:
        print(f"{later.submission} on {later.workload}: its search is not finished", file=sys.stderr)
    return not short and not planned.later


def print_first_study(paths: Sequence[Path]) -> None:
    """Print how these trials did, the first study on a workload, while the campaign goes on. What is not scored, cannot
    be read or compared, waits for the summary.
    """
    with contextlib.suppress(HarnessError):
        for group in outcome.by_rules(outcome.by_kind([run_folder.read_trial(path) for path in paths])[2]):
            print_times(group)


def _print_tables(trials: Sequence[Trial]) -> None:
    held_out, unranked, ranked = outcome.by_kind(trials)
    if held_out:
        print_variants(held_out)
    if unranked:
        _print_unranked(unranked)
    for group in outcome.by_rules(ranked):
        print_scores(group)


def _print_unranked(trials: Sequence[Trial]) -> None:
    """Print how smoke tests and runs of workloads in small ended: they have a last value, and no time to a target."""
    print_line("not ranked: smoke tests and workloads in small", style="bold")
    rows = []
    for trial in trials:
        spec, result = trial.spec, trial.result
        value = None if result is None else result.last
        if result is not None and value is None:  # shorter than the first measurement: the full split's, at the end
            value = (result.validation or {}).get(spec.metric)
        last = "-" if value is None else f"{value:.4g}"
        steps = str(result.steps) if result else "-"
        rows.append([spec.workload, spec.variant or "-", spec.submission, str(trial.status), steps, spec.metric, last])
    print_table(["workload", "variant", "submission", "status", ">steps", "metric", ">last"], rows)
