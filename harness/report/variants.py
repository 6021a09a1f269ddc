"""What `harness run variant=all` and `harness score --variants` show: final metrics on held-out variants, and how the
gap to AdamW moves. It is no part of any score.
"""

from __future__ import annotations

import json as json_
import textwrap
from collections.abc import Sequence
from typing import Any

from harness.errors import HarnessError, RunFolderError
from harness.program import discovery
from harness.program.workload import UNCHANGED
from harness.record.run_folder import Trial
from harness.report.tables import print_line, print_table
from harness.scoring import selection, variants
from harness.scoring.variants import KNOWN, Comparison
from harness.search.targets import REFERENCE

SCHEMA = 1


def print_variants(trials: Sequence[Trial], *, json: bool = False) -> None:
    """Print those of the trials that ran on held-out variants, for people or as one JSON object.

    Raises RunFolderError where there are none, or where they cannot be compared.
    """
    if json:
        print(json_.dumps(of_trials(trials), allow_nan=False))
    else:
        _print(*_compared(trials))


def of_trials(trials: Sequence[Trial]) -> dict[str, Any]:
    """Return what `--json` prints of these trials; raises as `print_variants`."""
    return as_json(*_compared(trials))


def _compared(trials: Sequence[Trial]) -> tuple[Sequence[Comparison], Sequence[str]]:
    chosen = selection.select_variants(trials)
    if not chosen.trials:
        raise RunFolderError(
            "no finished or begun run of a held-out variant; `harness run NAME variant=all` makes some"
        )
    names = {trial.spec.workload for trial in chosen.trials}
    return variants.compare(chosen.trials, {name: _spread(name) for name in names}), chosen.notes


def as_json(found: Sequence[Comparison], notes: Sequence[str]) -> dict[str, Any]:
    """Return what `--json` prints. Null stands for a final metric that there is not, and what would follow from it."""
    return {
        "schema": SCHEMA,
        "reference": REFERENCE,
        "variants": _WHAT,
        "workloads": {
            one.workload: {
                "metric": one.metric,
                "mode": one.mode,
                "steps": one.steps,
                "spread": one.spread,
                "unfinished": dict(one.unfinished),
                "finals": {
                    name: {
                        variant: {
                            "value": final.value,
                            "seeds": final.seeds,
                            "why": final.why,
                            "gap": one.gap(name, variant),
                            "move": one.move(name, variant),
                            "move_error": one.move_error(name, variant),
                        }
                        for variant, final in row.items()
                    }
                    for name, row in one.finals.items()
                },
            }
            for one in found
        },
        "notes": list(notes),
    }


def _spread(workload: str) -> float | None:
    try:
        return discovery.workload_info(discovery.find("workloads", workload)).target.spread
    except HarnessError:  # the records outlive the workload
        return None


def _print(found: Sequence[Comparison], notes: Sequence[str]) -> None:
    print_line(f"held-out variants: final metrics and, in brackets, the gap to {REFERENCE} (+ is better)", style="bold")
    for one in found:
        least, most = one.seeds
        seeds = (
            "1 seed"
            if most == 1
            else f"{least} seeds, medians"
            if least == most
            else f"{least} to {most} seeds, medians"
        )
        unit = f"a gap of 1 is {one.spread:.4g}" if one.spread else f"no spread is known: gaps in {one.metric}"
        print_line(f"\n{one.workload}: {one.metric} after {one.steps} steps, {seeds}; {unit}", style="bold")
        rows = [[name, *(_final(one, name, variant) for variant in one.variants)] for name in one.finals]
        print_table(["submission", *(f">{variant}" for variant in one.variants)], rows)
    moved = [variant for variant in KNOWN if any(variant in one.variants for one in found)]
    rows = [
        [one.workload, name, *(_moved(one, name, variant) for variant in moved)]
        for one in found
        for name in one.finals
        if name != REFERENCE
    ]
    if moved and rows:
        print_line("\nhow the gap moves: that on the variant less that on the workload itself", style="bold")
        print_table(["workload", "submission", *(f">{variant}" for variant in moved)], rows)
    print_line()
    for text in (*_legend(found), *(f"note: {note}" for note in notes)):
        print_line(text)


def _legend(found: Sequence[Comparison]) -> list[str]:
    """What the numbers mean."""
    lines = []
    if any(one.spread for one in found):
        lines.append(
            "the unit is the seeds' spread: the standard deviation of the baseline's final metric in the runs that set "
            "the target"
        )
    if any(one.seeds[1] > 1 for one in found):
        lines.append("± is the standard error of a move, from the seeds that ran")
    if any(one.seeds[0] == 1 for one in found):
        lines.append(
            "a move is made of four runs, and one seed does not tell how sure it is: if seeds vary as the unit says, "
            "±2; studies=3 runs three"
        )
    if long := {name: length for one in found for name, length in one.unfinished.items()}:
        told = ", ".join(f"{name} ({length:g} times)" for name, length in sorted(long.items()))
        lines.append(
            f"runs end at the step hint, where longer schedules have not decayed: those of {told}; name them and give "
            "hp.horizon=1"
        )
    shown = [f"{name}: {what}" for name, what in _WHAT.items() if any(name in one.variants for one in found)]
    return [*lines, *textwrap.wrap("; ".join(shown), 120), "held-out variants are not in the score"]


_WHAT = {UNCHANGED: "the workload itself, to the end of its horizon", **KNOWN}


def _final(one: Comparison, name: str, variant: str) -> str:
    final = one.finals[name].get(variant)
    if final is None:
        return "-"
    if final.value is None:
        return final.why
    gap = "" if name == REFERENCE else f" ({_signed(one, one.gap(name, variant))})"
    return f"{final.value:.4f}{gap}"


def _moved(one: Comparison, name: str, variant: str) -> str:
    error = one.move_error(name, variant)
    sure = "" if error is None else f" ±{error:.1f}" if one.spread else f" ±{error:.4f}"
    return _signed(one, one.move(name, variant)) + sure


def _signed(one: Comparison, value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f}" if one.spread else f"{value:+.4f}"
