"""How long `harness report` takes, and how large its page is.

    python scripts/bench_report.py [--trials 500] [--keep DIR]

The trials are run folders of 60 measurements each, written as trials write them: of 10 submissions on 5 workloads in 10
studies, one in twenty of which misses its target. What it is to stay under: 10 s and 5 MB for 500 trials on 2 cores.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.cli import main as cli
from harness.record import run_folder
from harness.record.readings import Calibration, Reading, Scored
from harness.record.result import Measurement, Result, Status
from harness.record.spec import Options, TrialSpec

SUBMISSIONS, WORKLOADS, MEASUREMENTS = 10, 5, 60
SPEC = TrialSpec(
    schema=1, workload="", workload_version=1, workload_hash="", metric="loss", mode="min", target=0.5, step_hint=600,
    batch_size=32, budget_steps=1200, reference_step_s=0.01, submission="", submission_hash="s", hyperparameters={},
    rules="quick", stop="target", clock="calibrated", score_compile=False, compile_cap_s=60.0, free_batch_size=True,
    study=0, trial=0, seed=4711, tuning=False, device="cpu", deterministic=True, studies=10, trials=1,
    workload_program="w", program="p",
)  # fmt: skip
MACHINE = {"cpu": "Some CPU", "cores": 2, "device": "cpu", "packages": {"jax": "0.10.2", "jaxlib": "0.10.2"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave run folders and page there, for a look at it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = args.keep or Path(scratch)
        write_runs(place / "runs", args.trials)
        page = place / "report.html"
        wall, cpu = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            code = cli.main(["report", str(place / "runs"), "-o", str(page)])
        took, of = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{took:.2f} s, {of:.2f} s of processor, {page.stat().st_size / 1e6:.2f} MB: {args.trials} trials")
        sys.exit(code)


def write_runs(root: Path, trials: int) -> None:
    """Write finished run folders below `root`, their studies as many as it takes."""
    random = np.random.default_rng(0)
    for number in range(trials):
        study, place = divmod(number, SUBMISSIONS * WORKLOADS)
        submission, workload = divmod(place, WORKLOADS)
        spec = replace(
            SPEC,
            submission=f"submission_{submission}",
            workload=f"workload_{workload}",
            study=study,
            hyperparameters={"learning_rate": 0.01 * (1 + submission), "weight_decay": 0.01},
            program=f"p{submission}{workload}",
            workload_program=f"w{workload}",
        )
        pace = (1.0 + 0.12 * submission) * float(random.lognormal(0.0, 0.08))
        write_run(root, spec, 40.0 * (1 + workload) * pace, missed=bool(random.random() < 0.05))


def write_run(root: Path, spec: TrialSpec, seconds: float, *, missed: bool) -> None:
    """Write one run folder: a loss that falls to the target within `seconds`, or stays above it."""
    path = run_folder.prepare(root, spec, Options("w", "s"))
    random = np.random.default_rng(spec.study)
    with run_folder.hold(path) as folder:
        folder.append("attempt", attempt=1, resume_step=0)
        for n in range(1, MEASUREMENTS + 1):
            loss = 0.5 + 2.0 * (1.0 - n / MEASUREMENTS) ** 2 + 0.01 * float(random.random()) * (n < MEASUREMENTS)
            loss += 0.05 if missed else 0.0
            step, at = 20 * n, seconds * n / MEASUREMENTS
            scored = Scored(1.1 * at, 1.9 * at, at, None)
            last = Measurement(step, 32 * step, {"loss": loss}, scored, n == MEASUREMENTS and not missed)
            folder.append("measurement", t=at, **vars(last))
        status = Status.BUDGET_EXHAUSTED if missed else Status.TARGET_REACHED
        ledger = {"setup": 1.5, "compile": 2.0, "train": 1.1 * seconds, "eval": 0.2 * seconds, "yardstick": 3.0}
        result = Result(
            status,
            "the budget is spent" if missed else f"loss met 0.5 at step {last.step}",
            spec.id,
            steps=last.step,
            examples=last.examples,
            time_to_target=None if missed else last.scored,
            steps_to_target=None if missed else last.step,
            best=last.metrics["loss"],
            last=last.metrics["loss"],
            test={"loss": 0.52},
            ledger={name: Reading(value, value) for name, value in ledger.items()},
            wall_s=sum(ledger.values()),
            calibration=Calibration(0.01, 0.02, {32: 1.0}, 0.0, 20, process=spec.id, steps={32: last.step}),
            peak_bytes=400 * 2**20,
            fingerprint=MACHINE,
        )
        folder.write_result(result)


if __name__ == "__main__":
    main()
