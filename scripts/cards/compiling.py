"""The programs of several submissions on a workload, exported and compiled before any of them is timed.

    python -m cards.compiling WORKLOAD OPTIONS SUBMISSION ...      OPTIONS as `cards.board` takes them

XLA chooses kernels by timing them, so nothing else may run on the card while it does. AdamW's programs come first, by
themselves; then those with matrix products of their own, one after the other. What is left differs from AdamW's in
operations that are not tuned: they compile side by side, only read the choices, and take memory as they need it rather
than three quarters of the card each. Trials find all of it in the compile cache. Prints a JSON line: seconds in all,
and of each submission.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cards import board

from harness.campaign import plan
from harness.campaign.plan import PlannedTrial
from harness.errors import HarnessError
from harness.machine import flags, hardware
from harness.program import store
from harness.trial import priming

CORES = 3  # of a process that compiles
FRUGAL = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_PYTHON_CLIENT_ALLOCATOR": "platform"}
ROUNDING = 1e-6


def main(argv: Sequence[str]) -> int:
    """Compile, print the seconds; 1 where one does not compile."""
    start = time.perf_counter()
    workload, options, *names = argv
    planned = board.planned(board.Asked(workload, **json.loads(options)), names)
    for problem in planned.problems:
        print(f"error: {problem}", file=sys.stderr)
    first = {trial.spec.submission: trial for trial in reversed(planned.trials)}
    exported_s = time.perf_counter() - start
    if not first:
        return 1
    baseline, *others = [trial for trial in (first.pop("adamw", None), *first.values()) if trial is not None]
    way, seconds = "-", dict[str, float]()
    for trial in [baseline, *(trial for trial in others if own_products(trial))]:  # one by one: they are tuned
        answer = compile_one(trial, "update", way)
        seconds[trial.spec.submission] = answer.get("seconds", 0.0)
        way = answer.get("way", way)
    rest = [trial for trial in others if trial.spec.submission not in seconds]
    with ThreadPoolExecutor(max(1, hardware.usable_cores() // CORES)) as pool:
        for trial, answer in zip(rest, pool.map(lambda trial: compile_one(trial, "read", way), rest), strict=True):
            seconds[trial.spec.submission] = answer.get("seconds", 0.0)
    found = {"exported_s": round(exported_s, 1), "seconds": round(time.perf_counter() - start, 1), "each_s": seconds}
    print(json.dumps(found | {"way": way, "jobs": max(1, hardware.usable_cores() // CORES)}), flush=True)
    return int(bool(planned.problems) or not all(seconds.values()))


def own_products(trial: PlannedTrial) -> bool:
    """Whether a step multiplies more matrices than the yardstick's: Muon's does."""
    own, other = (store.read(str(name)) for name in (trial.spec.workload_program, trial.spec.program))
    assert own is not None
    assert other is not None
    steps = [facts.products for name, facts in other.manifest.functions.items() if name == f"step_{trial.spec.batch_size}"]  # fmt: skip # noqa: E501
    return not steps or steps[0] > own.manifest.functions["yardstick_step"].products * (1 + ROUNDING)


def compile_one(trial: PlannedTrial, mode: str, way: str) -> dict[str, Any]:
    """Compile the programs of a trial in a process of its own, and mark them as compiled; an empty answer where it
    fails, with the end of what it said on standard error.
    """
    command = [sys.executable, "-m", "cards.compile_one", str(plan.make_ready(trial)), mode, way]
    done = subprocess.run(command, env=os.environ | FRUGAL, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{trial.spec.submission} does not compile:\n{done.stderr[-2000:]}", file=sys.stderr, flush=True)
        return {}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    mark = flags.autotune_cache() / "primed" / priming.key(trial.spec)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    print(f"{trial.spec.submission}: {answer['seconds']:.1f} s ({mode})", flush=True)
    return answer


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
