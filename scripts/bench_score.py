"""How long scoring takes: records held in memory, and AlgoPerf's logs where they are given.

    python scripts/bench_score.py [--records 10000] [--logs TAR --targets FILE]

The records are 50 measurements each, of 20 submissions on 10 workloads in 10 studies of several trials; one in twenty
misses its target, so that draws hold misses. Scored are all clocks that were measured, with 2,000 bootstrap draws on
each. scipy, which the first test of a process loads, has a line of its own. What scoring is to stay under: 0.5 s for
10,000 records on 2 cores.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.record.result import Result, Status
from harness.record.run_folder import Trial
from harness.record.spec import TrialSpec
from harness.report import score_files
from harness.scoring import algoperf, algoperf_targets, score

SUBMISSIONS, WORKLOADS, STUDIES, MEASUREMENTS = 20, 10, 10, 50
SPEC = TrialSpec(
    schema=1, workload="", workload_version=1, workload_hash="", metric="loss", mode="min", target=0.5, step_hint=600,
    batch_size=32, budget_steps=1000, reference_step_s=0.01, submission="", submission_hash="", hyperparameters={},
    rules="external", stop="target", clock="calibrated", score_compile=False, compile_cap_s=60.0, free_batch_size=True,
    study=0, trial=0, seed=0, tuning=False, device="cpu", deterministic=True,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--logs", type=Path, help="AlgoPerf's logs, a folder or a tar file")
    parser.add_argument("--targets", type=Path, help="their targets file")
    args = parser.parse_args()
    if (args.logs is None) != (args.targets is None):
        sys.exit("bench_score: --logs and --targets go together")

    timed("load scipy.special", lambda: importlib.import_module("scipy.special"))
    trials = records(args.records)
    found = timed(f"score {len(trials)} records of {MEASUREMENTS} measurements", lambda: score.score(trials))
    timed("write JSON and CSV", lambda: (json.dumps(score_files.as_json(found)), score_files.as_csv(found)))
    if args.logs:
        targets = algoperf_targets.read_targets(args.targets)
        logs = timed("read AlgoPerf's logs", lambda: algoperf.read_logs(args.logs, targets))
        timed(f"score the {len(logs.outcomes)} of them that count", lambda: score.score_logs(logs, targets))


def timed(what: str, call: Callable[[], Any]) -> Any:
    """Call, print how long it took, return what came."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = call()
    print(f"{time.perf_counter() - wall:6.2f} s, {time.process_time() - cpu:6.2f} s of processor  {what}", flush=True)
    return value


def records(number: int) -> list[Trial]:
    """Return `number` finished trials that lie in no folder."""
    random = np.random.default_rng(0)
    in_a_study = -(-number // (SUBMISSIONS * WORKLOADS * STUDIES))
    trials = []
    for i in range(number):
        rest, trial = divmod(i, in_a_study)
        rest, study = divmod(rest, STUDIES)
        submission, workload = divmod(rest, WORKLOADS)
        spec = replace(SPEC, submission=f"s{submission:02}", workload=f"w{workload:02}", study=study, trial=trial)
        events = curve(60.0 * (1.0 + 0.05 * submission) * random.lognormal(0.0, 0.1), missed=random.random() < 0.05)
        trials.append(
            Trial(
                Path("nowhere") / spec.folder,
                spec,
                Status.BUDGET_EXHAUSTED,
                "",
                events,
                Result(Status.BUDGET_EXHAUSTED, "", spec.id),
            )
        )
    return trials


def curve(seconds: float, *, missed: bool) -> list[dict[str, Any]]:
    """Return measurements of a loss that meets the target after about these seconds, at 80% of the curve."""
    events = []
    for i in range(1, MEASUREMENTS + 1):
        at = i / MEASUREMENTS
        clocks = {"wall": 2 * seconds * at, "cpu": 3 * seconds * at, "calibrated": seconds * at, "energy": None}
        met = not missed and at >= 0.8
        events.append(
            {"v": 1, "event": "measurement", "step": 20 * i, "examples": 640 * i, "scored": clocks, "met": met,
             "metrics": {"loss": 0.4 if met else 0.6}}
        )  # fmt: skip
    return events


if __name__ == "__main__":
    main()
