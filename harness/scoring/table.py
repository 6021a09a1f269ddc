"""What `harness score` shows: a table per workload, the scores of the suite, and the notes on what was left out."""

from __future__ import annotations

import json as json_
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import discover
from harness.errors import HarnessError, RunFolderError
from harness.records import Status, Trial
from harness.scoring import profiles, times
from harness.scoring.times import Times
from harness.spec import CLOCKS, Clock, TrialSpec
from harness.tables import print_line, print_table

_SHORT_UNITS: dict[Clock, str] = {"wall": "s", "cpu": "s", "steps": "calibrated s", "energy": "J"}


@dataclass(frozen=True)
class Scores:
    """All that is shown, by submission and workload.

    Attributes:
      rules, clock: of the records; None where no trial counts.
      workloads: one spec of each, by name.
      ranked: names of the workloads that enter the score.
      status, steps, test: see `harness.scoring.times`.
      times: time to target on each clock that was measured at every hit, the ranking clock first.
      scores: profile score by submission; None where no workload is ranked.
      notes: lines.
    """

    rules: str | None
    clock: Clock | None
    workloads: dict[str, TrialSpec]
    ranked: tuple[str, ...]
    status: dict[str, dict[str, Status]]
    times: dict[Clock, Times]
    steps: Times
    test: Times
    scores: dict[str, float | None]
    notes: tuple[str, ...]

    @property
    def ranking(self) -> Times:
        """Time to target in the ranking clock."""
        return self.times[self.clock] if self.clock else {}


def print_scores(trials: Sequence[Trial], *, json: bool = False, where: Path | str | None = None) -> None:
    """Print the scores of these trials for people, or as one JSON object.

    Raises RunFolderError where there are none (`where` names the place looked at), or where they cannot be compared.
    """
    if not trials:
        looked = f" in {where}" if where else ""
        raise RunFolderError(f"no trials found{looked}; `harness run` makes some, and out=DIR says where they lie")
    found = score(trials, unscored_workloads({t.spec.workload for t in trials}))
    if json:
        print(json_.dumps(as_json(found)))
    else:
        _print(found)


def score(trials: Sequence[Trial], unscored: Collection[str] = ()) -> Scores:
    """Score the trials that count. `unscored` names the workloads that are shown and do not enter the score."""
    selection = times.select(trials)
    chosen = selection.trials
    if not chosen:
        return Scores(None, None, {}, (), {}, {}, {}, {}, {}, selection.notes)
    clock = chosen[0].spec.clock
    workloads = {t.spec.workload: t.spec for t in chosen}
    ranked = tuple(w for w in workloads if w not in unscored and workloads[w].target is not None)
    measured = {c: times.time_to_target(chosen, c) for c in (clock, *CLOCKS) if c == clock or _measured(chosen, c)}
    notes = list(selection.notes)
    if shown := sorted(set(workloads) & set(unscored)):
        notes.append(f"shown but not part of the score: {', '.join(shown)}")
    return Scores(
        rules=chosen[0].spec.rules,
        clock=clock,
        workloads=workloads,
        ranked=ranked,
        status=times.status(chosen, clock),
        times=measured,
        steps=times.steps_to_target(chosen, clock),
        test=times.test_metric(chosen, clock),
        scores=profiles.scores(measured[clock], ranked),
        notes=tuple(notes),
    )


def as_json(found: Scores) -> dict[str, Any]:
    """Return what `--json` prints. `low`, `high` and `pairs` await rulesets with several studies."""
    return {
        "rules": found.rules,
        "clock": found.clock,
        "workloads": sorted(found.workloads),
        "scores": {name: {"score": value, "low": None, "high": None} for name, value in sorted(found.scores.items())},
        "time_to_target": found.ranking,
        "steps_to_target": {name: {w: _whole(s) for w, s in row.items()} for name, row in found.steps.items()},
        "status": {name: {w: str(s) for w, s in row.items()} for name, row in found.status.items()},
        "pairs": [],
        "notes": list(found.notes),
    }


def unscored_workloads(names: Collection[str]) -> set[str]:
    """Return those of the named workloads that are toys; one that cannot be found any more counts as none."""
    toys = set()
    for name in names:
        try:
            info = discover.workload_info(discover.find("workloads", name))
        except HarnessError:
            continue
        if not info.scored:
            toys.add(name)
    return toys


def _print(found: Scores) -> None:
    if found.clock:
        print_line(f"ruleset {found.rules}, ranked by the {_clock_title(found.clock)}", style="bold")
        for workload in sorted(found.workloads):
            _print_workload(found, workload)
    if found.ranked:
        _print_suite(found)
    if found.notes:
        print_line()
    for note in found.notes:
        print_line(f"note: {note}")


def _print_workload(found: Scores, workload: str) -> None:
    spec = found.workloads[workload]
    print_line(f"\n{workload}: {target_text(spec)}", style="bold")
    submissions = {name: row for name, row in found.ranking.items() if workload in row}
    ratio = profiles.ratios(submissions, [workload])
    other = [clock for clock in found.times if clock != found.clock]
    rows = [
        [
            name,
            str(found.status[name][workload]),
            _number(found.ranking[name][workload]),
            _ratio(ratio[name][workload]),
            _number(found.steps[name][workload], whole=True),
            *(_number(found.times[clock][name][workload]) for clock in other),
            _metric(found.test[name][workload]),
        ]
        for name in sorted(submissions, key=lambda n: (ratio[n][workload], n))
    ]
    fixed = ("submission", "status", ">time to target", ">x best", ">steps")
    print_table([*fixed, *(f">{clock} {_SHORT_UNITS[clock]}" for clock in other), f">test {spec.metric}"], rows)


def _print_suite(found: Scores) -> None:
    ratio = profiles.ratios(found.ranking, found.ranked)
    over = ", ".join(found.ranked)
    print_line(f"\nscore: performance profile up to {profiles.R_MAX:g} times the best, over {over}", style="bold")
    rows = [
        [
            name,
            f"{found.scores[name]:.4f}",
            _ratio(profiles.geometric_mean_ratio(ratio[name])),
            f"{sum(found.ranking[name].get(w) is not None for w in found.ranked)} of {len(found.ranked)}",
        ]
        for name in sorted(found.scores, key=lambda n: (-(found.scores[n] or 0.0), n))
    ]
    print_table(["submission", ">score", ">x best (geometric mean)", ">targets reached"], rows)


def target_text(spec: TrialSpec) -> str:
    """Return what is to be reached, for people."""
    if spec.target is None:
        return f"{spec.metric}, no target"
    reach = "at most" if spec.mode == "min" else "at least"
    return f"{spec.metric} {reach} {spec.target:g}, version {spec.workload_version}"


def _measured(trials: Sequence[Trial], clock: Clock) -> bool:
    """Whether every hit that counts has a time on this clock."""
    hits = [t.hit for t in trials if times.counts(t) and t.hit]
    return clock != "energy" if not hits else all(getattr(hit.scored, clock) is not None for hit in hits)


def _clock_title(clock: Clock) -> str:
    return f"{clock} clock: {times.UNITS[clock]}"


def _whole(steps: float | None) -> int | float | None:
    """Steps as an integer, but for the middle of two studies."""
    return int(steps) if steps is not None and steps.is_integer() else steps


def _number(value: float | None, *, whole: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if whole else f"{value:.3f}" if value < 10 else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None or value == float("inf") else f"{value:.3f}"


def _metric(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
