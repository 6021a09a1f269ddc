"""What `harness sensitivity` shows: final metrics against the learning rate, and how much they suffer from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.campaign.rate_sweep import Task
from harness.campaign.surveys import Place
from harness.program.workload import WorkloadInfo
from harness.record.search_record import SearchRun
from harness.report.progress import duration
from harness.report.tables import print_line, print_table
from harness.search.sensitivity import FACTOR, Curve

SCHEMA = 1


def print_plan(todo: Sequence[Task], infos: Sequence[WorkloadInfo], max_steps: int | None) -> None:
    """Print what is to be run at most."""
    for task in todo:
        steps = {info.name: task.steps(info, max_steps) for info in infos}
        times = [info.target.reference_step_s for info in infos]
        count = 2 * task.reach + 1
        runs = count * task.studies
        told = [f"{count} values of {task.over} on each workload, {task.ends[0]:g} to {task.ends[1]:g}"]
        told += [f"{runs * len(infos)} runs on {', '.join(steps)}"]
        if None not in times:
            seconds = sum(runs * steps[info.name] * (info.target.reference_step_s or 0.0) for info in infos)
            told += [f"at most about {duration(seconds)} of the baseline's steps on one core"]
        print_line(f"{task.taker.folder.name}: {', '.join(told)}")


def print_run(task: Task, place: Place, run: SearchRun) -> None:
    """Print a line on a run that has ended."""
    value = "diverged" if run.status == "diverged" else f"{place.info.metric} {run.values[-1]:.4f}"
    at = f"{task.over}={run.hyperparameters[task.over]:g}, tuning seed {run.study}"
    print(f"{place.info.name} / {run.submission} {at}: step {run.steps[-1]}, {value}", flush=True)


def print_found(found: Sequence[tuple[Task, list[Curve]]]) -> None:
    """Print the curves on each workload, then the sensitivities."""
    for number in range(len(found[0][1])):
        curves = [(task, of[number]) for task, of in found]
        first = curves[0][1]
        print_line(f"\n{first.workload}: {first.metric} after {first.steps} steps", style="bold")
        reach = curves[0][0].reach
        columns = ["submission", "over", ">centre", *(f">x {FACTOR**k:g}" for k in range(-reach, reach + 1)), ">start"]
        rows = [
            [
                curve.submission,
                task.over,
                f"{task.centres[curve.workload]:g}",
                *(_final(curve, n) for n in range(len(curve.values))),
                _number(curve.start),
            ]
            for task, curve in curves
        ]
        print_table(columns, rows)
    print_line("\nsensitivity", style="bold")
    names = [curve.workload for curve in found[0][1]]
    columns = ["submission", *(f">{name}" for name in names), *(f">best on {name}" for name in names)]
    print_table(
        columns,
        [
            [task.taker.folder.name, *(_number(c.sensitivity) for c in of), *(_best(c) for c in of)]
            for task, of in found
        ],
    )
    print_line()
    factor = FACTOR ** (2 * found[0][0].reach)
    print_line(
        f"sensitivity: how far the final metric lies from the best of the grid, the mean over a range of {factor:g} "
        "times; none counts as worse than before the first step (Wortsman et al. 2023); * marks the best"
    )
    ended = [f"{c.submission} on {c.workload}" for _, of in found for c in of if c.at_the_end]
    if ended:
        print_line(
            f"note: the best value is at an end of the grid for {', '.join(ended)}; move its centre with "
            "hp.NAME=VALUE, or widen it with --reach"
        )


def as_json(found: Sequence[tuple[Task, list[Curve]]]) -> dict[str, Any]:
    """Return what `--json` prints. Null stands for a run that diverged, and for a sensitivity that there is not."""
    return {
        "schema": SCHEMA,
        "curves": [
            {
                "submission": curve.submission,
                "workload": curve.workload,
                "metric": curve.metric,
                "mode": curve.mode,
                "steps": curve.steps,
                "over": task.over,
                "centre": task.centres[curve.workload],
                "values": list(curve.values),
                "finals": list(curve.finals),
                "start": curve.start,
                "best": None if curve.best is None else curve.values[curve.best],
                "at_the_end": curve.at_the_end,
                "sensitivity": curve.sensitivity,
                "studies": task.studies,
                "fixed": {name: value for name, value in task.taker.default.items() if name != task.over},
            }
            for task, of in found
            for curve in of
        ],
    }


def _final(curve: Curve, number: int) -> str:
    mark = " *" if number == curve.best else ""
    value = curve.finals[number]
    return "diverged" if value is None else f"{value:.4g}{mark}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _best(curve: Curve) -> str:
    return "-" if curve.best is None else f"{curve.values[curve.best]:g}"
