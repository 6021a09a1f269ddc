"""What `harness ladder` shows: final metrics and speed-ups on each rung, and where the order of two turns over."""

from __future__ import annotations

from typing import Any

from harness.campaign.scale_ladder import Task
from harness.campaign.surveys import Place
from harness.record.search_record import SearchRun
from harness.report.progress import duration
from harness.report.tables import print_line, print_table
from harness.search import scale_ladder
from harness.search.scale_ladder import LEAST_SEEDS, Ladder, SpeedUp, Turn

SCHEMA = 1


def print_plan(todo: Task) -> None:
    """Print what is to be run at most, and what is to be known of it."""
    widths = ", ".join(f"{rung.width}" for rung in todo.rungs)
    told = [f"ladder of {todo.workload}: widths {widths}", f"{', '.join(map(str, todo.steps))} steps"]
    told += [f"the baseline {', '.join(map(str, todo.curve_steps))}"]
    told += [f"{todo.runs} runs of {', '.join(taker.folder.name for taker in todo.takers)} on {todo.seeds} seeds"]
    seconds = todo.most_s()
    told += [
        f"at most about {duration(seconds)} of the baseline's steps on one core"
        if seconds is not None
        else f"{len(todo.rungs) * todo.steps_a_width} steps; how long one takes is not known"
    ]
    print_line(", ".join(told))
    if (passes := todo.passes(todo.rungs[0].info)) > 1.0:
        print_line(f"note: the longest run goes {passes:.3g} times through the data: repeated data teach less than new")


def print_run(todo: Task, place: Place, steps: int, run: SearchRun) -> None:
    """Print a line on a run that has ended."""
    del todo
    value = "diverged" if run.status == "diverged" else f"{place.info.metric} {run.values[-1]:.4f}"
    print(f"{place.info.name} / {run.submission} {steps} steps, tuning seed {run.study}: {value}", flush=True)


def print_found(ladder: Ladder) -> None:
    """Print the speed-ups of each submission, then what is to be known of them."""
    found = scale_ladder.speed_ups(ladder)
    steps = dict(zip(ladder.ratios, ladder.steps, strict=True))
    for name in ladder.submissions[1:]:
        print_line(f"\n{name} over {ladder.baseline} on {ladder.workload}, {ladder.seeds} seeds", style="bold")
        rows = [
            [
                "all" if one.width is None else str(one.width),
                "all" if one.ratio is None else f"{one.ratio:g}",
                "" if one.ratio is None else str(steps[one.ratio]),
                _number(_baseline(ladder, one)),
                _number(one.final),
                *value_and_ends(one),
                one.why,
            ]
            for one in found
            if one.submission == name
        ]
        columns = ["width", ">data", ">steps", f">{ladder.baseline} {ladder.metric}", f">{ladder.metric}"]
        print_table([*columns, ">speed-up", "95% interval", ""], rows)
    print_line()
    for line in lines(ladder):
        print_line(line)


def lines(ladder: Ladder) -> list[str]:
    """Return where orders turn over, then what the numbers are, a line each."""
    told = [turn_text(ladder, turn) for turn in scale_ladder.turns(ladder)]
    told.append(
        f"speed-up: how many times the data {ladder.baseline} needs for the same {ladder.metric}, on its own curve "
        f"over {', '.join(map(str, ladder.curve_steps))} steps; ~ beyond them; means leave those out"
    )
    if ladder.seeds < LEAST_SEEDS:
        told.append(f"no intervals and no test of the order: they take {LEAST_SEEDS} seeds; add --seeds {LEAST_SEEDS}")
    return told


def turn_text(ladder: Ladder, turn: Turn) -> str:
    """Return a turn for people."""
    steps = dict(zip(ladder.ratios, ladder.steps, strict=True))
    one, other = (f"width {width}, {steps[ratio]} steps" for width, ratio in (turn.first_ahead, turn.second_ahead))
    return (
        f"the order of {turn.first} and {turn.second} turns over: {turn.first} is ahead at {one}, {turn.second} at "
        f"{other}"
    )


def value_and_ends(one: SpeedUp) -> tuple[str, str]:
    """Return a speed-up and its interval as text; a dash where there is none."""
    mark = "~" if one.extrapolated and one.value is not None else ""
    value = "-" if one.value is None else f"{mark}{one.value:.3f}"
    if not one.interval:
        return value, ""
    low, high = ("" if end is None else f"{end:.2f}" for end in (one.low, one.high))
    return value, f"{low} to {high}".strip() if low and high else f"above {low}" if low else f"below {high}" * bool(
        high
    )


def as_json(ladder: Ladder) -> dict[str, Any]:
    """Return what `--json` prints. Null stands for a run that diverged, no speed-up, and an end that is open."""
    steps = dict(zip(ladder.ratios, ladder.steps, strict=True))
    found = scale_ladder.speed_ups(ladder)

    def plain(one: SpeedUp) -> dict[str, Any]:
        return {
            "submission": one.submission,
            "width": one.width,
            "ratio": one.ratio,
            "steps": None if one.ratio is None else steps[one.ratio],
            "final": one.final,
            "speed_up": one.value,
            "low": one.low,
            "high": one.high,
            "interval": one.interval,
            "extrapolated": one.extrapolated,
            "why": one.why,
        }

    def rung(place: tuple[int, float]) -> dict[str, Any]:
        return {"width": place[0], "ratio": place[1], "steps": steps[place[1]]}

    return {
        "schema": SCHEMA,
        "workload": ladder.workload,
        "metric": ladder.metric,
        "mode": ladder.mode,
        "baseline": ladder.baseline,
        "seeds": ladder.seeds,
        "rungs": [
            {"workload": name, "width": width, "ratio": ratio, "steps": steps[ratio]}
            for name, width in zip(ladder.workloads, ladder.widths, strict=True)
            for ratio in ladder.ratios
        ],
        "curve_steps": list(ladder.curve_steps),
        "speed_ups": [plain(one) for one in found if one.ratio is not None],
        "means": [plain(one) for one in found if one.ratio is None],
        "turns": [
            {
                "first": turn.first,
                "second": turn.second,
                "first_ahead": rung(turn.first_ahead),
                "second_ahead": rung(turn.second_ahead),
            }
            for turn in scale_ladder.turns(ladder)
        ],
        "finals": {name: [list(map(list, of)) for of in rows] for name, rows in ladder.finals.items()},
    }


def plan_as_json(todo: Task) -> dict[str, Any]:
    """Return what `--dry-run --json` prints; null stands for what is not known."""
    return {
        "schema": SCHEMA,
        "workload": todo.workload,
        "submissions": [taker.folder.name for taker in todo.takers],
        "seeds": todo.seeds,
        "rungs": [
            {"workload": rung.folder.name, "width": rung.width, "ratio": ratio, "steps": steps}
            for rung in todo.rungs
            for ratio, steps in zip(todo.ratios, todo.steps, strict=True)
        ],
        "curve_steps": list(todo.curve_steps),
        "runs": todo.runs,
        "most_s": todo.most_s(),
    }


def _baseline(ladder: Ladder, one: SpeedUp) -> float | None:
    """Return the baseline's mean metric on a rung."""
    if one.width is None or one.ratio is None:
        return None
    place = ladder.curve_steps.index(ladder.steps[ladder.ratios.index(one.ratio)])
    values = ladder.finals[ladder.baseline][ladder.widths.index(one.width)][place]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
