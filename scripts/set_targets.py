"""Set the validation targets of workloads from baseline runs, and record the runs.

    python scripts/set_targets.py lm_grammar resnet_digits mae_digits
    python scripts/set_targets.py lm_shakespeare --points 4 --seeds 5      a shorter search: provisional, version 0
    python scripts/set_targets.py lm_grammar --dry-run                     what is left to do, and what it costs

The protocol (harness/targets.py): AdamW, NadamW and momentum SGD, each at the same number of quasi-random points over
learning rate and weight decay, on a tuning seed; the worse half of all ends at 25% of the horizon, the worse half of
the rest at 50%; the best by final metric runs on fresh seeds. Then the baseline's step is timed by itself. Writes
results/targets/<workload>.jsonl (every run) and workloads/<workload>/target.json (derived from it).

Trials run side by side, each on a core of its own where the platform can pin them. The record is written after each,
so that it can be stopped and started at any time: what is in the record is not run again. The step time is best
measured when nothing else runs; `--time-step` measures it anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from harness import config, discover, hardware, records, strict, submission, targets, tuning
from harness.errors import HarnessError, WorkloadError
from harness.launch import local
from harness.plan import PlannedTrial, resolve_device, trial_spec
from harness.records import Status
from harness.spec import Options, RunSpec
from harness.targets import Point, StepTime, TargetRun
from harness.workload import UNSET, WorkloadInfo

ROOT = Path(__file__).resolve().parent.parent
BASELINES = ("adamw", "nadamw", "sgd_momentum")
DIMENSIONS = ("learning_rate", "weight_decay")
SEARCH_SEED = 0  # of the quasi-random points
LAUNCH_S = 10.0  # of a trial on one core: starting, compiling, calibrating


@dataclass
class Campaign:
    """The runs of one workload: what is recorded, and how to run what is not.

    Attributes:
      wanted: what every trial is run with; its `out` holds the checkpoints of trials that were paused.
      cores: those that no trial is on.
      runs, step_time: the content of the record.
    """

    folder: discover.Folder
    info: WorkloadInfo
    wanted: RunSpec
    cores: SimpleQueue[int | None]
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
        hashes = {name: discover.find("submissions", name).source_hash for name in BASELINES}
        now = self.folder.source_hash
        self.runs = [r for r in runs if (r.workload_hash, r.submission_hash) == (now, hashes.get(r.submission))]
        self.step_time = step_time if step_time and step_time.workload_hash == now else None

    def save(self) -> None:
        """Write the record."""
        path = ROOT / self.record
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(targets.record_lines(self.runs, self.step_time))
        new.replace(path)

    def recorded(self, point: Point, *, tuning: bool, study: int) -> TargetRun | None:
        """Return the run of a point that is in the record."""
        role = "tuning" if tuning else "scoring"
        found = [r for r in self.runs if (r.role, r.study, r.point) == (role, study, point)]
        return found[-1] if found else None

    def run_all(self, points: Sequence[tuple[Point, int]], *, tuning: bool, until: int) -> list[TargetRun]:
        """Return the runs of (point, study) pairs as far as step `until`, running what is missing."""
        pool = ThreadPoolExecutor(self.jobs)
        try:
            return list(pool.map(lambda p: self.run(p[0], tuning=tuning, study=p[1], until=until), points))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # so that Ctrl-C need not wait for the trials

    def run(self, point: Point, *, tuning: bool, study: int, until: int) -> TargetRun:
        """Return the run of one point as far as step `until`."""
        done = self.recorded(point, tuning=tuning, study=study)
        if done and (done.status != "halved" or (done.steps and done.steps[-1] >= until)):
            return done
        name, hyperparameters = point
        baseline = discover.find("submissions", name)
        unset = dataclasses.replace(self.info, target=UNSET)  # so that a set target changes no identity
        device = resolve_device(self.wanted.device)
        spec = trial_spec(
            self.wanted, unset, self.folder, baseline, hyperparameters, device=device, study=study, trial=0
        )
        spec = dataclasses.replace(spec, tuning=tuning)
        out = Path(self.wanted.out)
        path = out / spec.folder
        options = Options(str(self.folder.path), str(baseline.path), pause_at_step=until)
        core = self.cores.get()
        try:
            if core is not None:
                os.sched_setaffinity(0, {core})  # of this thread alone; the trial it starts inherits it
            trial = records.read_trial(path) if (path / "spec.json").exists() else None
            if trial is None or trial.status in records.UNFINISHED:
                trial = local.run_trial(PlannedTrial(spec, options, out, path, Status.PLANNED, False, None))
        finally:
            self.cores.put(core)
        if trial.status in records.FAILED:
            raise WorkloadError(f"{path}: {trial.status}: {trial.reason}")
        run = targets.as_run(trial, machine(None if core is None else 1))
        with self.lock:
            self.runs = [r for r in self.runs if r is not done] + [run]
            self.save()
        shown = ", ".join(f"{dim}={hyperparameters[dim]:g}" for dim in DIMENSIONS)
        last = dict(zip(run.steps, run.values, strict=True)).get(until)
        print(f"  {run.role} {name} {shown} study={study}: {self.info.metric} {last} at step {until}", flush=True)
        return run


def main() -> int:
    """Set the targets of the workloads named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="+")
    parser.add_argument("--points", type=int, default=targets.MIN_POINTS, help="of each baseline (default %(default)s)")
    parser.add_argument(
        "--seeds", type=int, default=targets.MIN_SEEDS, help="fresh seeds of the best point (default %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/targets"), help="run folders (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=len(cores()), help="trials at a time (default: one a core)")
    parser.add_argument("--time-step", action="store_true", help="measure the baseline's step again")
    parser.add_argument("--dry-run", action="store_true", help="print what it would cost and stop")
    args = parser.parse_args()
    queue: SimpleQueue[int | None] = SimpleQueue()
    available = cores()
    for job in range(args.jobs):
        queue.put(available[job] if args.jobs > 1 and args.jobs <= len(available) else None)
    try:
        wanted = config.compose(["device=cpu", "rules.stop=horizon", f"out={args.out}"])
        for name in args.workloads:
            folder = discover.find("workloads", name)
            campaign = Campaign(folder, discover.workload_info(folder), wanted, queue, args.jobs)
            campaign.load()
            print(cost(campaign, args.points, args.seeds), flush=True)
            if not args.dry_run:
                set_target(campaign, args.points, args.seeds, time_step=args.time_step)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr, flush=True)
        os._exit(130)  # the trials end with this process; each has a checkpoint of at most 30 s ago
    return 0


def set_target(campaign: Campaign, points: int, seeds: int, *, time_step: bool) -> None:
    """Run what is missing for one workload, then write its record and its target."""
    info, horizon = campaign.info, campaign.info.step_hint
    left = search_points(points)
    for rung in (*targets.RUNGS, 1.0):
        step = rung_step(info, rung)
        runs = campaign.run_all([(point, 0) for point in left], tuning=True, until=step)
        if rung < 1:
            left = targets.survivors(runs, info.mode, step)
            print(f"{info.name}: {len(left)} of {len(runs)} points go on past step {step}", flush=True)
    best = targets.best_point(campaign.runs, info.mode, horizon)
    print(f"{info.name}: best is {best[0]} with {', '.join(f'{d}={best[1][d]:g}' for d in DIMENSIONS)}", flush=True)
    campaign.run_all([(best, study) for study in range(seeds)], tuning=False, until=horizon)
    if time_step or campaign.step_time is None:
        campaign.step_time = measure_step(campaign.folder)
    campaign.save()
    target = targets.derive_target(campaign.runs, campaign.step_time, info.mode, horizon, str(campaign.record))
    records.write_atomic(campaign.folder.path / "target.json", strict.to_plain(target))
    margin = targets.margin_sd(campaign.runs, target, info.mode, horizon)
    print(
        f"{info.name}: target {target.value}, version {target.version}, reached at step {target.steps_to_target} of "
        f"{horizon} (median of {target.seeds} seeds, all of which reach it, so at "
        f"least {targets.reach_bound(target.seeds):.0%} do, with 95% confidence); {margin:.2f} standard deviations of "
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


def rung_step(info: WorkloadInfo, rung: float) -> int:
    """Return the step of a rung, which is on the measurement grid."""
    return round(rung * info.step_hint)


def cost(campaign: Campaign, points: int, seeds: int) -> str:
    """Return a line on what the search takes: trials, horizons, and minutes where the step was timed before."""
    tried = points * len(BASELINES)
    starts, horizons, previous, rung_before = 0, 0.0, tried, 0.0
    for rung in (*targets.RUNGS, 1.0):
        starts += previous
        horizons += previous * (rung - rung_before)
        previous, rung_before = -(-previous // 2), rung
    starts, horizons = starts + seeds, horizons + seeds
    info = campaign.info
    text = f"{info.name}: {tried} points and {seeds} seeds: {starts} starts, {horizons:.1f} horizons"
    text += f" of {info.step_hint} steps"
    step_s = campaign.step_time.baseline_step_s if campaign.step_time else info.target.reference_step_s
    if step_s:
        # Alone a step has all cores, side by side one each: as good as the same throughput.
        minutes = (horizons * info.step_hint * step_s + starts * LAUNCH_S / campaign.jobs) / 60
        text += f", about {minutes:.0f} minutes in all"
    return f"{text}; {len(campaign.runs)} runs are recorded already"


def machine(cores_used: int | None) -> str:
    """Return what a run ran on, in a line."""
    here, versions = hardware.machine(), hardware.packages()
    return f"{here['cpu']}, {cores_used or here['cores']} core(s), Python {here['python']}, jax {versions['jax']}"


def cores() -> list[int]:
    """Return the numbers of the cores that this process may use; just one where it cannot be told."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


if __name__ == "__main__":
    sys.exit(main())
