"""Set the validation targets of workloads from baseline runs, and record the runs.

    python scripts/set_targets.py lm_grammar resnet_digits mae_digits
    python scripts/set_targets.py lm_shakespeare --points 4 --seeds 5      a shorter search: provisional, version 0
    python scripts/set_targets.py lm_grammar --dry-run                     what is left to do, and what it costs

The protocol (harness/targets.py): AdamW, NadamW and momentum SGD, each at the same number of quasi-random points over
learning rate and weight decay, on a tuning seed; the worse half of all ends at 25% of the horizon, the worse half of
the rest at 50%; the best by final metric runs on fresh seeds. Then the baseline's step is timed by itself. Writes
results/targets/<workload>.jsonl (every run), and derived from it workloads/<workload>/target.json and the table in the
workload's README.

Runs go side by side, each on a core of its own where the platform can pin them, in processes that hold many runs
(harness/sweep.py). The record is written after each, so that it can be stopped and started at any time: what is in the
record is not run again. The step time is best measured when nothing else runs; `--time-step` measures it anew.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import discover, hardware, records, strict, submission, targets, tuning
from harness.errors import HarnessError
from harness.launch import sweeps
from harness.launch.sweeps import Answer, Request, Sweeps
from harness.targets import Point, StepTime, TargetRun
from harness.workload import WorkloadInfo

ROOT = Path(__file__).resolve().parent.parent
BASELINES = ("adamw", "nadamw", "sgd_momentum")
DIMENSIONS = ("learning_rate", "weight_decay")
SEARCH_SEED = 0  # of the quasi-random points


@dataclass
class Campaign:
    """What is recorded of one workload, and the way to what is not."""

    folder: discover.Folder
    info: WorkloadInfo
    jobs: int
    runs: list[TargetRun] = field(default_factory=list)
    step_time: StepTime | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def record(self) -> Path:
        """The record file, relative to the repository."""
        return Path("results/targets") / f"{self.folder.name}.jsonl"

    def load(self) -> None:
        """Take up the record where it is of this workload as it is now."""
        runs, step_time = targets.read_record(ROOT / self.record)
        now = self.folder.source_hash
        self.runs = [run for run in runs if run.workload_hash == now]
        self.step_time = step_time if step_time and step_time.workload_hash == now else None

    def save(self) -> None:
        """Write the record."""
        path = ROOT / self.record
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(targets.record_lines(self.runs, self.step_time))
        new.replace(path)

    def run_all(
        self, pool: Sweeps, points: Sequence[tuple[Point, int]], *, tuning: bool, until: int
    ) -> list[TargetRun]:
        """Return the runs of (point, study) pairs as far as step `until`, running what is missing."""
        wanted = [
            Request(name, hyperparameters, DIMENSIONS, seed=0, study=study, tuning=tuning, until=until)
            for (name, hyperparameters), study in points
        ]
        missing = [request for request in wanted if self._recorded(request) is None]
        pool.run(missing, self._enter)
        return [run for request in wanted if (run := self._recorded(request)) is not None]

    def _recorded(self, request: Request) -> TargetRun | None:
        role = "tuning" if request.tuning else "scoring"
        point = request.submission, request.hyperparameters
        for run in self.runs:
            if (run.role, run.study, run.point) == (role, request.study, point):
                return run if run.status == "diverged" or run.steps[-1] >= request.until else None
        return None

    def _enter(self, request: Request, answer: Answer) -> None:
        run = TargetRun(
            workload=self.folder.name,
            workload_hash=self.folder.source_hash,
            submission=request.submission,
            submission_hash=discover.find("submissions", request.submission).source_hash,
            role="tuning" if request.tuning else "scoring",
            hyperparameters=request.hyperparameters,
            seed=request.seed,
            study=request.study,
            status=answer.status,
            steps=answer.steps,
            values=answer.values,
            seconds=answer.seconds,
            machine=machine(1 if self.jobs > 1 else None),
        )
        same = (run.role, run.study, run.point)
        with self.lock:
            self.runs = [old for old in self.runs if (old.role, old.study, old.point) != same] + [run]
            self.save()
            value = "diverged" if run.values[-1] is None else f"{self.info.metric} {run.values[-1]:.4f}"
            print(f"  {run.role} {shown(run.point)} study={run.study}: {value} at step {run.steps[-1]}", flush=True)


def main() -> int:
    """Set the targets of the workloads named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="+")
    parser.add_argument("--points", type=int, default=targets.MIN_POINTS, help="of each baseline (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=targets.MIN_SEEDS, help="of the best point (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=len(sweeps.cores()), help="runs at a time (default: one a core)")
    parser.add_argument("--time-step", action="store_true", help="measure the baseline's step again")
    parser.add_argument("--dry-run", action="store_true", help="print what it would cost and stop")
    args = parser.parse_args()
    code = 0
    for name in args.workloads:
        try:
            folder = discover.find("workloads", name)
            campaign = Campaign(folder, discover.workload_info(folder), args.jobs)
            campaign.load()
            print(cost(campaign, args.points, args.seeds), flush=True)
            if not args.dry_run:
                set_target(campaign, args.points, args.seeds, time_step=args.time_step)
        except HarnessError as error:  # of one workload; the others go on
            print(f"error: {error}", file=sys.stderr, flush=True)
            code = error.exit_code
        except KeyboardInterrupt:
            print("stopped; the same command goes on from here", file=sys.stderr)
            return 130
    return code


def set_target(campaign: Campaign, points: int, seeds: int, *, time_step: bool) -> None:
    """Run what is missing for one workload, then write its record and its target."""
    info, horizon = campaign.info, campaign.info.step_hint
    left = search_points(points)
    with sweeps.started(campaign.folder, campaign.jobs) as pool:
        for rung in (*targets.RUNGS, 1.0):
            step = round(rung * horizon)
            runs = campaign.run_all(pool, [(point, 0) for point in left], tuning=True, until=step)
            if rung < 1:
                left = targets.survivors(runs, info.mode, step)
                print(f"{info.name}: {len(left)} of {len(runs)} points go on past step {step}", flush=True)
        best = targets.best_point(campaign.runs, info.mode, horizon)
        print(f"{info.name}: best is {shown(best)}", flush=True)
        campaign.run_all(pool, [(best, study) for study in range(seeds)], tuning=False, until=horizon)
    if time_step or campaign.step_time is None:
        campaign.step_time = measure_step(campaign.folder)
    campaign.save()
    target = targets.derive_target(campaign.runs, campaign.step_time, info.mode, horizon, str(campaign.record))
    records.write_atomic(campaign.folder.path / "target.json", strict.to_plain(target))
    readme = campaign.folder.path / "README.md"
    section = targets.page(campaign.runs, target, info.mode, info.metric, horizon)
    readme.write_text(targets.on_page(readme.read_text(), section))
    margin = targets.margin_sd(campaign.runs, target, info.mode, horizon)
    print(
        f"{info.name}: target {target.value}, version {target.version}, reached at step {target.steps_to_target} of "
        f"{horizon} (median of {target.seeds} seeds, all of which reach it, so at least "
        f"{targets.reach_bound(target.seeds):.0%} do, with 95% confidence); {margin:.2f} standard deviations of "
        f"{target.spread} easier than the mean final metric; {1e3 * target.reference_step_s:.2f} ms a step",
        flush=True,
    )


def measure_step(folder: discover.Folder) -> StepTime:
    """Time the baseline's step in a process of its own."""
    command = [sys.executable, "-m", "harness.calibration", str(folder.path), "cpu"]
    done = subprocess.run(
        command, env=os.environ | {"JAX_PLATFORMS": "cpu"}, check=True, capture_output=True, text=True
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    return StepTime(folder.name, folder.source_hash, answer["baseline_step_s"], answer["steps"], machine(None))


def search_points(count: int) -> list[Point]:
    """Return the points of all baselines."""
    found = []
    for name in BASELINES:
        info = submission.read_info(discover.find("submissions", name))
        found += [(name, point) for point in tuning.draw_points(info, DIMENSIONS, count, SEARCH_SEED)]
    return found


def cost(campaign: Campaign, points: int, seeds: int) -> str:
    """Return a line on what the search takes, with the minutes where the step was timed before."""
    info, tried = campaign.info, points * len(BASELINES)
    horizons, left, before = 0.0, tried, 0.0
    for rung in (*targets.RUNGS, 1.0):
        horizons += left * (rung - before)
        left, before = -(-left // 2), rung
    horizons += seeds
    text = f"{info.name}: {tried} points and {seeds} seeds, {horizons:.1f} horizons of {info.step_hint} steps"
    step_s = campaign.step_time.baseline_step_s if campaign.step_time else info.target.reference_step_s
    if step_s:  # with all cores; side by side, each with one, they get as much done at least
        text += f", at most {horizons * info.step_hint * step_s / 60:.0f} minutes of this machine"
    return f"{text}; {len(campaign.runs)} runs are recorded already"


def shown(point: Point) -> str:
    """Return a point for people."""
    return " ".join([point[0], *(f"{name}={point[1][name]:g}" for name in DIMENSIONS)])


def machine(cores: int | None) -> str:
    """Return what a run ran on, in a line."""
    here, versions = hardware.machine(), hardware.packages()
    return f"{here['cpu']}, {cores or here['cores']} core(s), Python {here['python']}, jax {versions['jax']}"


if __name__ == "__main__":
    sys.exit(main())
