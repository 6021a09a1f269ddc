"""Set the validation targets of workloads from baseline runs, and record the runs.

    python scripts/set_targets.py lm_grammar resnet_digits mae_digits
    python scripts/set_targets.py lm_shakespeare --points 4 --seeds 5      a shorter search: provisional, version 0
    python scripts/set_targets.py lm_books --device gpu --baselines adamw --points 4 --seeds 5
    python scripts/set_targets.py lm_grammar --dry-run                     what is left to do, and what it costs
    python scripts/set_targets.py lm_grammar --restamp                     after a refactor that changed no bit

The protocol (harness/search/targets.py): AdamW, NadamW and momentum SGD, each at the same number of quasi-random
points over learning rate and weight decay, on a tuning seed; of each the worse half ends at 25% of the horizon, the
worse half of the rest at 50%; the best two of each by final metric run on two more tuning seeds, and the better of
them on fresh seeds. AdamW's set the target. A baseline
that misses it on a seed runs once more with a schedule of 1.5 step hints, which the budget allows. Then the
baseline's step is timed by itself. Writes results/targets/<workload>.jsonl (every run), and derived from it
workloads/<workload>/target.json and the table in the workload's README.

Runs go side by side, each on a core of its own where the platform can pin them, in processes that hold many runs
(harness/trial/sweep.py). The record is written after each, so that it can be stopped and started at any time; the
script does not repeat the runs in the record. The step time is best measured when nothing else runs; `--time-step`
measures it anew. `--restamp` (harness/search/restamp.py) runs none of this: it proves that a refactor changed no bit.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.campaign.device import resolve_device
from harness.errors import HarnessError, WorkloadError
from harness.machine import flags
from harness.machine.flags import Device
from harness.program import discovery, search_space, submission
from harness.program.submission import Dimension
from harness.record import plain_data
from harness.record.files import write_atomic
from harness.record.search_record import SearchRun
from harness.record.spec import DeviceConfig
from harness.report.progress import duration
from harness.search import restamp, sweeps, targets
from harness.search.recorded_search import Search, described, machine, shown
from harness.search.targets import Point, StepTime

ROOT = Path(__file__).resolve().parent.parent
DIMENSIONS = ("learning_rate", "weight_decay")
_ADAM = (Dimension(1e-3, 1e-1, "log"), Dimension(5e-3, 0.5, "log"))
_SGD = (Dimension(1e-2, 3.0, "log"), Dimension(1e-5, 1e-2, "log"))
BASELINES = dict(zip(targets.BASELINES, (_ADAM, _ADAM, _SGD), strict=True))
"""The ranges of each baseline's dimensions, wide on purpose."""
SEARCH_SEED = 0  # of the quasi-random points


def main() -> int:
    """Set the targets of the workloads named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="+")
    parser.add_argument("--points", type=int, default=targets.MIN_POINTS, help="of each baseline (default %(default)s)")
    parser.add_argument(
        "--seeds", type=int, default=targets.MIN_SEEDS, help="of the best point of each baseline (default %(default)s)"
    )
    parser.add_argument("--jobs", type=int, help="runs at a time (default: one a core or GPU)")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where to run (default %(default)s)")
    parser.add_argument(
        "--baselines",
        nargs="+",
        choices=BASELINES,
        default=list(BASELINES),
        help="fewer than all: provisional (default: all)",
    )
    parser.add_argument(
        "--restamp",
        action="store_true",
        help="prove that the sources train to the same bits as before, and give the records their hash",
    )
    parser.add_argument(
        "--against", metavar="REV", help="the commit before (default: the last that changed the record)"
    )
    parser.add_argument("--time-step", action="store_true", help="measure the baseline's step again")
    parser.add_argument("--dry-run", action="store_true", help="print what it would cost and stop")
    args = parser.parse_args()
    jobs = args.jobs or sweeps.places(args.device)
    code = 0
    for name in args.workloads:
        try:
            if not args.dry_run:
                resolve_device(DeviceConfig(args.device))
            folder = discovery.find("workloads", name)
            if args.restamp:
                restamp_records(folder, args.against)
                continue
            search = search_of(folder, jobs, args.device)
            points = search_points(args.points, args.baselines)
            print(cost(search, points, args.seeds), flush=True)
            if not args.dry_run:
                set_target(search, points, args.seeds, jobs, args.device, time_step=args.time_step)
        except HarnessError as error:  # of one workload; the others go on
            print(f"error: {error}", file=sys.stderr, flush=True)
            code = error.exit_code
        except KeyboardInterrupt:
            print("stopped; the same command goes on from here", file=sys.stderr)
            return 130
    return code


def restamp_records(folder: discovery.Folder, revision: str | None) -> None:
    """Give the records of a workload the hash of its sources as they are, once both are proved to be the same."""
    record = ROOT / "results/targets" / f"{folder.name}.jsonl"
    runs, _ = targets.read_record(record)
    if not runs:
        raise WorkloadError(f"{record}: no runs are recorded; nothing to stamp")
    if all(run.workload_hash == folder.source_hash for run in runs):
        print(f"{folder.name}: its record is of the sources as they are", flush=True)
        return
    if revision is None:
        log = ["git", "-C", str(ROOT), "log", "-1", "--format=%H", "--", str(record)]
        revision = subprocess.run(log, capture_output=True, text=True, check=True).stdout.strip()
    golden = json.loads((ROOT / "tests/golden/data/losses.json").read_text())[folder.name]
    proof = restamp.prove(folder, ROOT, revision, golden)
    if proof.old_hash not in {run.workload_hash for run in runs}:
        raise WorkloadError(
            f"{record}: its runs are of sources {runs[0].workload_hash}, {revision[:12]} has {proof.old_hash}; name "
            "the commit that they were run at with --against"
        )
    searches = sorted((ROOT / "results/tuning").glob(f"*/{folder.name}/*.jsonl"))
    changed = restamp.stamp([record, *searches], proof)
    print(
        f"{folder.name}: {proof.steps} losses and the final state {proof.final_hash[:16]} are the same in "
        f"{proof.commit[:12]} and here; {proof.old_hash} is {proof.new_hash} now in "
        f"{', '.join(str(path.relative_to(ROOT)) for path in changed)}",
        flush=True,
    )


def search_of(folder: discovery.Folder, jobs: int, device: Device) -> Search:
    """Return the search of one workload with what is in its record."""
    info = discovery.workload_info(folder)

    def on_run(run: SearchRun) -> None:
        print(f"  {described(run, info.metric, DIMENSIONS)}", flush=True)

    record = ROOT / "results/targets" / f"{folder.name}.jsonl"
    ends = {
        name: {k: (d.min, d.max) for k, d in zip(DIMENSIONS, space, strict=True)} for name, space in BASELINES.items()
    }
    search = Search(folder, info, record, DIMENSIONS, 1 if jobs > 1 else len(sweeps.cores()), on_run, device, ends)
    search.load()
    return search


def set_target(
    search: Search, points: Sequence[Point], seeds: int, jobs: int, device: Device, *, time_step: bool
) -> None:
    """Run what is missing for one workload, then write its record and its target."""
    info, horizon = search.info, search.info.step_hint
    names = list(dict.fromkeys(name for name, _ in points))
    left = list(points)
    with sweeps.started(search.folder, jobs, device=device) as pool:
        for rung in (*targets.RUNGS, 1.0):
            step = round(rung * horizon)
            runs = search.run_all(pool, [(point, 0) for point in left], tuning=True, until=step)
            if rung < 1:
                of = {name: [run for run in runs if run.submission == name] for name in names}
                left = [point for own in of.values() for point in targets.survivors(own, info.mode, step)]
                print(f"{info.name}: {len(left)} of {len(runs)} points go on past step {step}", flush=True)
        last = []
        for name in names:
            try:
                last += targets.finalists(search.runs, info.mode, horizon, name)
            except WorkloadError as error:  # only the reference must be there
                if name == targets.REFERENCE:
                    raise
                print(f"{info.name}: {error}", flush=True)
        search.run_all(
            pool, [(point, study) for point in last for study in targets.STUDIES], tuning=True, until=horizon
        )
        left_over = dict.fromkeys(name for name, _ in last)
        best = [targets.best_point(search.runs, info.mode, horizon, name) for name in left_over]
        for point in best:
            print(f"{info.name}: best is {shown(point, DIMENSIONS)}", flush=True)
        search.run_all(pool, [(point, study) for point in best for study in range(seeds)], tuning=False, until=horizon)
        value = targets.target_value(search.runs, info.mode, horizon)
        missed = [targets.longer(point) for point in best if targets.misses(search.runs, point, value, info.mode)]
        search.run_all(
            pool,
            [(point, study) for point in missed for study in range(seeds)],
            tuning=False,
            until=round(targets.LONGER * horizon),
        )
    if time_step or search.step_time is None:
        search.step_time = measure_step(search.folder, device)
    search.save()
    record = str(search.record.relative_to(ROOT))
    target = targets.derive_target(search.runs, search.step_time, info.mode, horizon, record)
    write_atomic(search.folder.path / "target.json", plain_data.to_plain(target))
    readme = search.folder.path / "README.md"
    section = targets.page(search.runs, target, info.mode, info.metric, horizon)
    readme.write_text(targets.on_page(readme.read_text(), section))
    scoring = targets.scoring_runs(search.runs, info.mode, horizon, targets.REFERENCE)
    margin = targets.margin_sd(scoring, target, info.mode, horizon)
    print(
        f"{info.name}: target {target.value}, version {target.version}, reached at step {target.steps_to_target} of "
        f"{horizon} (median of {target.seeds} seeds, all of which reach it, so at least "
        f"{targets.reach_bound(target.seeds):.0%} do, with 95% confidence); {margin:.2f} standard deviations of "
        f"{target.spread} easier than the mean final metric; {1e3 * target.reference_step_s:.2f} ms a step",
        flush=True,
    )


def measure_step(folder: discovery.Folder, device: Device) -> StepTime:
    """Time the baseline's step in a process of its own."""
    command = [sys.executable, "-m", "harness.trial.yardstick", str(folder.path), device]
    environment = os.environ | flags.environment(device, deterministic=False, autotune="update")
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    return StepTime(folder.name, folder.source_hash, answer["baseline_step_s"], answer["steps"], machine(device=device))


def search_points(count: int, baselines: Iterable[str] = BASELINES) -> list[Point]:
    """Return the points of the baselines, whose schedules are as long as the step hint."""
    found = []
    for name in baselines:
        info = submission.read_info(discovery.find("submissions", name))
        info = dataclasses.replace(info, space=dict(zip(DIMENSIONS, BASELINES[name], strict=True)))
        points = search_space.draw_points(info, DIMENSIONS, count, SEARCH_SEED)
        found += [(name, point | {"horizon": 1.0}) for point in points]
    return found


def cost(search: Search, points: Sequence[Point], seeds: int) -> str:
    """Return a line on what the search takes, with its length where the step was timed before."""
    info = search.info
    horizons = 0.0
    for tried in Counter(name for name, _ in points).values():
        left, before = tried, 0.0
        for rung in (*targets.RUNGS, 1.0):
            horizons += left * (rung - before)
            left, before = -(-left // 2), rung
        horizons += targets.FINALISTS * (len(targets.STUDIES) - 1) + seeds
    text = f"{info.name}: {len(points)} points, {seeds} seeds of each baseline, {horizons:.1f} horizons of "
    text += f"{info.step_hint} steps"
    step_s = search.step_time.baseline_step_s if search.step_time else info.target.reference_step_s
    if step_s:  # with all cores; side by side, each with one, they get as much done at least
        text += f", at most {duration(horizons * info.step_hint * step_s)} of this machine"
    return f"{text}; {len(search.runs)} runs are recorded already"


if __name__ == "__main__":
    sys.exit(main())
