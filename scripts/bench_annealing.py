"""May a search stop a point whose loss the law of annealing predicts to miss the target? Looks at recorded searches.

    python scripts/bench_annealing.py

The law (`harness.search.annealing`) is fitted on each run of AdamW in results/tuning as soon as it has measurements
enough, and predicts the rest of it. AdamW's learning rates are known: a warm-up, then a linear decay over `horizon`
step hints. Prints, for each workload whose metric is a loss: the runs that go on from there; the share of the step hint
at which they are fitted; how far off the last loss is predicted; how many would be stopped, and how many of these went
on to meet the target.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from harness.program import discovery
from harness.program.workload import WorkloadInfo
from harness.record.search_record import SearchRun
from harness.report.tables import print_table
from harness.search import annealing, rates, targets

ROOT = Path(__file__).resolve().parent.parent
SCHEDULE = "linear"  # submissions/adamw


def main() -> int:
    """Print the table."""
    rows = []
    for file in sorted(ROOT.glob("results/tuning/*/*/adamw.jsonl")):
        info = discovery.workload_info(discovery.find("workloads", file.parent.name))
        if info.mode == "min" and "loss" in info.metric:
            found = [one for run in targets.read_record(file)[0] if (one := predicted(run, info)) is not None]
            off, at, stopped, met = zip(*found, strict=True)
            rows.append(
                [
                    info.name,
                    str(len(found)),
                    f"{statistics.median(at):.0%}",
                    f"{statistics.median(map(abs, off)):.1%}",
                    str(sum(stopped)),
                    str(sum(map(all, zip(stopped, met, strict=True)))),
                    str(sum(not m and not s for s, m in zip(stopped, met, strict=True))),
                ]
            )
    columns = ["workload", ">runs", ">fitted at", ">off", ">stopped", ">of them met the target", ">misses not stopped"]
    print_table(columns, rows)
    return 0


def predicted(run: SearchRun, info: WorkloadInfo) -> tuple[float, float, bool, bool] | None:
    """Return how far off the last loss is predicted, where the law was fitted as a share of the step hint, whether it
    would stop the run, and whether the run met the target; None for a run that was halved, or ends by then.
    """
    assert info.target.value is not None
    point = run.hyperparameters
    total = round(float(point["horizon"]) * info.step_hint)
    pairs = [(s, v) for s, v in zip(run.steps, run.values, strict=True) if v is not None and s <= total]
    met = any(info.meets(value) for _, value in pairs)
    if len(pairs) <= annealing.LEAST or not (met or run.steps[-1] >= total):
        return None
    eta = rates.learning_rates(SCHEDULE, float(point["learning_rate"]), total, float(point["warmup_fraction"]))
    steps, losses = zip(*pairs[: annealing.LEAST], strict=True)
    law = annealing.fit([annealing.curve(eta, steps, losses)])
    last, loss = pairs[-1]
    off = float(law.predict(eta, [last])[0]) / loss - 1.0
    return off, steps[-1] / info.step_hint, law.hopeless(eta, info.target.value), met


if __name__ == "__main__":
    sys.exit(main())
