"""Tune submissions by a small search that is the same for all, and record it.

    python scripts/tune.py muon suite=demo
    python scripts/tune.py muon suite=demo --write       put the best point into its submission.yaml
    python scripts/tune.py adamw nadamw suite=cpu --points 4 --dimensions 1
    python scripts/tune.py adamw suite=cpu --points 4 --dimensions 1 --table     only the table into its README

The search is that of `rules=tuned` (`harness.search.two_passes`), with one setting for all workloads of the suite: each
submission gets the same number of quasi-random points over the first two dimensions of its search space, the rest at
its defaults. On one tuning seed the better half goes on past 25% of the step hint and the best two past 50%, by mean
rank over the workloads. The best two of all that ran to the end run on two more tuning seeds, and the lower median
decides: first how many workloads were missed, then the geometric mean of the steps to the target, where a miss counts
as its budget, or up to twice that the further it ended from the target, then the better metric.

The length of a schedule is not among the two, for at 25% and 50% the shorter one looks better whatever comes of it:
where the search space has a `horizon`, all points are drawn at one step hint, the best one runs to the target at four
other lengths, and at the best of these so do the points that the last halving ended, for a longer schedule wants
another learning rate. With one dimension the length stays at its default too, and the defaults run to the end beside
the points.

Writes results/tuning/<suite>/<workload>/<submission>.jsonl after each run, so that it can be stopped and started at any
time. Prints what it costs before it starts.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.campaign import config
from harness.errors import ConfigError, HarnessError
from harness.program import discovery, search_space, submission
from harness.record.search_record import Asked, SearchRun
from harness.record.spec import Value
from harness.report.progress import duration
from harness.search import sweeps, two_passes
from harness.search.recorded_search import Search, described, running, shown
from harness.search.sweeps import Sweeps
from harness.search.targets import Point, set_target_command
from harness.search.two_passes import Finished, Values

ROOT = Path(__file__).resolve().parent.parent
SEARCH_SEED = 0  # of the quasi-random points
HORIZON = 1.0  # length of the schedule during the search, in step hints
HORIZONS = (0.6, 0.8, 1.0, 1.25, 1.5)  # lengths that the best point is tried at
BEGIN, END = "<!-- tuning on {}: written by scripts/tune.py -->", "<!-- end of tuning -->"


def main() -> int:
    """Tune the submissions named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="+", metavar="SUBMISSION | suite=NAME | workload=NAME,...")
    parser.add_argument("--points", type=int, default=8, help="of each submission (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=len(sweeps.cores()), help="runs at a time (default: one a core)")
    parser.add_argument("--dimensions", type=int, choices=(1, 2), default=2, help="of the space (default %(default)s)")
    parser.add_argument("--write", action="store_true", help="write the best point into submission.yaml, and --table")
    parser.add_argument("--table", action="store_true", help="write what was tried into the submission's README.md")
    parser.add_argument("--dry-run", action="store_true", help="print what it would cost and stop")
    args = parser.parse_args()
    try:
        names, overrides = config.split(args.words)
        run = config.compose(overrides)
        if not names:
            raise ConfigError("no submission named; for example: python scripts/tune.py muon suite=demo")
        workloads = run.suite.workloads if run.workload is None else tuple(run.workload.split(","))
        suite = run.suite.name if run.workload is None else run.workload
        with contextlib.ExitStack() as stack:
            pools: dict[str, Sweeps] = {}
            for name in names:
                moved = tuple(submission.read_info(discovery.find("submissions", name)).space)[: args.dimensions]
                searches = [search_of(discovery.find("workloads", w), name, moved, suite, args.jobs) for w in workloads]
                print(cost(name, searches, args.points), flush=True)
                if args.dry_run:
                    continue
                for search in searches:
                    if search.info.name not in pools:
                        pools[search.info.name] = stack.enter_context(sweeps.started(search.folder, args.jobs))
                best, asked, finished = tune(name, searches, pools, args.points)
                if args.write:
                    write_defaults(name, best, searches[0].moved)
                if args.write or args.table:
                    readme = discovery.find("submissions", name).path / "README.md"
                    section = page(name, suite, searches, args.points, asked, finished)
                    readme.write_text(on_page(readme.read_text(), suite, section))
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def search_of(folder: discovery.Folder, name: str, moved: tuple[str, ...], suite: str, jobs: int) -> Search:
    """Return the search of one submission on one workload with what is in its record."""
    info = discovery.workload_info(folder)
    if info.target.value is None:
        raise ConfigError(f"{info.name} has no target to tune for; set it: {set_target_command(info)}")

    def on_run(run: SearchRun) -> None:
        print(f"  {info.name}: {described(run, info.metric, moved)}", flush=True)

    record = ROOT / "results/tuning" / suite / info.name / f"{name}.jsonl"
    search = Search(folder, info, record, moved, 1 if jobs > 1 else len(sweeps.cores()), on_run)
    search.load()
    return search


def tune(
    name: str, searches: list[Search], pools: Mapping[str, Sweeps], count: int
) -> tuple[Point, list[Asked], list[Finished]]:
    """Run what is missing of one submission's search; return the best point, what was asked on each workload, and all
    points that ran to the end: the best two, on three tuning seeds, come first.
    """
    info = submission.read_info(discovery.find("submissions", name))
    moved = searches[0].moved
    names = varied(name, moved)
    fixed: dict[str, Value] = {"horizon": HORIZON} if "horizon" in names else {}
    drawn = [point | fixed for point in search_space.draw_points(info, moved, count, SEARCH_SEED)]
    asked = [two_passes.asked_of(search.info, name, drawn) for search in searches]
    ask = running(name, searches, [pools[search.info.name] for search in searches], asked)
    first = two_passes.STUDIES[:1]

    def finish(points: Sequence[Values], studies: Sequence[int] = first) -> list[Finished]:
        found = two_passes.finish(points, studies, ask)
        for one in found:
            told = zip(searches, one.steps(asked), strict=True)
            reached = ", ".join(f"{s.info.name} {' / '.join(str(n or 'missed') for n in row)}" for s, row in told)
            text = f"{shown((name, dict(one.point)), names)}: {score(one, asked, searches)} times the baseline's steps"
            print(f"{text} ({reached})", flush=True)
        return found

    _, halved, left = two_passes.halved(asked, ask)
    finished = finish(left)
    if fixed:
        point = two_passes.ordered(finished, asked)[0].point
        finished += finish([{**point, "horizon": h} for h in HORIZONS if h != HORIZON])
        fixed = {"horizon": two_passes.ordered(finished, asked)[0].point["horizon"]}
    again: list[Values] = [{**point, **fixed} for point in halved]
    if len(moved) == 1:
        again.append(info.defaults)
    tried = [one.point for one in finished]
    finished += finish([point for point in again if point not in tried])
    two = [one.point for one in two_passes.ordered(finished, asked)[: two_passes.FINALISTS]]
    finalists = two_passes.ordered(finish(two, two_passes.STUDIES), asked)
    best = finalists[0]
    print(f"{name}: best is {shown((name, dict(best.point)), names)} at {score(best, asked, searches)}", flush=True)
    return (name, dict(best.point)), asked, [*finalists, *(one for one in finished if one.point not in two)]


def score(one: Finished, asked: Sequence[Asked], searches: Sequence[Search]) -> str:
    """Return the geometric mean over workloads of a point's steps over the baseline's, a miss as one to two budgets
    (`two_passes.budgets`): the lower median over the tuning seeds, and how many workloads that one missed.
    """
    pairs = []
    by_study = zip(zip(*one.steps(asked), strict=True), zip(*one.runs, strict=True), strict=True)
    for by_workload, runs in by_study:
        logs = [
            math.log(
                (steps or limit.budget_steps * two_passes.budgets(run, limit)) / search.info.target.steps_to_target
            )
            for steps, run, limit, search in zip(by_workload, runs, asked, searches, strict=True)
        ]
        pairs.append((by_workload.count(None), math.exp(statistics.fmean(logs))))
    missed, ratio = statistics.median_low(pairs)
    return f"{ratio:.3f}" + (f" ({missed} missed)" if missed else "")


def varied(name: str, moved: tuple[str, ...]) -> tuple[str, ...]:
    """Return the hyperparameters that a search changes: those it moves, and after two the length of the schedule."""
    space = submission.read_info(discovery.find("submissions", name)).space
    return (*moved, *(["horizon"] if len(moved) == 2 and "horizon" in space else []))


def page(
    name: str, suite: str, searches: list[Search], count: int, asked: Sequence[Asked], finished: list[Finished]
) -> str:
    """Return what a submission's README says of its tuning, in Markdown."""
    moved = searches[0].moved
    names = varied(name, moved)
    columns = [*names, *(f"{one.workload} (of {one.budget_steps})" for one in asked), "score"]
    rows = [columns, ["---"] * len(columns)]
    for one in finished:
        cells = [
            " / ".join(_cell(steps, run.values[-1]) for steps, run in zip(row, runs, strict=True))
            for row, runs in zip(one.steps(asked), one.runs, strict=True)
        ]
        rows.append([*(f"{one.point[n]:g}" for n in names), *cells, score(one, asked, searches)])
    runs = sum(len(search.runs) for search in searches)
    lengths = ", and schedule lengths" if "horizon" in names else ""
    options = f"--points {count}" if len(moved) == 2 else f"--points {count} --dimensions {len(moved)}"
    lines = [
        f"Suite `{suite}`: {count} points over {' and '.join(moved)}{lengths}; {runs} runs on tuning seeds.",
        "Of those that ran to the end, the steps to the target (of the budget; at a miss the final metric), for the",
        "best two on three seeds, and the geometric mean of steps over the baseline's, with a miss as its budget,",
        "up to twice that the further it ended from the target (lower is better; of several seeds the median):",
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"Records: `results/tuning/{suite}/`, made by `python scripts/tune.py {name} suite={suite} {options}`.",
    ]
    return "\n".join([BEGIN.format(suite), *lines, END])


def _cell(steps: int | None, final: float | None) -> str:
    return str(steps) if steps else f"missed, {'diverged' if final is None else format(final, '.4g')}"


def on_page(text: str, suite: str, section: str) -> str:
    """Return a README with a suite's section on tuning in its place; without one, it comes after the last of them."""
    head, begin, rest = text.partition(BEGIN.format(suite))
    if begin:
        return head + section + rest.partition(END)[2]
    head, end, rest = text.rpartition(END)
    if end:
        return f"{head}{end}\n\n{section}{rest}"
    return f"{text.rstrip()}\n\n## Tuning\n\n{section}\n"


def write_defaults(name: str, best: Point, moved: tuple[str, ...]) -> None:
    """Put what the search changed into the defaults of submission.yaml; every other byte stays."""
    path = discovery.find("submissions", name).path / "submission.yaml"
    head, defaults, rest = re.split(r"^(defaults:\n)", path.read_text(), maxsplit=1, flags=re.MULTILINE)
    names = varied(name, moved)
    for dimension in names:
        rest = re.sub(rf"^(  {dimension}: )[^ \n]+", rf"\g<1>{best[1][dimension]!r}", rest, count=1, flags=re.MULTILINE)
    path.write_text(head + defaults + rest)
    print(f"{path.relative_to(ROOT)}: {', '.join(f'{d}={best[1][d]}' for d in names)}", flush=True)


def cost(name: str, searches: list[Search], count: int) -> str:
    """Return a line on what the search of one submission takes at most."""
    seconds = 0.0
    lengths = len(HORIZONS) - 1 if "horizon" in varied(name, searches[0].moved) else 0
    more = lengths + -(-count // 2) + (len(searches[0].moved) == 1)  # what was halved last, and the defaults
    for search in searches:
        asked = two_passes.asked_of(search.info, name, [{}] * count)
        seconds += (two_passes.most_steps(asked) + more * asked.budget_steps) * search.info.target.reference_step_s
    recorded = sum(len(search.runs) for search in searches)
    where = ", ".join(search.info.name for search in searches)
    return f"{name}: {count} points on {where}: about {duration(seconds)}; {recorded} runs are recorded already"


if __name__ == "__main__":
    sys.exit(main())
