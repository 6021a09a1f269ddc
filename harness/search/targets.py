"""How a validation target follows from recorded baseline runs: a pure function of them, so that none is typed in.

The protocol: tune the baselines by their final metric at full horizon on tuning seeds, with successive halving; run the
best point of all on fresh seeds; take the median of the metric at 90% of the horizon, where the curve is still steep
enough for time-to-target to be sharp. Where that is closer to the final metric than its seeds vary, the target is eased
to 1.645 standard deviations, and where a seed would still miss it, to what that seed reaches.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import WorkloadError
from harness.program.workload import Target, WorkloadInfo
from harness.record import plain_data
from harness.record.search_record import SearchRun
from harness.record.spec import Mode, Value

TARGET_AT = 0.9  # of the horizon
MIN_MARGIN_SD = 1.645  # of the final metric, on the easy side: the one-sided 95% point
RUNGS = (0.25, 0.5)  # of the horizon: where the worse half of the tuning runs ends
MIN_SEEDS, MIN_POINTS = 10, 10  # scoring seeds, and points of each baseline, for a target that is not provisional

Point = tuple[str, dict[str, Value]]
"""A submission's name and its hyperparameters."""


@dataclass(frozen=True)
class StepTime:
    """The baseline's seconds per step, the unit of calibrated seconds: a line of the same file, measured by itself.

    Attributes:
      baseline_step_s: median over `steps` steps of the harness's AdamW, all cores at its disposal.
    """

    workload: str
    workload_hash: str
    baseline_step_s: float
    steps: int
    machine: str


def read_record(path: Path) -> tuple[list[SearchRun], StepTime | None]:
    """Return the runs and the step time of a record file; nothing where there is none yet."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    lines = [line for line in lines if "restamp" not in line]
    runs = [plain_data.read(SearchRun, line, str(path), WorkloadError) for line in lines if "role" in line]
    times = [plain_data.read(StepTime, line, str(path), WorkloadError) for line in lines if "role" not in line]
    return runs, times[-1] if times else None


def read_restamps(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a record file that say by which proof its runs are of newer sources (`search.restamp`)."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [line for line in lines if "restamp" in line]


def record_lines(runs: Iterable[SearchRun], step_time: StepTime | None, restamps: Iterable[dict[str, Any]] = ()) -> str:
    """Return the text of a record file."""
    lines: list[Any] = [*runs, *([] if step_time is None else [step_time]), *restamps]
    return "".join(json.dumps(plain_data.to_plain(line)) + "\n" for line in lines)


def survivors(runs: Sequence[SearchRun], mode: Mode, step: int) -> list[Point]:
    """Return the points of the better half of tuning runs by the metric at `step`: those no worse than the median.

    A run without a finite value there is worse than any that has one.
    """
    worst = math.inf if mode == "min" else -math.inf
    values = [value if (value := at(run, step)) is not None else worst for run in runs]
    limit = statistics.median_low(values) if mode == "min" else statistics.median_high(values)
    good = [v <= limit if mode == "min" else v >= limit for v in values]
    return [run.point for run, kept, v in zip(runs, good, values, strict=True) if kept and math.isfinite(v)]


def best_point(runs: Sequence[SearchRun], mode: Mode, horizon: int) -> Point:
    """Return the point of the tuning run with the best final metric; one that diverged or was halved never wins."""
    finals = [(at(run, horizon), run.point) for run in runs if run.role == "tuning"]
    finished = [(value, point) for value, point in finals if value is not None]
    if not finished:
        raise WorkloadError("no tuning run reached the end of the horizon; widen the search to smaller learning rates")
    return (min if mode == "min" else max)(finished, key=lambda pair: pair[0])[1]


def derive_target(runs: Sequence[SearchRun], step_time: StepTime, mode: Mode, horizon: int, record: str) -> Target:
    """Return the target that the scoring runs of the best point set.

    Version 1 by at least `MIN_SEEDS` seeds and `MIN_POINTS` points of each baseline, else 0, provisional. Raises
    WorkloadError where a scoring run did not finish.
    """
    point = best_point(runs, mode, horizon)
    scoring = [run for run in runs if run.role == "scoring" and run.point == point]
    finals, marks = ([at(run, step) for run in scoring] for step in (horizon, round(TARGET_AT * horizon)))
    if len(scoring) < 2 or None in finals or None in marks:
        raise WorkloadError(
            f"{record}: {len(scoring)} scoring runs of {point}, finals {finals}; at least 2 must finish"
        )
    easiest = max if mode == "min" else min
    value = ease(easiest(bounds(scoring, mode, horizon).values()), mode)
    reached = [step for run in scoring if (step := first_step(run, value, mode)) is not None]
    tried: dict[str, int] = {}
    for run in runs:
        tried[run.submission] = tried.get(run.submission, 0) + (run.role == "tuning")
    return Target(
        value=value,
        version=int(len(scoring) >= MIN_SEEDS and min(tried.values()) >= MIN_POINTS and len(tried) >= 3),
        steps_to_target=round(statistics.median(reached)),
        reference_step_s=ease(step_time.baseline_step_s, "min"),
        record=record,
        spread=float(f"{statistics.stdev(v for v in finals if v is not None):.3g}"),
        seeds=len(scoring),
    )


def bounds(scoring: Sequence[SearchRun], mode: Mode, horizon: int) -> dict[str, float]:
    """Return the three values none of which a target may be harder than, by what each is; all runs must be whole."""
    final = [v for run in scoring if (v := at(run, horizon)) is not None]
    marks = [v for run in scoring if (v := at(run, round(TARGET_AT * horizon))) is not None]
    margin = MIN_MARGIN_SD * statistics.stdev(final) * (1 if mode == "min" else -1)
    best, easiest = (min, max) if mode == "min" else (max, min)
    reached = [best(v for v in run.values[: run.steps.index(horizon) + 1] if v is not None) for run in scoring]
    return {
        f"the median over seeds at {TARGET_AT:.0%} of the horizon": statistics.median(marks),
        f"{MIN_MARGIN_SD} standard deviations from the mean final value": statistics.mean(final) + margin,
        "what every seed reaches within the horizon": easiest(reached),
    }


def reach_bound(seeds: int) -> float:
    """Return the exact lower 95% bound on the probability that a seed reaches the target, where all `seeds` did."""
    return 0.05 ** (1 / seeds)


def margin_sd(runs: Sequence[SearchRun], target: Target, mode: Mode, horizon: int) -> float:
    """Return how many standard deviations over seeds the target lies on the easy side of the mean final metric."""
    point = best_point(runs, mode, horizon)
    finals = [v for r in runs if r.role == "scoring" and r.point == point and (v := at(r, horizon)) is not None]
    assert target.value is not None
    gap = target.value - statistics.mean(finals)
    return (gap if mode == "min" else -gap) / statistics.stdev(finals)


BEGIN, END = "<!-- target: written by scripts/set_targets.py -->", "<!-- end of target -->"


def page(runs: Sequence[SearchRun], target: Target, mode: Mode, metric: str, horizon: int) -> str:
    """Return what a workload's README says of its target, in Markdown."""
    name, hyperparameters = best_point(runs, mode, horizon)
    scoring = [run for run in runs if run.role == "scoring" and run.point == (name, hyperparameters)]
    finals = [v for run in scoring if (v := at(run, horizon)) is not None]
    assert target.value is not None
    hits = [step for run in scoring if (step := first_step(run, target.value, mode)) is not None]
    lines = [
        BEGIN,
        f"**{metric} at {'most' if mode == 'min' else 'least'} {target.value:g}**, version {target.version}"
        f"{'' if target.version else ' (provisional)'}. The baselines at quasi-random points over",
        "learning rate and weight decay, on a tuning seed; the worse half ended at 25% of the horizon, the worse half",
        "of the rest at 50%:",
        "",
        f"| baseline | points | learning rate | weight decay | best {metric} | at step |",
        "|---|---|---|---|---|---|",
    ]
    for submission in sorted({run.submission for run in runs}):
        tried = [run for run in runs if run.role == "tuning" and run.submission == submission]
        far = max(run.steps[-1] for run in tried)
        found = [(v, run) for run in tried if run.steps[-1] == far and (v := at(run, far)) is not None]
        if not found:
            lines.append(f"| {submission} | {len(tried)} | - | - | diverged | {far} |")
            continue
        value, run = (min if mode == "min" else max)(found, key=lambda pair: pair[0])
        cells = [submission, len(tried), *(run.hyperparameters[k] for k in ("learning_rate", "weight_decay"))]
        lines.append(f"| {' | '.join(map(str, [*cells, f'{value:.4f}', far]))} |")
    sd_steps = statistics.stdev(hits) / statistics.mean(hits)
    limits = [f"- {what}: {value:.4f}" for what, value in bounds(scoring, mode, horizon).items()]
    lines += [
        "",
        f"Then {name} at its best point on {len(scoring)} fresh seeds: final {metric} {statistics.mean(finals):.4f},",
        f"standard deviation over seeds {target.spread:g}. The target is the easiest of",
        "",
        *limits,
        "",
        f"rounded to the easy side: {margin_sd(runs, target, mode, horizon):.2f} standard deviations from the mean. "
        f"All {len(hits)} seeds",
        f"reach it, so at least {reach_bound(len(hits)):.0%} of seeds do (exact binomial bound, 95%); the median needs "
        f"{target.steps_to_target} of {horizon} steps,",
        f"and seeds differ by {sd_steps:.1%} (standard deviation over mean). A step of the harness's AdamW took "
        f"{1e3 * target.reference_step_s:.2f} ms.",
        f"Runs: `{target.record}`; set by `python scripts/set_targets.py {runs[0].workload}`.",
        END,
    ]
    return "\n".join(lines)


def on_page(text: str, section: str) -> str:
    """Return a README with the section on the target in its place; without one, it comes at the end."""
    head, begin, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2] if begin else "\n"
    return f"{head.rstrip()}\n\n{section}{tail}"


def at(run: SearchRun, step: int) -> float | None:
    """Return the metric measured at `step`, or None where the run has none."""
    return dict(zip(run.steps, run.values, strict=True)).get(step)


def first_step(run: SearchRun, value: float, mode: Mode) -> int | None:
    """Return the first measured step that meets `value`."""
    for step, v in zip(run.steps, run.values, strict=True):
        if v is not None and (v <= value if mode == "min" else v >= value):
            return step
    return None


def set_target_command(*infos: WorkloadInfo) -> str:
    """Return what to type to set the targets of workloads."""
    names = " ".join(info.name for info in infos)
    return f"python scripts/set_targets.py {names}{' --device gpu' if any(info.small for info in infos) else ''}"


def ease(value: float, mode: Mode) -> float:
    """Round to 4 significant digits to the easy side: up where smaller is better, down where larger is."""
    if value == 0 or not math.isfinite(value):
        return value
    scale = 10.0 ** (3 - math.floor(math.log10(abs(value))))
    rounded = (math.ceil if mode == "min" else math.floor)(round(value * scale, 9)) / scale
    return float(f"{rounded:.4g}")
