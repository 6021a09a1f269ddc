"""Set the validation target of workloads from baseline runs, and record the runs.

    python scripts/set_targets.py lm_grammar resnet_digits
    python scripts/set_targets.py lm_grammar --learning-rates 0.001 0.003 0.01 0.03 --seeds 3

The short form: AdamW at each learning rate on a tuning seed, over the whole horizon; then the best by final metric on
fresh seeds. Writes results/targets/<workload>.jsonl (every run) and workloads/<workload>/target.json (derived from
it), version 0: provisional. Finished runs are kept under --out and not run again, so it can be stopped and started at
any time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from harness import config, discover, records, strict, submission
from harness.errors import HarnessError, WorkloadError
from harness.launch import local
from harness.plan import PlannedTrial, resolve_device, trial_spec
from harness.spec import Options, TrialSpec
from harness.targets import as_run, best_point, derive_target
from harness.workload import UNSET

ROOT = Path(__file__).resolve().parent.parent
VERSION = 0  # provisional: one baseline, one dimension, few seeds


def main() -> int:
    """Set the targets of the workloads named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="+")
    parser.add_argument("--learning-rates", nargs="+", type=float, default=[0.001, 0.003, 0.01, 0.03])
    parser.add_argument("--seeds", type=int, default=3, help="fresh seeds for the best learning rate (default 3)")
    parser.add_argument("--out", type=Path, default=Path("runs/targets"), help="run folders (default runs/targets)")
    args = parser.parse_args()
    try:
        for name in args.workloads:
            set_target(name, args.learning_rates, args.seeds, args.out)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def set_target(name: str, learning_rates: list[float], seeds: int, out: Path) -> None:
    """Run what is missing for one workload, then write its records and its target."""
    folder, baseline = discover.find("workloads", name), discover.find("submissions", "adamw")
    info = discover.workload_info(folder)
    mode, horizon = info.mode, info.step_hint
    points = [
        submission.choose_point(baseline, submission.read_info(baseline), {"learning_rate": x}) for x in learning_rates
    ]
    print(
        f"{name}: {len(points)} tuning runs and {seeds} scoring runs of {horizon} steps, "
        "about half a minute each on 2 cores"
    )

    trials = []
    for point in points:
        trials += list(run(folder, baseline, point, tuning=True, studies=1, out=out))
    best = best_point([as_run(t) for t in trials], mode, horizon)
    print(f"{name}: best learning rate {best['learning_rate']}")
    trials += list(run(folder, baseline, best, tuning=False, studies=seeds, out=out))

    runs = [as_run(trial) for trial in trials]
    record = Path("results/targets") / f"{name}.jsonl"
    (ROOT / record).parent.mkdir(parents=True, exist_ok=True)
    (ROOT / record).write_text("".join(json.dumps(strict.to_plain(r)) + "\n" for r in runs))
    target = derive_target(runs, mode, horizon, str(record), VERSION)
    records.write_atomic(folder.path / "target.json", strict.to_plain(target))
    print(f"{name}: target {target.value} at step {target.steps_to_target} of {horizon}, spread {target.spread}")


def run(
    folder: discover.Folder, baseline: discover.Folder, point: dict, *, tuning: bool, studies: int, out: Path
) -> Iterator[records.Trial]:
    """Yield the finished trials of one point, running those that are not there yet."""
    wanted = config.compose(["device=cpu", "rules.stop=horizon", f"out={out}"])
    info = dataclasses.replace(discover.workload_info(folder), target=UNSET)  # so that a set target changes no identity
    device = resolve_device(wanted.device)
    for study in range(studies):
        spec: TrialSpec = dataclasses.replace(
            trial_spec(wanted, info, folder, baseline, point, device=device, study=study, trial=0), tuning=tuning
        )
        path = out / spec.folder
        done = records.read_trial(path) if (path / "spec.json").exists() else None
        if done is None or done.status in records.UNFINISHED:
            options = Options(str(folder.path), str(baseline.path))
            status = done.status if done else records.Status.PLANNED
            done = local.run_trial(PlannedTrial(spec, options, out, path, status, False, None))
        if done.status in records.FAILED:
            raise WorkloadError(f"{path}: {done.status}: {done.reason}")
        role, last = "tuning" if tuning else "scoring", done.result.last if done.result else None
        print(
            f"  {role} learning_rate={point['learning_rate']} study={study}: {done.status}, final {info.metric} {last}",
            flush=True,
        )
        yield done


if __name__ == "__main__":
    sys.exit(main())
