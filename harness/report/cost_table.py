"""What a plan costs, for people and as JSON: device-hours by workload, money at a price, and what is not known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.campaign.cost import BUSY, Cost, Kind, Price, StepTime
from harness.report.tables import print_line, print_table

HEAD = ("workload", ">trials", ">steps", ">search", ">scored", ">compilation", ">beside", ">hours")
_SHORT_RUN = 200  # steps: long enough for a step time
_PARTS = ("search", "scored", "compile", "beside")
_TOLD = {
    "program": "this kind of device",
    "yardstick": "this kind of device, of AdamW's step",
    "reference": "the reference machine, of AdamW's step",
}


def print_costs(costs: Sequence[Cost], kind: Kind, price: Price | None) -> None:
    """Print the table of device-hours, the total with its price, where step times come from, and what is unknown."""
    if not costs:
        print_line("nothing is left to run: it costs nothing")
        return
    device = "this machine" if kind.platform == "cpu" else "one card"
    spread = "".join(f"; a trial takes devices={one}" for one in sorted({one.devices for one in costs} - {1}))
    print_line(f"device-hours; a device is {device}: {kind.name}{spread}", style="bold")
    rows = [(name, group) for name, group in _by_workload(costs).items()]
    print_table(HEAD, [_row(name, group) for name, group in [*rows, *([("all", costs)] if len(rows) > 1 else [])]])
    print_line()
    print_table(("workload", "submission", ">ms a step", "measured on"), _step_rows(costs))
    print_line()
    for line in _lines(costs, kind, price):
        print_line(line)


def as_json(costs: Sequence[Cost], kind: Kind, price: Price | None) -> dict[str, Any]:
    """Return what `harness plan --cost --json` adds to the plan. Null stands for what is unknown; sums are of what is
    known.
    """
    seconds, most = _known(costs), _most(costs)
    return {
        "device": kind.name,
        "hours": seconds / 3600,
        "most_hours": _hours(most),
        "price": price and price.amount,
        "currency": (price and price.currency) or None,
        "money": price and price.amount * seconds / 3600,
        "most_money": None if price is None or most is None else price.amount * most / 3600,
        "unknown": unknown(costs),
        "rows": [
            {
                "workload": one.workload,
                "submission": one.submission,
                "trials": one.trials,
                "steps": one.steps,
                "search_steps": one.search_steps,
                "step_s": one.step_s,
                "step_source": one.step and one.step.source,
                "measured_on": one.step and one.step.where,
                "this_kind_of_device": one.step and one.step.here,
                "step_trials": one.step and one.step.trials,
                "step_trials_busy": one.step and one.step.busy,
                **{f"{name}_hours": _hours(one.parts[name]) for name in _PARTS},
                "most_hours": _hours(_most([one])),
            }
            for one in costs
        ],
    }


def unknown(costs: Iterable[Cost]) -> list[str]:
    """Return a line on each part of the cost that nothing was measured of."""
    costs = list(costs)
    told = (
        ("step times, so no hours", lambda one: one.step is None),
        ("steps to the target", lambda one: one.steps is None or one.search_steps is None),
        ("compilation", lambda one: one.compile_s is None),
        (
            "what a trial takes beside training (start, warm-up, yardstick, evaluation)",
            lambda one: one.beside_s is None,
        ),
        ("what a search takes beside its steps", lambda one: one.search_steps != 0),
    )
    return [f"{what}: {_named(lacking, costs)}" for what, lacks in told if (lacking := list(filter(lacks, costs)))]


def _lines(costs: Sequence[Cost], kind: Kind, price: Price | None) -> list[str]:
    seconds, most, gaps = _known(costs), _most(costs), unknown(costs)
    least = "at least " if gaps else ""
    lines = []
    if seconds:
        text = f"expected: {least}{_shown(seconds)} device-hours"
        lines.append(text + (f", {price.of(seconds)}" if price else ""))
    else:
        text = "expected: not known, since nothing of it was measured on this kind of device"
        lines.append(text + ("; --price is not used, since there are no hours to pay" if price else ""))
    if lacking := [one for one in costs if one.step is None]:
        lines.append(_measuring(lacking, kind))
    if most is not None and most > seconds:
        text = f"where no trial reaches its target before its budget ends: {least}{_shown(most)} device-hours"
        lines.append(text + (f", {price.of(most)}" if price else ""))
    if busy := [one for one in costs if one.step and one.step.busy]:
        lines.append(
            f"step times of {_named(busy, costs)}: from trials on a busy machine alone, whose yardstick took {BUSY:g} "
            "times as long as on a quiet one, or longer; a quiet machine takes fewer hours"
        )
    if any(one.search_steps for one in costs):
        lines.append("a search has a run on each core; its steps are counted as if all cores worked on one run")
    lines += [f"not known, and not in it: {gap}" for gap in gaps]
    if gaps and seconds:
        lines.append(
            "so these hours are of steps alone, and the rest comes on top; `harness run --dry-run` with the same words "
            "guesses how long all of it takes"
        )
    return lines


def _measuring(lacking: Sequence[Cost], kind: Kind) -> str:
    """Say which command makes step times known."""
    names = " ".join(dict.fromkeys(one.submission for one in lacking))
    tasks = dict.fromkeys(tuple(one.workload.partition("+")[::2]) for one in lacking)
    variants = {variant for _, variant in tasks}
    words = [f"workload={','.join(dict.fromkeys(workload for workload, _ in tasks))}"]
    words += [f"variant={','.join(sorted(variants))}"] if all(variants) else []
    words.append(f"device={kind.name if kind.name.isalnum() else kind.platform}")
    words += [f"devices={one}" for one in sorted({one.devices for one in lacking} - {1})]
    told = f"harness run {names} {' '.join(words)} max_steps={_SHORT_RUN}"
    return (
        f"a short run on such a device makes step times known: `{told}`. Its run folders count where they lie in the "
        "folder that out=DIR names (default: runs), or in results"
    )


def _row(name: str, group: Sequence[Cost]) -> tuple[str, ...]:
    steps = [one.steps for one in group]
    counted = [one for one in steps if one is not None]
    parts = [_sum_shown([one.parts[part] for one in group]) for part in _PARTS]
    total = _sum_shown([seconds for one in group for seconds in one.parts.values()])
    shown = f"{sum(counted):,}" if len(counted) == len(steps) else "?"
    return name, str(sum(one.trials for one in group)), shown, *parts, total


def _step_rows(costs: Sequence[Cost]) -> list[tuple[str, ...]]:
    """A row for each step time of a workload, with all submissions that it stands for."""
    names: dict[tuple[str, StepTime | None], list[str]] = {}
    for one in costs:
        names.setdefault((one.workload, one.step), []).append(one.submission)
    return [
        (workload, ", ".join(of), "?" if step is None else f"{1e3 * step.seconds:.2f}", _where(step))
        for (workload, step), of in names.items()
    ]


def _where(step: StepTime | None) -> str:
    if step is None:
        return "nothing that counts here"
    where = f": {step.where}" if step.where else ", which no record here names"
    where += ", the same kind of device" if step.source == "reference" and step.here else ""
    trials = f", {step.trials} {'trial' if step.trials == 1 else 'trials'}" if step.trials else ""
    busy = " on a busy machine: too long" if step.busy else ""
    return f"{_TOLD[step.source]}{where}{trials}{busy}"


def _named(lacking: Sequence[Cost], costs: Sequence[Cost]) -> str:
    """Name the costs: whole workloads by name, or all of them."""
    if len(lacking) == len(costs):
        return "of all"
    whole = [name for name, group in _by_workload(costs).items() if set(group) <= set(lacking)]
    single = [f"{one.submission} on {one.workload}" for one in lacking if one.workload not in whole]
    return ", ".join([*whole, *single])


def _by_workload(costs: Iterable[Cost]) -> dict[str, list[Cost]]:
    found: dict[str, list[Cost]] = {}
    for one in costs:
        found.setdefault(one.workload, []).append(one)
    return found


def _known(costs: Iterable[Cost]) -> float:
    """Seconds of all that is known."""
    return sum(seconds for one in costs for seconds in one.parts.values() if seconds is not None)


def _most(costs: Sequence[Cost]) -> float | None:
    """Seconds where no trial ends before its budget; None where the steps of one are unknown."""
    steps = [one.most_s for one in costs]
    known = [seconds for seconds in steps if seconds is not None]
    if len(known) < len(steps):
        return None
    return sum(known) + sum(seconds for one in costs for seconds in (one.compile_s, one.beside_s) if seconds)


def _sum_shown(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "?"
    total = sum(known)
    return _shown(total) + (" + ?" if len(known) < len(values) else "") if total or len(known) == len(values) else "?"


def _shown(seconds: float) -> str:
    hours = seconds / 3600
    return "-" if not hours else f"{hours:,.0f}" if hours >= 1000 else f"{hours:.3g}"


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 3600
