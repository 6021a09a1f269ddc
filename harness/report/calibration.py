"""What `harness calibrate` shows: what one configuration for all workloads costs, by submission and workload."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.campaign.one_configuration import Task
from harness.campaign.surveys import Place
from harness.program.workload import WorkloadInfo
from harness.record.search_record import SearchRun
from harness.report.progress import duration
from harness.report.tables import print_line, print_table
from harness.search import two_passes
from harness.search.calibration import JUDGES, Calibration, Held, Judged

SCHEMA = 1


def print_plan(todo: Sequence[Task], infos: Sequence[WorkloadInfo], max_steps: int | None) -> None:
    """Print what is to be run at most."""
    where = ", ".join(info.name for info in infos)
    for task in todo:
        seconds = task.most_s(infos, max_steps)
        long = "" if seconds is None else f", at most about {duration(seconds)} of the baseline's steps on one core"
        over = f" over {', '.join(task.moved)}" if task.moved else ", its defaults"
        print_line(f"{task.taker.folder.name}: {len(task.points)} points{over}, on {where}{long}")


def print_run(task: Task, place: Place, run: SearchRun) -> None:
    """Print a line on a run that has ended, for now or for good."""
    info, point = place.info, run.hyperparameters
    what = ", ".join(f"{name}={_shown(point[name])}" for name in task.moved) or "defaults"
    value = "diverged" if run.status == "diverged" else f"{info.metric} {run.values[-1]:.4f}"
    hit = " (target met)" if two_passes.reached(run, info.target.value, info.mode) is not None else ""
    head = f"{info.name} / {run.submission} {what}, tuning seed {run.study}"
    print(f"{head}: step {run.steps[-1]}, {value}{hit}", flush=True)


def print_found(found: Sequence[tuple[Task, Calibration]], infos: Sequence[WorkloadInfo]) -> None:
    """Print a table for each submission, and one that compares them."""
    baselines = {info.name: info.target.steps_to_target for info in infos}
    for task, one in found:
        print_line(f"\n{one.submission}: one configuration, chosen on the other workloads", style="bold")
        columns = ["workload", "unit", ">left out", ">tuned there", ">price", ">defaults", "chosen on the others"]
        rows = [
            [
                held.asked.workload,
                held.unit,
                _cost(held, held.left_out),
                _cost(held, held.tuned),
                _price(held.price),
                _cost(held, held.default),
                _point(held.left_out.point, task.moved),
            ]
            for held in one.held
        ]
        print_table(columns, rows)
        if task.moved:
            print_line(f"on all workloads: {_typed(one.everywhere, task.moved)}")
    print_line("\none configuration for all workloads", style="bold")
    rows = [
        [
            one.submission,
            str(one.points),
            _price(one.price) + (f" ({one.priced} of {len(one.held)})" if one.priced < len(one.held) else ""),
            f"{len(one.held) - len(one.missed)} of {len(one.held)}",
            _over_baseline(one, baselines),
        ]
        for _, one in found
    ]
    print_table(["submission", ">points", ">price", ">targets reached", ">of the baseline's steps"], rows)
    print_line()
    for text in _LEGEND:
        print_line(text)


_LEGEND = (
    f"medians of {len(JUDGES)} tuning seeds that chose nothing; each workload in turn is left out of the choice",
    "price: what the target costs at the point that the others chose, over what it costs at the one tuned there; their "
    "geometric mean over workloads where both reach it",
    "of the baseline's steps: steps to the target over those of AdamW tuned there, the geometric mean where it is "
    "reached; the defaults may have been tuned on these very workloads, and are compared with nothing",
)


def as_json(found: Sequence[tuple[Task, Calibration]], infos: Sequence[WorkloadInfo]) -> dict[str, Any]:
    """Return what `--json` prints. Null stands for a miss, and for a price that there is not."""
    baselines = {info.name: info.target.steps_to_target for info in infos}
    return {
        "schema": SCHEMA,
        "workloads": [info.name for info in infos],
        "judges": list(JUDGES),
        "submissions": [
            {
                "submission": one.submission,
                "points": one.points,
                "moved": list(task.moved),
                "everywhere": dict(one.everywhere),
                "price": one.price,
                "priced": one.priced,
                "missed": list(one.missed),
                "of_baseline": of_baseline(one, baselines),
                "workloads": [
                    {
                        "workload": held.asked.workload,
                        "chosen_on": list(held.chosen_on),
                        "metric": held.asked.metric,
                        "mode": held.asked.mode,
                        "target": held.asked.target,
                        "budget_steps": held.asked.budget_steps,
                        "unit": held.unit,
                        "price": None if held.price is None or math.isinf(held.price) else held.price,
                        "left_out": _judged(held.left_out),
                        "tuned": _judged(held.tuned),
                        "default": _judged(held.default),
                    }
                    for held in one.held
                ],
            }
            for task, one in found
        ],
    }


def of_baseline(one: Calibration, baselines: Mapping[str, int | None]) -> float | None:
    """Return the geometric mean, over the workloads that the point of the others reaches, of its median steps to the
    target over the baseline's; None without one.
    """
    logs = []
    for held in one.held:
        steps, baseline = two_passes.middle(held.left_out.steps, "min"), baselines.get(held.asked.workload)
        if steps is not None and baseline:
            logs.append(math.log(steps / baseline))
    return math.exp(sum(logs) / len(logs)) if logs else None


def _judged(one: Judged) -> dict[str, Any]:
    return {"point": dict(one.point), "steps": list(one.steps), "cost": one.cost, "best": one.best}


def _cost(held: Held, one: Judged) -> str:
    if one.cost is not None:
        return f"{one.cost:.0f}" if held.unit == "steps" else f"{one.cost:.2f}"
    return "missed" if one.best is None else f"missed, {held.asked.metric} {one.best:.4g}"


def _price(price: float | None) -> str:
    return "-" if price is None else "missed" if math.isinf(price) else f"{price:.2f}"


def _over_baseline(one: Calibration, baselines: Mapping[str, int | None]) -> str:
    ratio = of_baseline(one, baselines)
    return "-" if ratio is None else f"{ratio:.2f}"


def _point(point: Mapping[str, Any], moved: Sequence[str]) -> str:
    return ", ".join(f"{name}={_shown(point[name])}" for name in moved) or "the defaults"


def _typed(point: Mapping[str, Any], moved: Sequence[str]) -> str:
    return " ".join(f"hp.{name}={_shown(point[name])}" for name in moved)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
