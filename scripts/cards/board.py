"""The seeds of one submission on one workload, in one process with one compilation; what is finished runs no more.

    python -m cards.board WORKLOAD OPTIONS SUBMISSION

OPTIONS are JSON, the fields of `Asked`. Needs no Hydra. Prints how each trial ends, and a JSON line: seeds, of which
how many reached the target, steps, ms a step, and seconds of a trial beside its training, the first one's and later
ones'.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from harness.campaign import plan
from harness.campaign.launch import gpus, local
from harness.campaign.plan import Plan, PlannedTrial
from harness.campaign.run import run_plan
from harness.errors import HarnessError
from harness.machine.flags import Device
from harness.record import plain_data, run_folder
from harness.record.result import FAILED, UNFINISHED, Result
from harness.record.spec import DeviceConfig, Rules, RunSpec, Suite

RULES = Path(__file__).resolve().parents[2] / "configs/rules"
TRAINING = ("init", "train", "control", "eval_variables")


@dataclass(frozen=True)
class Asked:
    """What to run on a workload: `seeds` studies of a ruleset (its own number where 0), at `out`. The rest is for a
    rehearsal: a variant, which has no target, and the step that trials end at.
    """

    workload: str
    device: Device
    out: str
    seeds: int = 0
    rules: str = "quick"
    seed: int = 0
    variant: str | None = None
    max_steps: int | None = None


def request(asked: Asked) -> RunSpec:
    """Return it as `harness run` has it."""
    rules = plain_data.read(Rules, yaml.safe_load((RULES / f"{asked.rules}.yaml").read_text()), asked.rules)
    rules = replace(rules, studies=asked.seeds or rules.studies, stop="horizon" if asked.variant else rules.stop)
    return RunSpec(
        Suite("gpu", (asked.workload,)), rules, DeviceConfig(asked.device, deterministic=False), seed=asked.seed,
        variant=asked.variant, max_steps=asked.max_steps, out=asked.out,
    )  # fmt: skip


def planned(asked: Asked, names: Sequence[str]) -> Plan:
    """Return the trials of the submissions; programs that are missing are exported."""
    return plan.make_plan(request(asked), list(names), on_export=lambda what: print(f"exporting {what}", flush=True))


def main(argv: Sequence[str]) -> int:
    """Run, print; return 1 where a trial failed or is left."""
    workload, options, *names = argv
    asked = Asked(workload, **json.loads(options))
    problems: list[HarnessError] = []

    def one(trial: PlannedTrial, slot: gpus.Slot) -> None:
        end = local.run_trial(trial, environment=slot.environment, presses=slot.presses, worker=slot.worker)
        print(f"{trial.spec.folder}: {end.status}: {end.reason}", flush=True)

    def problem(error: HarnessError) -> None:
        print(f"error: {error}", file=sys.stderr, flush=True)
        problems.append(error)

    ready = planned(asked, names)
    for each in ready.problems:
        problem(each)
    ready = run_plan(
        ready, names, one, on_problem=problem, on_choices=lambda choices: None,
        on_run=lambda search, run: print(f"search: {run.status} at step {run.steps[-1]}", flush=True),
    )  # fmt: skip
    ended = [run_folder.read_trial(trial.path) for trial in ready.trials if (trial.path / "spec.json").exists()]
    print(json.dumps(summary([trial.result for trial in ended if trial.result])), flush=True)
    unfinished = len(ended) < len(ready.trials) or any(trial.status in FAILED | UNFINISHED for trial in ended)
    return int(bool(problems) or unfinished)


def trained_s(result: Result) -> float:
    """Return the seconds that count."""
    return sum(result.ledger[span].wall_s for span in TRAINING if span in result.ledger)


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """Return what is printed of trials that have ended."""
    whole = [result for result in results if result.status not in FAILED | UNFINISHED and result.train_step_s]
    if not whole:
        return {"seeds": 0}
    beside = sorted(result.wall_s - trained_s(result) for result in whole)
    return {
        "seeds": len(whole),
        "reached": sum(result.time_to_target is not None for result in whole),
        "steps": [result.steps for result in whole],
        "step_ms": statistics.median(1e3 * (result.train_step_s or 0.0) for result in whole),
        "first_beside_s": beside[-1],
        "later_beside_s": statistics.median(beside[:-1] or beside),
    }


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
