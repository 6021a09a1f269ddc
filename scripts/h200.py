"""Everything for one H200, about an hour of it, in pieces of at most ten minutes; typed again, it goes on.

    python scripts/h200.py --dry-run         what is left, and its estimated minutes of the card
    python scripts/h200.py                   one piece: works for 9 minutes, stops, and says what is left
    python scripts/h200.py adamw mine        the quick runs of these submissions only
    python scripts/h200.py --archive         gathers the records into results/h200/records.tar.gz, as each piece does

In this order: the bench (scripts/bench_gpu.py); targets from AdamW alone at 4 points, then 5 seeds, a workload at a
time (scripts/set_targets.py; provisional, since the protocol asks for more); `rules=quick` for every submission, or
those named. All of it is resumable from its records and needs the prepared data sets, no network and no Hydra.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.campaign import plan, plan_file
from harness.campaign.device import resolve_device
from harness.campaign.plan import PlannedTrial
from harness.errors import ConfigError, HarnessError
from harness.program import discovery
from harness.record.spec import DeviceConfig, Rules, RunSpec, Suite
from harness.search import targets

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "results/h200"
RUNS = ROOT / "runs/h200"
WORKLOADS = ("lm_books", "resnet18_cifar10", "mae_small_cifar10")
STEP_S = {"lm_books": 0.035, "resnet18_cifar10": 0.0072, "mae_small_cifar10": 0.0103}
"""Estimates until the card is measured: model FLOPs at 45%, 30% and 35% of 790 TFLOP/s."""
START_S = 60.0  # of a trial or search: starting, compiling, calibrating, evaluating
BENCH_MIN = 8.0
POINTS, SEEDS = 4, 5
GRACE_S = 30.0  # to save and stop


@dataclass(frozen=True)
class Stage:
    """A part of the work: what is left of it in minutes of the card (0: done), and the command that goes on with it."""

    name: str
    minutes: float
    command: list[str]


def stages(torch_python: str, submissions: list[str]) -> Iterator[Stage]:
    """Yield what there is to do, in order, as the records stand. With no `submissions` all that are found run."""
    python, scripts = sys.executable, ROOT / "scripts"
    rows = len((OUT / "bench.jsonl").read_text().splitlines()) if (OUT / "bench.jsonl").exists() else 0
    bench = [python, str(scripts / "bench_gpu.py"), "--out", str(OUT), "--torch-python", torch_python]
    yield Stage("bench", BENCH_MIN * max(0, 18 - rows) / 18, bench)
    for name in WORKLOADS:
        yield Stage(f"target of {name}", target_minutes(name), [
            python, str(scripts / "set_targets.py"), name, "--device", "gpu", "--baselines", "adamw",
            "--points", str(POINTS), "--seeds", str(SEEDS),
        ])  # fmt: skip
    for name in WORKLOADS:
        info = discovery.workload_info(discovery.find("workloads", name))
        left = None if info.target.value is None else [trial for trial in quick(name, submissions) if trial.runnable]
        count = len(submissions or discovery.find_all("submissions")) if left is None else len(left)
        steps = info.target.budget_steps * 0.75 or info.step_hint
        minutes = count * (steps * (info.target.reference_step_s or STEP_S[name]) + START_S) / 60
        file = RUNS / f"{name}.json"
        yield Stage(f"quick on {name}", minutes, [
            python, "-m", "harness.campaign", str(file), "--out", str(RUNS)
        ])  # fmt: skip


def target_minutes(name: str) -> float:
    """Return the minutes left of the search and the seeds of one workload."""
    folder = discovery.find("workloads", name)
    info = discovery.workload_info(folder)
    if info.target.value is not None:
        return 0.0
    horizons, left, before = float(SEEDS), POINTS, 0.0
    for rung in (*targets.RUNGS, 1.0):
        horizons += left * (rung - before)
        left, before = -(-left // 2), rung
    runs, _ = targets.read_record(ROOT / "results/targets" / f"{name}.jsonl")
    done = sum(run.steps[-1] for run in runs if run.workload_hash == folder.source_hash) / info.step_hint
    return (max(0.0, horizons - done) * info.step_hint * STEP_S[name] + START_S) / 60


def quick(name: str, submissions: list[str]) -> tuple[PlannedTrial, ...]:
    """Return the trials of the submissions on one workload by the rules of configs/rules/quick.yaml."""
    run = RunSpec(Suite("gpu", (name,)), Rules("quick"), DeviceConfig("gpu", deterministic=False), out=str(RUNS))
    return plan.make_plan(run, submissions, elsewhere=True).trials


def work(stage: Stage, submissions: list[str], deadline: float) -> int:
    """Go on with one stage until it is done or the time is up; return its exit code, 130 where time was up."""
    if stage.name.startswith("quick on "):
        name = stage.name.removeprefix("quick on ")
        RUNS.mkdir(parents=True, exist_ok=True)
        try:
            plan_file.write(RUNS / f"{name}.json", quick(name, submissions))
        except HarnessError as error:  # no target was set
            print(f"{stage.name}: {error}", flush=True)
            return error.exit_code
    print(f"== {stage.name}: {' '.join(stage.command)}", flush=True)
    process = subprocess.Popen(stage.command, cwd=ROOT)
    try:
        return process.wait(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_S)
        return 130
    finally:
        process.kill()


def archive() -> Path:
    """Gather what was recorded: the bench, the runs behind the targets, the targets, and the run folders' records.

    Raises ConfigError where nothing was.
    """
    made = [OUT / "bench.jsonl", *(ROOT / "results/targets" / f"{name}.jsonl" for name in WORKLOADS)]
    made += [file for file in sorted(RUNS.rglob("*.json*")) if "checkpoints" not in file.parts]
    made = [file for file in made if file.exists()]
    if not made:
        raise ConfigError(
            f"nothing is recorded yet in {OUT}, results/targets or {RUNS}; python scripts/h200.py records"
        )
    for name in WORKLOADS:
        made += [file for file in (ROOT / "workloads" / name).iterdir() if file.name in ("target.json", "README.md")]
    path = OUT / "records.tar.gz"
    OUT.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for file in made:
            tar.add(file, file.relative_to(ROOT))
    return path


def show(torch_python: str, submissions: list[str]) -> None:
    """Print what is left and what it takes."""
    total = 0.0
    for stage in stages(torch_python, submissions):
        total += stage.minutes
        print(f"{stage.name:30s} {'done' if not stage.minutes else f'{stage.minutes:5.1f} min'}")
    print(f"{'in all':30s} {total:5.1f} min of the card, estimated")


def main() -> int:
    """Work for the minutes that are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submissions", nargs="*", help="of the quick runs (default: all that are found)")
    parser.add_argument("--minutes", type=float, default=9.0, help="of this piece (default %(default)s)")
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter that has torch (default: this one)")
    parser.add_argument("--dry-run", action="store_true", help="print what is left and its estimated minutes, and stop")
    parser.add_argument("--archive", action="store_true", help="gather the records, and stop")
    args = parser.parse_args()
    plan.submission_folders(args.submissions)  # an unknown name ends it here
    if args.dry_run:
        show(args.torch_python, args.submissions)
        return 0
    if args.archive:
        print(archive())
        return 0
    resolve_device(DeviceConfig("gpu"))
    deadline = time.monotonic() + 60 * args.minutes - GRACE_S
    tried: set[str] = set()
    while time.monotonic() < deadline:
        every = stages(args.torch_python, args.submissions)
        left = [stage for stage in every if stage.minutes and stage.name not in tried]
        if not left:
            break
        tried.add(left[0].name)
        code = work(left[0], args.submissions, deadline)
        if code not in (0, 130):
            print(f"== {left[0].name} ended with exit code {code}; the others go on", flush=True)
    show(args.torch_python, args.submissions)
    print(archive())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
