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
from collections.abc import Sequence

import jax

from harness.api import TrainState
from harness.machine.allocator import keep_memory
from harness.machine.flags import Device
from harness.program import discovery, processes, seeds
from harness.program.draws import Arrays, Keys
from harness.program.workload import Data
from harness.record.readings import Calibration
from harness.trial.programs import Inputs, Programs, Step, compile_yardstick, variables_function
from harness.trial.setup import Prepared

SECONDS, MAX_SECONDS = 2.0, 6.0
MIN_PAIRS, MAX_PAIRS = 10, 100
PRECISION = 0.01  # of the ratio: once it is known this well, no more pairs are taken


def calibrate(
    prepared: Prepared, inputs: Inputs, *, platform: Device, baseline_step_s: float | None = None
) -> Calibration:
    """Measure the ratios of `Calibration`. The first calls of each program warm it up and are not counted.

    `baseline_step_s` is the machine's figure from `harness doctor --calibrate`, used in place of the one measured here.
    """
    programs, train = prepared.programs, prepared.train
    dispatch = programs.dispatch_steps
    begin, yardstick_step = compile_yardstick(
        prepared.own, prepared.data, train, platform=platform, way=prepared.way[0]
    )
    start = programs.init(inputs)
    bare = inputs._replace(hyperparameters=())
    run_baseline = _Repeated(begin(start.params, start.model_state), yardstick_step, bare, train)
    ratios: dict[int, float] = {}
    baseline_wall: list[float] = []
    baseline_cpu: list[float] = []
    errors: list[float] = []
    pairs = MAX_PAIRS
    for size, step in programs.steps.items():
        run_step = _Repeated(programs.init(inputs), step, inputs, train)
        run_baseline.warm_up()
        run_step.warm_up()
        found: list[float] = []
        began = time.perf_counter()
        while _more_pairs(found, (time.perf_counter() - began) * len(programs.steps)):
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
        eval_variables_ratio=_eval_variables_s(programs, inputs, train) / base_s,
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


class _Repeated:
    """A step program and the state it works on; each call is one dispatch, timed with the device waited for."""

    def __init__(self, state: TrainState, step: Step, inputs: Inputs, train: Arrays):
        self._state, self._step, self._inputs, self._train = state, step, inputs, train

    def __call__(self) -> tuple[float, float]:
        order = jax.block_until_ready(self._step.order(self._state, self._inputs))  # once a chunk, so not of each step
        wall, cpu = time.perf_counter(), time.process_time()
        self._state, metrics = self._step(self._state, self._inputs, self._train, order)
        jax.block_until_ready((self._state, metrics))
        return time.perf_counter() - wall, time.process_time() - cpu

    def warm_up(self) -> float:
        """Run three times and return the fastest, in seconds."""
        return min(self()[0] for _ in range(3))


def _eval_variables_s(programs: Programs, inputs: Inputs, train: Arrays) -> float:
    if programs.eval_variables is None:
        return 0.0
    state = programs.init(inputs)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        jax.block_until_ready(programs.eval_variables(state, inputs, train))
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main(argv: list[str]) -> int:
    """Print the baseline's seconds per step on the workload of the folder argv[0], as one JSON line."""
    folder = discovery.find("workloads", argv[0])
    platform: Device = "gpu" if argv[1:] == ["gpu"] else "cpu"
    own = processes.workload_program(folder, platform=platform)
    data: Data = discovery.load_data(folder)
    train = jax.device_put(dict(data.load().train))
    inputs = Inputs(Keys(*(seeds.stream(0, 0, 0, "warmup") for _ in Keys._fields)))
    begin, step = compile_yardstick(own, data, train, platform=platform)
    run = _Repeated(begin(*jax.jit(variables_function(own))(inputs.keys.init)), step, inputs, train)
    count = min(20 * MAX_PAIRS, max(MIN_PAIRS, round(5 * SECONDS / run.warm_up())))
    dispatch = data.info.dispatch_steps.get(platform, 1)
    median = statistics.median(run()[0] for _ in range(count)) / dispatch
    print(json.dumps({"workload": data.info.name, "baseline_step_s": median, "steps": count * dispatch}))
    return 0


if __name__ == "__main__":
    keep_memory()
    sys.exit(main(sys.argv[1:]))
