"""How long this submission's step takes beside the harness's AdamW step, on this machine, now.

The two are run in turn, one dispatch each, so that whatever slows the machine slows both; the ratio is the median
over pairs, of which there are more where they scatter. As a command it measures the baseline alone: `python -m
harness.trial.yardstick WORKLOAD_FOLDER [--platform gpu]`.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import jax

from harness.api import TrainState
from harness.machine.allocator import keep_memory
from harness.program import discovery, seeds
from harness.program.build import yardstick
from harness.program.trace import Arrays, Keys, init_function, initial_state
from harness.program.workload import Workload
from harness.record.readings import Calibration
from harness.trial.programs import Programs, Step, compile_step

SECONDS, MAX_SECONDS = 2.0, 6.0
MIN_PAIRS, MAX_PAIRS = 10, 100
PRECISION = 0.01  # of the ratio: once it is known this well, no more pairs are taken


def calibrate(
    workload: Workload,
    programs: Programs,
    keys: Keys,
    train: Arrays,
    *,
    platform: str,
    baseline_step_s: float | None = None,
) -> Calibration:
    """Measure the ratios of `Calibration`. The first calls of each program warm it up and are not counted.

    `baseline_step_s` is the machine's figure from `harness doctor --calibrate`, used in place of the one measured here.
    """
    dispatch = programs.dispatch_steps
    run_baseline = _Repeated(compile_baseline(workload, programs.init, keys, train, platform=platform), keys, train)
    ratios: dict[int, float] = {}
    baseline_wall: list[float] = []
    baseline_cpu: list[float] = []
    errors: list[float] = []
    pairs = MAX_PAIRS
    for size, step in programs.steps.items():
        run_step = _Repeated((programs.init, step), keys, train)
        run_baseline.warm_up()
        run_step.warm_up()
        found: list[float] = []
        start = time.perf_counter()
        while _more_pairs(found, (time.perf_counter() - start) * len(programs.steps)):
            (base, base_cpu), (own, _) = run_baseline(), run_step()
            baseline_wall.append(base)
            baseline_cpu.append(base_cpu)
            found.append(own / base)
        ratios[size] = statistics.median(found)
        errors.append(median_error(found))
        pairs = min(pairs, len(found))
    base_s = statistics.median(baseline_wall) / dispatch
    return Calibration(
        baseline_step_s=baseline_step_s or base_s,
        baseline_step_cpu_s=statistics.mean(baseline_cpu) / dispatch,
        step_ratio=ratios,
        eval_variables_ratio=_eval_variables_s(programs, keys, train) / base_s,
        pairs=pairs,
        step_ratio_error=max(errors),
        baseline_source="doctor" if baseline_step_s else "trial",
    )


def _more_pairs(found: list[float], seconds: float) -> bool:
    if len(found) < MIN_PAIRS or (seconds < SECONDS and len(found) < MAX_PAIRS):
        return True
    return len(found) < MAX_PAIRS and seconds < MAX_SECONDS and median_error(found) > PRECISION


def median_error(values: Sequence[float]) -> float:
    """Return the half-width of the 95% interval of the median, as a share of it.

    The interval lies between two order statistics (Conover 1999, Practical Nonparametric Statistics, section 3.2), so
    that no shape of the scatter is assumed.
    """
    ordered = sorted(values)
    n = len(ordered)
    low = max(0, math.floor(n / 2 - 0.98 * math.sqrt(n)))
    return (ordered[n - 1 - low] - ordered[low]) / 2 / statistics.median(ordered)


def compile_baseline(
    workload: Workload, start: Callable[[Keys], TrainState], keys: Keys, train: Arrays, *, platform: str
) -> tuple[Callable[[Keys], TrainState], Step]:
    """Return (init, compiled step) of the baseline at the workload's batch size.

    Parameters and model state are those of `start(keys)`, whatever submission that belongs to.
    """
    algorithm = yardstick()
    begin = jax.jit(lambda state: initial_state(algorithm, state.params, state.model_state, keys.algorithm))
    state = jax.eval_shape(init_function(workload, algorithm), keys)
    size, dispatch = workload.info.batch_size, workload.info.dispatch_steps.get(platform, 1)
    step, _, _ = compile_step(workload, algorithm, size, dispatch, state, keys, train)
    return lambda keys: begin(start(keys)), step


class _Repeated:
    """A step program and the state it works on; each call is one dispatch, timed with the device waited for."""

    def __init__(self, program: tuple[Callable[..., TrainState], Step], keys: Keys, train: Arrays):
        init, self._step = program
        self._keys, self._train = keys, train
        self._state = init(keys)

    def __call__(self) -> tuple[float, float]:
        order = jax.block_until_ready(self._step.order(self._state, self._keys))  # once a chunk, so not of each step
        wall, cpu = time.perf_counter(), time.process_time()
        self._state, metrics = self._step(self._state, self._keys, self._train, order)
        jax.block_until_ready((self._state, metrics))
        return time.perf_counter() - wall, time.process_time() - cpu

    def warm_up(self) -> float:
        """Run three times and return the fastest, in seconds."""
        return min(self()[0] for _ in range(3))


def _eval_variables_s(programs: Programs, keys: Keys, train: Arrays) -> float:
    if programs.eval_variables is None:
        return 0.0
    state = programs.init(keys)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        jax.block_until_ready(programs.eval_variables(state, keys, train))
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main(argv: list[str]) -> int:
    """Print the baseline's seconds per step on the workload of the folder argv[0], as one JSON line."""
    workload: Workload = discovery.load_workload(discovery.find("workloads", argv[0]))
    platform = argv[1] if len(argv) > 1 else "cpu"
    train = jax.device_put(dict(workload.splits().train))
    keys = Keys(*(seeds.stream(0, 0, 0, "warmup") for _ in Keys._fields))
    start = jax.jit(init_function(workload, yardstick()))
    run = _Repeated(compile_baseline(workload, start, keys, train, platform=platform), keys, train)
    count = min(20 * MAX_PAIRS, max(MIN_PAIRS, round(5 * SECONDS / run.warm_up())))
    dispatch = workload.info.dispatch_steps.get(platform, 1)
    median = statistics.median(run()[0] for _ in range(count)) / dispatch
    print(json.dumps({"workload": workload.info.name, "baseline_step_s": median, "steps": count * dispatch}))
    return 0


if __name__ == "__main__":
    keep_memory()
    sys.exit(main(sys.argv[1:]))
