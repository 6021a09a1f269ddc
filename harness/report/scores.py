"""What `harness score` shows: a table per workload, the scores of the suite, the pairs, and what was left out."""

from __future__ import annotations

import itertools
import json as json_
import math
import statistics
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, HarnessError, RunFolderError
from harness.program import discovery
from harness.record.run_folder import Trial
from harness.record.spec import Clock
from harness.report.score_files import as_csv, as_json
from harness.report.tables import print_line, print_table
from harness.scoring import profiles, score, speedrun
from harness.scoring.sampling import Ends, Estimate
from harness.scoring.score import Scores
from harness.scoring.standings import Pair, Standings

_SHORT_UNITS: dict[Clock, str] = {"wall": "s", "cpu": "s", "calibrated": "s", "energy": "J", "steps": ""}
_ALL_PAIRS = 15  # more are shown by --pairs; otherwise neighbours in rank


def print_scores(
    trials: Sequence[Trial],
    *,
    json: bool = False,
    where: Path | str | None = None,
    csv: Path | None = None,
    pairs: bool = False,
    unscored: Collection[str] | None = None,
    **options: Any,
) -> None:
    """Score these trials and show it, for people or as one JSON object; write scores.csv to `csv`.

    `unscored` names the workloads that are not part of the score (default: toys); `options` are those of
    `harness.scoring.score.score`. Raises RunFolderError where there are no trials (`where` names the place looked at),
    or where they cannot be compared.
    """
    if not trials:
        looked = f" in {where}" if where else ""
        raise RunFolderError(f"no trials found{looked}; `harness run` makes some, and out=DIR says where they lie")
    show(scored(trials, unscored, **options), json=json, csv=csv, pairs=pairs)


def print_times(trials: Sequence[Trial]) -> None:
    """Print the times on each workload so far, without scores and notes."""
    found = scored(trials, allow_missing=True)
    for workload in found.targets if found.clock and not found.verdicts else ():
        _print_workload(found, workload)
    print_line()


def scored(trials: Sequence[Trial], unscored: Collection[str] | None = None, **options: Any) -> Scores:
    """Score trials: `harness.scoring.score.score`, by default with toys unscored."""
    return score.score(
        trials, unscored_workloads({t.spec.workload for t in trials}) if unscored is None else unscored, **options
    )


def show(found: Scores, *, json: bool = False, csv: Path | None = None, pairs: bool = False) -> None:
    """Print scores; `pairs` shows every pair, however many."""
    if csv is not None:
        try:
            csv.write_text(as_csv(found))
        except OSError as error:
            raise ConfigError(f"cannot write the scores to {csv}: {error}; choose another file with --csv") from None
    if json:
        print(json_.dumps(as_json(found), allow_nan=False))
    else:
        _print(found, pairs)


def unscored_workloads(names: Collection[str]) -> set[str]:
    """Return those of the named workloads that are toys; one that cannot be found any more counts as none."""
    toys = set()
    for name in names:
        try:
            info = discovery.workload_info(discovery.find("workloads", name))
        except HarnessError:
            continue
        if not info.scored:
            toys.add(name)
    return toys


def _print(found: Scores, all_pairs: bool) -> None:
    if found.clock:
        by = "times in" if found.verdicts else "ranked by"
        print_line(f"ruleset {found.rules}, {by} {'wall ' if found.clock == 'wall' else ''}{found.unit}", style="bold")
        if found.verdicts:
            _print_verdicts(found)
        elif found.held_out or len(found.targets) > 4:
            _print_matrix(found)
        else:
            for workload in found.targets:
                _print_workload(found, workload)
    if found.ranking:
        _print_suite(found, found.ranking)
        _print_pairs(found.ranking, all_pairs)
    if found.choices:
        _print_choices(found)
    if found.notes:
        print_line()
    for note in found.notes:
        print_line(f"note: {note}")


def _print_workload(found: Scores, workload: str) -> None:
    print_line(f"\n{workload}: {found.targets[workload]}", style="bold")
    assert found.clock is not None
    times = {name: found.times[found.clock][name][workload] for name, row in found.cells.items() if workload in row}
    ran = sorted(times, key=lambda n: (math.inf if (t := times[n]) is None else t, n))
    best = min((t for t in times.values() if t is not None), default=math.nan)
    other = [clock for clock in found.times if clock != found.clock]
    ranked = found.ranking if workload in found.ranked else None
    rows = [
        [
            name,
            found.standing(name, workload),
            *([found.reached(name, workload)] if found.several else []),
            _time(found, name, workload) + (_spread(ranked.time[name][workload]) if ranked else ""),
            _ratio(None if (t := times[name]) is None else t / best),
            _number(found.steps(name, workload), whole=True),
            *(_number(found.times[clock][name][workload]) for clock in other),
            _metric(found.test(name, workload)),
        ]
        for name in ran
    ]
    head = ["submission", "status", *([">reached"] if found.several else []), f">time to target{_title(ranked)}"]
    head += [">x best", ">steps", *(f">{clock} {_SHORT_UNITS[clock]}".strip() for clock in other)]
    print_table([*head, f">test {found.metrics[workload]}"], rows)


def _time(found: Scores, name: str, workload: str) -> str:
    """The median time to target; of a miss, how near the studies that missed came: the median of their best."""
    assert found.clock is not None
    time, studies = found.times[found.clock][name][workload], found.cells[name][workload].values()
    bests = [one.best for one in studies if one.best is not None and not one.reached]
    if time is not None or not bests or not all(one.finished for one in studies):
        return _number(time)
    return f"missed (best {missed_text(statistics.median(bests), found.levels.get(workload))})"


def missed_text(best: float, level: float | None) -> str:
    """Return how near a miss came, with four decimals, or as many as tell it from the target."""
    places = next((n for n in range(4, 9) if level is None or round(best, n) != round(level, n)), 9)
    return f"{best:.{places}f}"


def _print_verdicts(found: Scores) -> None:
    for workload, group in itertools.groupby(found.verdicts, key=lambda one: one.workload):
        print_line(f"\n{workload}: mean {found.targets[workload]}, at p < {speedrun.ALPHA:g}", style="bold")
        rows = [
            [
                one.submission,
                f"{one.runs} of {one.expected}",
                str(one.steps),
                _metric(one.mean),
                _metric(one.sd),
                "-" if one.p is None else f"{one.p:.2g}",
                "open" if one.met is None else "met" if one.met else "not met",
                _number(one.time),
                one.why,
            ]
            for one in group
        ]
        metric = found.metrics[workload]
        head = ["submission", ">runs", ">steps", f">mean {metric}", ">sd", ">p (one-sided)", "verdict", ">median time"]
        print_table([*head, ""], rows)


def _print_choices(found: Scores) -> None:
    print_line("\npoints, chosen on tuning seeds", style="bold")
    rows = [
        [
            choice.workload,
            choice.submission,
            f"{choice.winner} of 0-{len(choice.compared) - 1}",
            ", ".join(f"{name}={value}" for name, value in choice.varied.items()),
            choice.why,
        ]
        for choice in sorted(found.choices, key=lambda one: (one.workload, one.submission))
    ]
    print_table(["workload", "submission", ">point", "hyperparameters that differ", "chosen because it"], rows)


def _print_matrix(found: Scores) -> None:
    """Times alone, in one table: what fits where there are many workloads."""
    assert found.clock is not None
    times, rank = found.times[found.clock], found.ranking.rank if found.ranking else {}
    columns = [*found.ranked, *found.held_out, *(w for w in found.targets if w not in (*found.ranked, *found.held_out))]
    print_line(f"\ntime to target, {found.unit}", style="bold")
    print_table(
        ["submission", *(f">{w}" for w in columns)],
        [
            [name, *(_number(times[name][w], whole=True) for w in columns)]
            for name in sorted(times, key=lambda n: (rank.get(n, 0), n))
        ],
    )


def _print_suite(found: Scores, ranking: Standings) -> None:
    over = ", ".join(found.ranked)
    print_line(f"\nscore: performance profile up to {profiles.R_MAX:g} times the best, over {over}", style="bold")
    if found.held_out:
        print_line(f"taken away where the held-out variant was missed: {', '.join(found.held_out)}")
    ranked = any(pair.separable is not None for pair in ranking.pairs)
    without = found.several and bool(ranking.rank_without) and len(ranking.submissions) > 1
    rows = [
        [
            *([rank_text(ranking, name)] if ranked else []),
            name,
            f"{ranking.score[name].value:.3f}{_spread(ranking.score[name], places=3)}",
            *([_without(ranking, name)] if without else []),
            _ratio(ranking.mean_ratio[name].value) + _spread(ranking.mean_ratio[name], places=3),
            *([_speed_up(ranking, name)] if ranking.speed_up else []),
            f"{sum(math.isfinite(e.value) for e in ranking.time[name].values())} of {len(found.ranked)}",
        ]
        for name in sorted(ranking.rank, key=lambda n: (ranking.rank[n], n))
    ]
    head = [*([">rank"] if ranked else []), "submission", f">score{_title(ranking)}"]
    head += [">rank without any one workload"] if without else []
    head += [">x best (geometric mean)", *([">x the baseline (workloads)"] if ranking.speed_up else [])]
    print_table([*head, ">targets reached"], rows)
    for name in ranking.submissions:
        if told := parts_text(ranking.score[name]):
            print_line(f"{name}: seeds drawn again reach {told}")


def rank_text(ranking: Standings, name: str) -> str:
    """Return the ranks that the tests leave a submission: one, or "2-4"."""
    best, worst = ranking.rank_set[name]
    return str(best) if best == worst else f"{best}-{worst}"


def parts_text(score: Estimate) -> str:
    """Return what a score is in draws that reach more or fewer targets; empty where nearly all reach as many."""
    return ", ".join(
        f"{part.reached} target{'s' * (part.reached != 1)} in {part.share:.0%} of cases "
        f"(score {part.low:.3f} to {part.high:.3f})"
        for part in score.parts
    )


def _print_pairs(ranking: Standings, show_all: bool) -> None:
    tested = [pair for pair in ranking.pairs if pair.separable is not None]
    if not ranking.pairs or ranking.studies[1] < 2:
        return
    apart = sum(bool(pair.separable) for pair in tested)
    told = f"{apart} of {len(tested)} separable at 5% (difference of scores; Holm over pairs)"
    print_line(f"\npairs: {told if tested else 'too few studies for a test'}", style="bold")
    shown, order = ranking.pairs, sorted(ranking.rank, key=lambda n: (ranking.rank[n], n))
    if len(shown) > _ALL_PAIRS and not show_all:
        neighbours = set(itertools.pairwise(order))
        shown = tuple(pair for pair in shown if (pair.a, pair.b) in neighbours)
        print_line("neighbours in rank only; --pairs shows all, --json has them")
    rows = [
        [
            f"{pair.a} / {pair.b}",
            _ratio(pair.ratio.value) + _spread(pair.ratio, places=3, zero="missed"),
            f"{pair.win_probability:.0%}",
            _p(pair.test.p_holm),
            verdict(pair),
        ]
        for pair in shown
    ]
    print_table(["pair", f">times as fast{_title(ranking)}", ">wins", ">p (Holm)", "verdict"], rows)


def verdict(pair: Pair) -> str:
    """Return what the test of a pair says, in words."""
    if pair.separable is None:
        return "not tested: under 5 studies"
    if pair.separable:
        return "separable"
    if pair.test.seeds is None:
        return "not separable; over 9999 seeds each to tell"
    return f"not separable; some {float(f'{pair.test.seeds:.1g}'):.0f} seeds each to tell"


def _p(value: float | None) -> str:
    return "-" if value is None else "<0.001" if value < 0.001 else f"{value:.2g}"


def _without(ranking: Standings, name: str) -> str:
    others = [row[name] for row in ranking.rank_without.values()]
    return f"{min(others)}" if min(others) == max(others) else f"{min(others)}-{max(others)}"


def _speed_up(ranking: Standings, name: str) -> str:
    found = ranking.speed_up[name]
    if found.ratio is None:
        return "-"
    return f"{found.ratio.value:.3f}{_spread(found.ratio, places=3, zero='missed')} ({len(found.common)})"


def _title(ranking: Standings | None) -> str:
    """What stands beside the numbers of a column."""
    example = next(iter(ranking.score.values())) if ranking else None
    return "" if example is None else " [95%]" if example.interval else " (range)" if example.range else ""


def _spread(estimate: Estimate, places: int | None = None, *, zero: str = "0.000") -> str:
    """Return an interval or a range; an end is a miss where it is infinite, or 0 of how many times as fast."""

    def text(value: float) -> str:
        if not value or math.isinf(value):
            return "missed" if value else zero
        return _number(value) if places is None else f"{value:.{places}f}"

    def joined(ends: Ends, between: str) -> str:
        return between.join(map(text, ends))

    if not math.isfinite(estimate.value):
        return ""
    if estimate.interval:
        return f" [{joined(estimate.interval, ', ')}]"
    return f" ({joined(estimate.range, ' to ')})" if estimate.range else ""


def _number(value: float | None, *, whole: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if whole else f"{value:.3f}" if value < 10 else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _metric(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
