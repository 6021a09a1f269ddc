"""What `harness curvature` shows: the largest eigenvalue of the Hessian where each submission ended."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.record.curvature import Curvature
from harness.record.result import Status
from harness.record.run_folder import Trial
from harness.report.tables import print_line, print_table

SCHEMA = 1
POOR = 0.01
"""Of an eigenvalue: an error from which on the products did not settle it."""


@dataclass(frozen=True)
class Measured:
    """A run.

    Attributes:
      place: for people.
      curvature: None where it could not be measured, for the reason `why`.
    """

    place: str
    trial: Trial
    curvature: Curvature | None
    why: str = ""

    @property
    def hit(self) -> bool:
        """Whether it ended at the target."""
        return self.trial.status is Status.TARGET_REACHED

    @property
    def steps(self) -> int:
        """After which it ended."""
        return self.trial.result.steps if self.trial.result else 0


def print_run(one: Measured) -> None:
    """Print a line on a run that was measured."""
    spec = one.trial.spec
    told = f"lambda_max {one.curvature.lambda_max:.4g}" if one.curvature else one.why
    print(f"{spec.task} / {spec.submission} {spec.number}: {told}", flush=True)


def print_found(found: Sequence[Measured]) -> None:
    """Print a table for each workload: a row for each submission, and for each of its points."""
    known = [(one, one.curvature) for one in found if one.curvature is not None]
    for task in dict.fromkeys(one.trial.spec.task for one, _ in known):
        here = [(one, held) for one, held in known if one.trial.spec.task == task]
        first = here[0][1]
        print_line(f"\n{task}: the training loss on {first.batches} batches of {first.batch_size}", style="bold")
        names = names_of([one for one, _ in here])
        rows = []
        for name in sorted(set(names)):
            of = [pair for pair, other in zip(here, names, strict=True) if other == name]
            values = [held.lambda_max for _, held in of]
            spread = f" ({min(values):.4g} to {max(values):.4g})" if len(of) > 1 else ""
            rows.append(
                [
                    name,
                    str(len(of)),
                    str(sum(one.hit for one, _ in of)),
                    f"{statistics.median(one.steps for one, _ in of):g}",
                    f"{statistics.median(values):.4g}{spread}",
                    percent(max(share(held) for _, held in of)),
                ]
            )
        print_table(["submission", ">runs", ">at the target", ">steps", ">lambda_max", ">error"], rows)
    print_line()
    if known:
        print_line(
            "lambda_max: the largest eigenvalue of the Hessian of the training loss at what was evaluated last, by "
            f"Lanczos with {known[0][1].products} products; in brackets the range of the runs, beside their median; "
            "error: the largest of the residuals, as a share"
        )
    if poor := [one.place for one, held in known if share(held) > POOR]:
        many = f"the eigenvalues of {len(poor)} runs ({poor[0]} the first) are"
        told = f"the eigenvalue of {poor[0]} is" if len(poor) == 1 else many
        print_line(f"note: {told} known to no more than {100 * POOR:g}%; take more --products")
    for why in dict.fromkeys(one.why for one in found if one.why):
        places = [one.place for one in found if one.why == why]
        print_line(f"note: left out: {why}: {places[0]}{f' and {len(places) - 1} more' if len(places) > 1 else ''}")


def as_json(found: Sequence[Measured], problems: Sequence[str]) -> dict[str, Any]:
    """Return what `--json` prints."""
    runs = []
    for one in found:
        spec, held = one.trial.spec, one.curvature
        runs.append(
            {
                "workload": spec.workload,
                "variant": spec.variant,
                "submission": spec.submission,
                "hyperparameters": spec.hyperparameters,
                "study": spec.study,
                "trial": spec.trial,
                "status": one.trial.status,
                "steps": one.steps,
                "lambda_max": held and held.lambda_max,
                "error": held and held.error,
                "batches": held and held.batches,
                "batch_size": held and held.batch_size,
                "products": held and held.products,
                "why": one.why,
                "path": one.place,
            }
        )
    return {"schema": SCHEMA, "runs": runs, "problems": list(problems)}


def share(held: Curvature) -> float:
    """Return the error as a share of the eigenvalue."""
    return held.error / abs(held.lambda_max) if held.lambda_max else float(held.error > 0)


def percent(value: float) -> str:
    """Return a share for people."""
    return "< 0.01%" if value < 1e-4 else f"{100 * value:.1g}%"


def names_of(found: Sequence[Measured]) -> list[str]:
    """Return the name of each run's row: its submission, with the hyperparameters in which its points differ."""
    points: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        points.setdefault(one.trial.spec.submission, []).append(one.trial.spec.hyperparameters)
    names = []
    for one in found:
        spec = one.trial.spec
        told = [
            f"{name}={value}"
            for name, value in spec.hyperparameters.items()
            if any(other.get(name) != value for other in points[spec.submission])
        ]
        names.append(" ".join([spec.submission, *told]))
    return names
