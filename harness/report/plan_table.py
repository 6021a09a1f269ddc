"""A plan for people: a row for each trial, and what is left to run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.campaign.plan import Plan, submission_folders
from harness.campaign.searches import PlannedSearch
from harness.campaign.tuned_point import Choice
from harness.program import discovery
from harness.record import plain_data
from harness.record.result import FAILED
from harness.report import outcome
from harness.report.progress import duration
from harness.report.tables import print_table

SCHEMA = 1
HEAD = ("workload", "submission", "study/trial", "status", ">expected")


def print_plan(plan: Plan, *, everything: bool = False) -> None:
    """Print a row for each trial and what is left to run; with `everything` first what takes part unnamed."""
    if everything:
        print(all_submissions())
    if plan.trials or plan.searches:
        print_table(HEAD, rows(plan))
        if plan.added:
            print(f"{plan.added} is added, at its defaults: held-out variants are compared with it")
        print(total(plan), flush=True)


def as_json(plan: Plan) -> dict[str, Any]:
    """Return what `harness plan --json` and `run --dry-run --json` print; `expected_s` is null where it is unknown."""
    return {
        "schema": SCHEMA,
        "trials": [
            {
                **outcome.name(trial.spec),
                "status": trial.status,
                "runs": trial.runnable,
                "expected_s": trial.expected_s,
                "path": str(trial.path),
            }
            for trial in plan.trials
        ],
        "searches": [
            {
                "workload": search.asked.workload,
                "submission": search.asked.submission,
                "points": len(search.asked.points),
                "runs_recorded": len(search.record.runs),
                "finished": search.choice is not None,
                "expected_s": search.expected_s,
            }
            for search in plan.searches
        ],
        "later": [plain_data.to_plain(later) for later in plan.later],
        "added": plan.added,
        "notes": list(plan.notes),
        "problems": list(map(str, plan.problems)),
    }


def print_choices(choices: Sequence[Choice]) -> None:
    """Print a line on each point that a search chose."""
    for choice in choices:
        print(choice.text, flush=True)


def rows(plan: Plan) -> list[tuple[str, str, str, str, str]]:
    """Return a row below `HEAD` for each search and each trial."""
    return (
        [_search_row(search) for search in plan.searches]
        + [
            (
                t.spec.task,
                t.spec.submission,
                t.spec.number,
                f"{t.status}, again" if t.again else str(t.status),
                "-" if not t.runnable else "?" if t.expected_s is None else duration(t.expected_s),
            )
            for t in plan.trials
        ]
        + [
            (
                later.workload,
                later.submission,
                f"0-{later.studies - 1}/0",
                "waits for the search to choose its point",
                "?" if later.expected_s is None else duration(later.studies * later.expected_s),
            )
            for later in plan.later
        ]
    )


def _search_row(search: PlannedSearch) -> tuple[str, str, str, str, str]:
    points, runs = len(search.asked.points), len(search.record.runs)
    status = "finished" if search.choice else f"{runs} runs recorded" if runs else "planned"
    left = "-" if search.choice else "?" if search.expected_s is None else duration(search.expected_s)
    return search.asked.workload, search.asked.submission, f"search of {points} points", status, left


def total(plan: Plan) -> str:
    """Return one line on what is left to run."""
    following = [later.expected_s for later in plan.later for _ in range(later.studies)]
    trials = [t.expected_s for t in plan.runnable] + following
    text = f"{len(trials)} of {len(plan.trials) + len(following)} trials to run"
    if due := len(plan.due):
        text = f"{due} {'search' if due == 1 else 'searches'} and {text}"
    expected = trials + [search.expected_s for search in plan.due]
    known = [seconds for seconds in expected if seconds is not None]
    if known:
        text += f", about {duration(sum(known))}"
    if len(known) < len(expected):
        text += f"{' and' if known else ','} {len(expected) - len(known)} of unknown length"
    if any(t.spec.variant for t in plan.trials):
        text += "; held-out variants have no target and are not scored"
    failed = sum(t.status in FAILED and not t.again for t in plan.trials)
    if failed:
        text += f"; {failed} failed earlier: retry=true runs {'it' if failed == 1 else 'them'} again"
    return text


def all_submissions() -> str:
    """Return one line on what takes part where no submission is named."""
    folders = submission_folders([])
    own = [folder.name for folder in folders if not discovery.bundled(folder)]
    rest = len(folders) - len(own)
    text = f"no submission is named, so all {len(folders)} take part: {rest} that come with the harness"
    text += f", and {', '.join(own)}" if own else ""
    example = (own or [folders[0].name])[0]
    return f"{text}; `harness run {example}` runs that one alone"
