"""What `harness run profile=true` shows: the dearest operations of a step of each submission on each workload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.campaign.launch import profiling
from harness.errors import HarnessError
from harness.record.result import FAILED, UNFINISHED
from harness.record.run_folder import Trial
from harness.report.tables import print_line, print_table


def print_profiles(trials: Sequence[Trial], on_problem: Callable[[HarnessError], object]) -> list[dict[str, Any]]:
    """Trace the first trial of each submission on each workload that has ended, print where its time goes, and return
    what `--json` has of it.
    """
    first: dict[tuple[str, str], Trial] = {}
    for trial in trials:
        if trial.status not in FAILED | UNFINISHED:
            first.setdefault((trial.spec.task, trial.spec.submission), trial)
    found = []
    for (task, submission), trial in first.items():
        try:
            profile = profiling.profile(trial.path)
        except HarnessError as error:
            on_problem(error)
            continue
        _print(f"{task} / {submission}", profile)
        found.append({"workload": task, "submission": submission, "path": str(trial.path), **profile})
    return found


def _print(title: str, profile: dict[str, Any]) -> None:
    each = 1000 * profile["wall_s"] / profile["steps"]
    print_line(f"\n{title}: {profile['steps']} steps of {each:.2f} ms under the profiler", style="bold")
    rows = [
        [
            one["name"],
            one["kind"],
            f"{1000 * one['seconds'] / profile['steps']:.3f}",
            f"{one['share']:.1%}",
            f"{one['count'] / profile['steps']:g}",
            one["source"],
        ]
        for one in profile["operations"]
    ]
    print_table(["operation", "kind", ">ms a step", ">share", ">times a step", "from"], rows)
    print_line(f"the whole trace: {profile['trace']}; `xprof` or TensorBoard's profile plugin opens its folder")
