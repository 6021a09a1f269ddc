"""What `harness anneal` shows: the law that was fitted, and final losses, predicted and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from harness.campaign.schedule_law import Found, Predicted
from harness.campaign.surveys import Place
from harness.record.search_record import SearchRun
from harness.report.tables import print_line, print_table

SCHEMA = 1
POOR = 0.02  # error of a fit from which on the law does not describe the runs it was fitted on


def print_run(place: Place, run: SearchRun) -> None:
    """Print a line on a run that has ended."""
    value = "diverged" if run.status == "diverged" else f"{place.info.metric} {run.values[-1]:.4f}"
    what = f"{run.hyperparameters['schedule']}, {run.hyperparameters['horizon']:g} step hints"
    head = f"{place.info.name} / {run.submission} {what}, tuning seed {run.study}"
    print(f"{head}: step {run.steps[-1]}, {value}", flush=True)


def print_found(found: Sequence[Found]) -> None:
    """Print a table for each submission and workload."""
    for one in found:
        law = one.law
        print_line(f"\n{one.submission} on {one.workload}: {one.metric} at the end of each schedule", style="bold")
        print_line(
            f"L = {law.L0:.4g} + {law.A:.4g} S1^-{law.alpha:.3g} - {law.C:.4g} S2, momentum {law.momentum:g}; "
            f"error {100 * law.error:.2g}% over {one.measurements} measurements"
        )
        rows = [
            [
                str(row.schedule),
                str(row.steps),
                "fitted on" if row.fitted else "",
                f"{row.predicted:.4f}",
                "-" if row.measured is None else f"{row.measured:.4f}",
                "-" if row.error is None else f"{100 * row.error:+.1f}%",
                _said(row),
            ]
            for row in one.schedules
        ]
        print_table(["schedule", ">steps", "", ">predicted", ">measured", ">off", "target"], rows)
    print_line()
    if poor := [f"{one.submission} on {one.workload}" for one in found if one.law.error > POOR]:
        print_line(
            f"note: the law does not describe {', '.join(poor)}: it misses the losses it was fitted on by more than "
            f"{100 * POOR:g}%; take its predictions for no more than an order"
        )
    print_line(
        "one law holds for one peak rate, batch size and model; hopeless: predicted to miss the target by more than 3 "
        "errors of the fit, which --train does not train"
    )


def as_json(found: Sequence[Found]) -> dict[str, Any]:
    """Return what `--json` prints. Null stands for what was not trained, and for a verdict without a target."""
    return {
        "schema": SCHEMA,
        "laws": [
            {
                "submission": one.submission,
                "workload": one.workload,
                "metric": one.metric,
                "target": one.target,
                "law": asdict(one.law),
                "measurements": one.measurements,
                "schedules": [
                    {
                        "schedule": row.schedule.name,
                        "length": row.schedule.length,
                        "steps": row.steps,
                        "fitted": row.fitted,
                        "predicted": row.predicted,
                        "hopeless": row.hopeless,
                        "measured": row.measured,
                        "error": row.error,
                    }
                    for row in one.schedules
                ],
            }
            for one in found
        ],
    }


def _said(row: Predicted) -> str:
    return "-" if row.hopeless is None else "hopeless" if row.hopeless else "within reach"
