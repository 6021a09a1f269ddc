"""Tune submissions by a small search that is the same for all, and record it.

    python scripts/tune.py muon suite=demo
    python scripts/tune.py muon suite=demo --write       put the best point into its submission.yaml
    python scripts/tune.py adamw nadamw suite=cpu --points 4 --dimensions 1
    python scripts/tune.py adamw suite=cpu --points 4 --dimensions 1 --table     only the table into its README

Each submission gets the same number of quasi-random points over the first two dimensions of its search space, the rest
at its defaults, on a tuning seed, which is never a scoring seed. All workloads of the suite share one setting: the
worse half of the points, by mean rank over the workloads, ends at 25% of the step hint, the worse half of the rest at
50%; what is left runs to the target or the end of the budget. A point's score is the geometric mean over workloads of
its steps to the target over the baseline's, where a miss counts as twice the budget; between points that miss alike the
better final metric decides. Within one submission steps rank as the ranking clock does: a step costs the same at every
point. The length of a schedule is not among the two, for at 25% and 50% the shorter one looks better whatever comes of
it: where the search space has a `horizon`, all points are drawn at one step hint, the best one runs to the target at
four other lengths, and at the best of these so do the points that the last halving ended, for a longer schedule wants
another learning rate. With one dimension the length stays at its default too, and the defaults run to the end beside
the points.

Writes results/tuning/<suite>/<workload>/<submission>.jsonl after each run, so that it can be stopped and started at any
time. Prints what it costs before it starts.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.campaign import config
from harness.errors import ConfigError, HarnessError
from harness.program import discovery, search_space, submission
from harness.record.spec import Mode
from harness.search import halving, sweeps
from harness.search.recorded_search import Search, described, shown
from harness.search.sweeps import Sweeps
from harness.search.targets import RUNGS, Point, TargetRun, at, first_step, set_target_command

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
        run = config.compose([word for word in args.words if "=" in word])
        names = [word for word in args.words if "=" not in word]
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
                best, finished = tune(name, searches, pools, args.points)
                if args.write:
                    write_defaults(name, best, searches[0].moved)
                if args.write or args.table:
                    readme = discovery.find("submissions", name).path / "README.md"
                    section = page(name, suite, searches, args.points, finished)
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

    def on_run(run: TargetRun) -> None:
        print(f"  {info.name}: {described(run, info.metric, moved)}", flush=True)

    record = ROOT / "results/tuning" / suite / info.name / f"{name}.jsonl"
    search = Search(folder, info, record, moved, 1 if jobs > 1 else len(sweeps.cores()), on_run)
    search.load()
    return search


@dataclass(frozen=True)
class Finished:
    """A point that ran to the target, or the end of the budget, on every workload.

    Attributes:
      steps: to the target on each workload, None for a miss.
      finals: the last measurement on each workload.
      score: the geometric mean of steps over the baseline's; lower is better.
    """

    point: Point
    steps: tuple[int | None, ...]
    finals: tuple[float | None, ...]
    score: float


def tune(name: str, searches: list[Search], pools: dict[str, Sweeps], count: int) -> tuple[Point, list[Finished]]:
    """Run what is missing of one submission's search; return the best point, and all that ran to the end."""
    info = submission.read_info(discovery.find("submissions", name))
    modes = [search.info.mode for search in searches]
    moved = searches[0].moved
    names = varied(name, moved)
    fixed = {"horizon": HORIZON} if "horizon" in names else {}
    drawn = search_space.draw_points(info, moved, count, SEARCH_SEED)
    left: list[Point] = [(name, point | fixed) for point in drawn]
    halved: list[Point] = []
    for rung in RUNGS:
        halved, columns = left, []
        for search, mode in zip(searches, modes, strict=True):
            step = round(rung * search.info.step_hint)
            runs = search.run_all(pools[search.info.name], [(point, 0) for point in left], tuning=True, until=step)
            columns.append(halving.ranks([at(run, step) for run in runs], mode))
        left = halving.better_half(left, columns)
    finished = finish(left, searches, pools)
    if fixed:
        _, point = best_of(finished, modes).point
        finished += finish([(name, point | {"horizon": h}) for h in HORIZONS if h != HORIZON], searches, pools)
        fixed = {"horizon": best_of(finished, modes).point[1]["horizon"]}
    tried = [f.point for f in finished]
    again: list[Point] = [(name, point | fixed) for _, point in halved]
    if len(moved) == 1:
        again.append((name, dict(info.defaults)))
    finished += finish([point for point in again if point not in tried], searches, pools)
    best = best_of(finished, modes)
    print(f"{name}: best is {shown(best.point, names)} at {best.score:.3f}", flush=True)
    return best.point, finished


def finish(points: list[Point], searches: list[Search], pools: dict[str, Sweeps]) -> list[Finished]:
    """Run points to the target, or the end of the budget, on every workload."""
    by_workload = []
    names = varied(points[0][0], searches[0].moved) if points else ()
    for search in searches:
        pool, until = pools[search.info.name], search.info.target.budget_steps
        target = search.info.target.value
        runs = search.run_all(pool, [(point, 0) for point in points], tuning=True, until=until, target=target)
        by_workload.append(runs)
    finished = []
    for point, runs in zip(points, zip(*by_workload, strict=True), strict=True):
        targets = [search.info.target for search in searches]
        steps = tuple(first_step(r, t.value, s.info.mode) for r, t, s in zip(runs, targets, searches, strict=True))
        score = halving.geometric_score(steps, [t.steps_to_target for t in targets], [t.budget_steps for t in targets])
        finished.append(Finished(point, steps, tuple(run.values[-1] for run in runs), score))
        reached = ", ".join(f"{s.info.name} {n or 'missed'}" for s, n in zip(searches, steps, strict=True))
        print(f"{shown(point, names)}: {score:.3f} times the baseline's steps ({reached})", flush=True)
    return finished


def best_of(finished: list[Finished], modes: list[Mode]) -> Finished:
    """Return the best point: by score, then by the mean rank of its final metrics, then the earlier."""
    finals = zip(*(f.finals for f in finished), strict=True)
    columns = [halving.ranks(values, mode) for values, mode in zip(finals, modes, strict=True)]
    return finished[halving.best([f.score for f in finished], columns)]


def varied(name: str, moved: tuple[str, ...]) -> tuple[str, ...]:
    """Return the hyperparameters that a search changes: those it moves, and after two the length of the schedule."""
    space = submission.read_info(discovery.find("submissions", name)).space
    return (*moved, *(["horizon"] if len(moved) == 2 and "horizon" in space else []))


def page(name: str, suite: str, searches: list[Search], count: int, finished: list[Finished]) -> str:
    """Return what a submission's README says of its tuning, in Markdown."""
    moved = searches[0].moved
    names = varied(name, moved)
    columns = [*names, *(f"{s.info.name} (of {s.info.target.budget_steps})" for s in searches), "score"]
    rows = [columns, ["---"] * len(columns)]
    for f in finished:
        cells = (
            str(n) if n else f"missed, {'diverged' if final is None else format(final, '.4g')}"
            for n, final in zip(f.steps, f.finals, strict=True)
        )
        rows.append([*(f"{f.point[1][n]:g}" for n in names), *cells, f"{f.score:.3f}"])
    runs = sum(len(search.runs) for search in searches)
    lengths = ", and schedule lengths" if "horizon" in names else ""
    options = f"--points {count}" if len(moved) == 2 else f"--points {count} --dimensions {len(moved)}"
    lines = [
        f"Suite `{suite}`: {count} points over {' and '.join(moved)}{lengths}; {runs} runs on tuning seeds.",
        "Of those that ran to the end, the steps to the target (of the budget; at a miss the final metric), and the",
        "geometric mean of steps over the baseline's, with a miss as twice the budget (lower is better):",
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"Records: `results/tuning/{suite}/`, made by `python scripts/tune.py {name} suite={suite} {options}`.",
    ]
    return "\n".join([BEGIN.format(suite), *lines, END])


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
    for search in searches:
        hint, target = search.info.step_hint, search.info.target
        left, before, steps = count, 0.0, 0.0
        for rung in RUNGS:
            steps += left * (rung - before) * hint
            left, before = -(-left // 2), rung
        lengths = len(HORIZONS) - 1 if "horizon" in varied(name, search.moved) else 0
        more = lengths + left + (len(search.moved) == 1)  # what the last halving ended, and the defaults
        seconds += (steps + left * (target.budget_steps - before * hint)) * target.reference_step_s
        seconds += more * target.budget_steps * target.reference_step_s
    recorded = sum(len(search.runs) for search in searches)
    where = ", ".join(search.info.name for search in searches)
    return f"{name}: {count} points on {where}: about {seconds / 60:.0f} minutes; {recorded} runs are recorded already"


if __name__ == "__main__":
    sys.exit(main())
