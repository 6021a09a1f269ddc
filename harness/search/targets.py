"""How a validation target follows from recorded baseline runs: a pure function of them, so that none is typed in.

The protocol (`RULE`): tune each baseline by its final metric at full horizon on a tuning seed, halving it within its
own points; run the best two on two more tuning seeds, so that no lucky seed chooses, and the one with the better mean
on fresh seeds. AdamW, the field's reference, sets the target: the median over its seeds at 85% of the horizon, where
the curve is still steep, so that time-to-target is sharp. Where its final metric lies too close for 99 of 100 seeds to
reach that, the target is eased until it does not; and where one of the seeds run would still miss it, to what that seed
reaches. So a somewhat slower method arrives later; it does not flip between hit and never. What NadamW and SGD do
against the target stands beside it and changes nothing; one that misses it on a seed runs once more with a longer
schedule, as the budget allows.

The targets of version 3 have the values and the runs of version 2: those runs were measured every 12.5% of the step
hint up to its half, where trials are measured every 4% now.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import WorkloadError
from harness.program.workload import Target, WorkloadInfo
from harness.record import plain_data
from harness.record.search_record import SearchRun
from harness.record.spec import Mode, Value

RULE = 3  # the version of a target that follows the whole protocol
REFERENCE = "adamw"
BASELINES = (REFERENCE, "nadamw", "sgd_momentum")
TARGET_AT = 0.85  # of the horizon: the measurement nearest to it
MIN_MARGIN_SD = 2.326  # of the final metric, on the easy side: the one-sided 99% point of a normal distribution
FINALISTS = 2  # points of a baseline that run on all tuning studies
STUDIES = (0, 1, 2)  # tuning studies; all points run on the first
RUNGS = (0.25, 0.5)  # of the horizon: where the worse half of a baseline's tuning runs ends
MIN_SEEDS, MIN_POINTS = 10, 10  # of each baseline, for a target that is not provisional
LONGER = 1.5  # step hints: the schedule of a baseline that missed on a seed, within the budget
CURVE = (0.25, 0.5, 0.7, 0.85, 1.0)  # of the horizon: what a page shows of a baseline's curve

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


def finalists(runs: Sequence[SearchRun], mode: Mode, horizon: int, submission: str) -> list[Point]:
    """Return the best points of a baseline by the final metric on the first tuning study, the best first; one that
    diverged or was halved is none of them. Raises WorkloadError where none is left.
    """
    finished = [
        (value if mode == "min" else -value, number, run.point)
        for number, run in enumerate(runs)
        if (run.role, run.study, run.submission) == ("tuning", STUDIES[0], submission)
        and (value := at(run, horizon)) is not None
    ]
    if not finished:
        raise WorkloadError(
            f"no tuning run of {submission} reached the end of the horizon; widen its search to smaller learning rates"
        )
    return [point for _, _, point in sorted(finished)[:FINALISTS]]


def best_point(runs: Sequence[SearchRun], mode: Mode, horizon: int, submission: str) -> Point:
    """Return the finalist with the best mean of the final metric over the tuning studies; one that diverged on a study
    is worse than all that did not. Raises as `finalists`.
    """

    def mean(point: Point) -> float:
        tuning = [run for run in runs if run.role == "tuning" and run.point == point]
        values = [v for run in tuning if (v := at(run, horizon)) is not None]
        return (
            statistics.mean(values if mode == "min" else [-v for v in values])
            if len(values) == len(tuning)
            else math.inf
        )

    return min(finalists(runs, mode, horizon, submission), key=mean)


def scoring_runs(runs: Sequence[SearchRun], mode: Mode, horizon: int, submission: str) -> list[SearchRun]:
    """Return the baseline's runs on fresh seeds at its best point."""
    point = best_point(runs, mode, horizon, submission)
    return [run for run in runs if run.role == "scoring" and run.point == point]


def longer(point: Point) -> Point:
    """Return the point with a schedule of `LONGER` step hints."""
    return point[0], point[1] | {"horizon": LONGER}


def target_value(runs: Sequence[SearchRun], mode: Mode, horizon: int) -> float:
    """Return the value that the reference's scoring runs set. Raises WorkloadError where one of them did not finish."""
    scoring = scoring_runs(runs, mode, horizon, REFERENCE)
    mark = _nearest(scoring, TARGET_AT * horizon)
    finals, marks = ([at(run, step) for run in scoring] for step in (horizon, mark))
    if len(scoring) < 2 or None in finals or None in marks:
        raise WorkloadError(f"{len(scoring)} scoring runs of {REFERENCE}, finals {finals}; at least 2 must finish")
    return ease(_easiest(mode)(bounds(scoring, mode, horizon).values()), mode)


def derive_target(runs: Sequence[SearchRun], step_time: StepTime, mode: Mode, horizon: int, record: str) -> Target:
    """Return the target that the reference's scoring runs set.

    Its version is `RULE` where each baseline has at least `MIN_SEEDS` seeds and `MIN_POINTS` points, and its finalists
    ran on all tuning studies; else 0, provisional. Raises WorkloadError as `target_value` does.
    """
    value = target_value(runs, mode, horizon)
    scoring = scoring_runs(runs, mode, horizon, REFERENCE)
    return Target(
        value=value,
        version=RULE if all(_whole(runs, mode, horizon, name) for name in BASELINES) else 0,
        steps_to_target=round(statistics.median(hits(scoring, value, mode, horizon))),
        reference_step_s=ease(step_time.baseline_step_s, "min"),
        record=record,
        spread=float(f"{statistics.stdev(_finals(scoring, horizon)):.3g}"),
        seeds=len(scoring),
    )


def bounds(scoring: Sequence[SearchRun], mode: Mode, horizon: int) -> dict[str, float]:
    """Return the three values none of which a target may be harder than, by what each is; all runs must be whole."""
    final = _finals(scoring, horizon)
    mark = _nearest(scoring, TARGET_AT * horizon)
    marks = [v for run in scoring if (v := at(run, mark)) is not None]
    margin = MIN_MARGIN_SD * statistics.stdev(final) * (1 if mode == "min" else -1)
    best = min if mode == "min" else max
    reached = [best(v for v in run.values[: run.steps.index(horizon) + 1] if v is not None) for run in scoring]
    return {
        f"the median over seeds at step {mark}": statistics.median(marks),
        f"{MIN_MARGIN_SD} standard deviations from the mean final value": statistics.mean(final) + margin,
        "what every seed reaches within the horizon": _easiest(mode)(reached),
    }


def hits(scoring: Iterable[SearchRun], value: float, mode: Mode, horizon: int) -> list[int]:
    """Return the first steps that meet `value`, of the runs that do within the horizon."""
    steps = (first_step(run, value, mode) for run in scoring)
    return [step for step in steps if step is not None and step <= horizon]


def _nearest(runs: Sequence[SearchRun], step: float) -> int:
    """Return the measured step nearest to `step`, the later of two; 0 where nothing was measured."""
    return min((s for run in runs for s in run.steps), key=lambda s: (abs(s - step), -s), default=0)


def misses(runs: Sequence[SearchRun], point: Point, value: float, mode: Mode) -> bool:
    """Return whether a run on a fresh seed at this point never met `value`."""
    return any(first_step(run, value, mode) is None for run in runs if run.role == "scoring" and run.point == point)


def _finals(scoring: Iterable[SearchRun], horizon: int) -> list[float]:
    return [v for run in scoring if (v := at(run, horizon)) is not None]


def _easiest(mode: Mode) -> Callable[[Iterable[float]], float]:
    return max if mode == "min" else min


def _whole(runs: Sequence[SearchRun], mode: Mode, horizon: int, name: str) -> bool:
    try:
        best = finalists(runs, mode, horizon, name)
        return (
            _tried(runs, name) >= MIN_POINTS
            and all(sum(run.role == "tuning" and run.point == point for run in runs) >= len(STUDIES) for point in best)
            and len(scoring_runs(runs, mode, horizon, name)) >= MIN_SEEDS
        )
    except WorkloadError:  # it diverged everywhere
        return False


def _tried(runs: Iterable[SearchRun], name: str) -> int:
    """Return how many points of a baseline ran."""
    return sum((run.role, run.study, run.submission) == ("tuning", STUDIES[0], name) for run in runs)


def reach_bound(seeds: int) -> float:
    """Return the exact lower 95% bound on the probability that a seed reaches the target, where all `seeds` did."""
    return 0.05 ** (1 / seeds)


def margin_sd(scoring: Sequence[SearchRun], target: Target, mode: Mode, horizon: int) -> float:
    """Return how many standard deviations over seeds the target lies on the easy side of the mean final metric."""
    finals = _finals(scoring, horizon)
    assert target.value is not None
    gap = target.value - statistics.mean(finals)
    return (gap if mode == "min" else -gap) / statistics.stdev(finals)


BEGIN, END = "<!-- target: written by scripts/set_targets.py -->", "<!-- end of target -->"


def page(runs: Sequence[SearchRun], target: Target, mode: Mode, metric: str, horizon: int) -> str:
    """Return what a workload's README says of its target, in Markdown."""
    assert target.value is not None
    scoring = scoring_runs(runs, mode, horizon, REFERENCE)
    found = hits(scoring, target.value, mode, horizon)
    over = {run.submission for run in runs if run.role == "scoring" or run.values[-1] is None or target.version}
    names = [name for name in BASELINES if name in over]  # the rest is under way
    marks = [_nearest(scoring, part * horizon) for part in CURVE]
    lines = [
        BEGIN,
        f"**{metric} at {'most' if mode == 'min' else 'least'} {target.value:g}**, version {target.version}"
        f"{'' if target.version else ' (provisional: less was run than what follows)'}. Each baseline",
        "ran at quasi-random points over learning rate and weight decay on a tuning seed; the worse half of its points",
        "ended at 25% of the horizon, the worse half of the rest at 50%. The best "
        f"{FINALISTS} by final metric ran on {len(STUDIES)} tuning",
        "seeds, and the better of them on fresh seeds:",
        "",
        f"| baseline | points | learning rate | weight decay | seeds | final {metric} | reach it | median step |",
        "|---|---|---|---|---|---|---|---|",
        *(row for name in names for row in _rows(runs, name, target.value, mode, horizon)),
        "",
        f"The median {metric} over these seeds along the schedule of {horizon} steps:",
        "",
        f"| baseline | {' | '.join(f'step {step}' for step in marks)} |",
        f"|{'---|' * (len(marks) + 1)}",
        *(_curve(runs, name, marks, mode, horizon) for name in names),
        "",
        f"{REFERENCE} sets the target: the easiest of",
        "",
        *(f"- {what}: {value:.4f}" for what, value in bounds(scoring, mode, horizon).items()),
        "",
        f"rounded to the easy side: {margin_sd(scoring, target, mode, horizon):.2f} standard deviations of "
        f"{target.spread:g} from its mean final {metric}.",
        f"All {len(found)} of its seeds reach the target, so at least {reach_bound(len(found)):.0%} of seeds do (exact "
        "binomial bound, 95%); the",
        f"median needs {target.steps_to_target} of {horizon} steps, and seeds differ by "
        f"{statistics.stdev(found) / statistics.mean(found):.1%} (standard deviation over mean).",
        f"A step of the harness's AdamW took {1e3 * target.reference_step_s:.2f} ms.",
        f"Runs: `{target.record}`; set by `python scripts/set_targets.py {runs[0].workload}`.",
        END,
    ]
    return "\n".join(lines)


def _rows(runs: Sequence[SearchRun], name: str, value: float, mode: Mode, horizon: int) -> list[str]:
    """Return the rows of a baseline: at its best point, and with a longer schedule where it ran so."""
    tried = _tried(runs, name)
    try:
        best = best_point(runs, mode, horizon, name)
    except WorkloadError:
        return [f"| {name} | {tried} | - | - | - | diverged | - | - |"]
    rows: list[str] = []
    for label, point, end in (
        (name, best, horizon),
        (f"{name}, a schedule of {LONGER} step hints", longer(best), round(LONGER * horizon)),
    ):
        scoring = [run for run in runs if run.role == "scoring" and run.point == point]
        if not scoring and rows:
            continue
        finals = _finals(scoring, end)
        found = hits(scoring, value, mode, end)
        spread = f" ± {statistics.stdev(finals):.4f}" if len(finals) > 1 else ""
        cells = [
            label,
            "" if rows else tried,
            *(point[1][k] for k in ("learning_rate", "weight_decay")),
            len(scoring),
            f"{statistics.mean(finals):.4f}{spread}" if finals else "-",
            f"{len(found)} of {len(scoring)}",
            round(statistics.median(found)) if found else "-",
        ]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return rows


def _curve(runs: Sequence[SearchRun], name: str, marks: Sequence[int], mode: Mode, horizon: int) -> str:
    try:
        scoring = scoring_runs(runs, mode, horizon, name)
    except WorkloadError:
        scoring = []
    values = [[v for run in scoring if (v := at(run, step)) is not None] for step in marks]
    return f"| {' | '.join([name, *(f'{statistics.median(v):.4f}' if v else '-' for v in values)])} |"


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
