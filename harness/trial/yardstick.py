"""The yardstick: the harness's own AdamW step, run for a few steps between a program's chunks, through a whole trial.

Whatever slows the machine slows both; a program's seconds over the yardstick's are its calibrated time
(`harness.trial.host_state.Baseline`). Sums count, so that what a program does on every k-th step counts in full,
whatever k. The first step of each run of the yardstick is left out: it finds the caches as the program left them. All
of the program's steps count, since it could do its work on those that do not.

As a command it measures the baseline alone: `python -m harness.trial.yardstick WORKLOAD_FOLDER [gpu]`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax

from harness.api import TrainState
from harness.machine.allocator import keep_memory
from harness.machine.flags import Device
from harness.program import discovery, processes, seeds
from harness.program.draws import Arrays, Keys
from harness.program.manifest import Way
from harness.program.store import Program
from harness.program.workload import Data
from harness.record.readings import Reading
from harness.trial import feeding
from harness.trial.host_state import Baseline
from harness.trial.programs import MAX_CHUNK_STEPS, Inputs, Leaves, Step, compile_yardstick, variables_function
from harness.trial.ways import choose_way

SHARE: dict[Device, float] = {"cpu": 0.075, "gpu": 0.01}  # of the program's training time
RUN_CALLS: dict[Device, int] = {"cpu": 2, "gpu": 2}  # calls of the step that count, in a run
RUN_S = 0.015  # a run takes at least so long: what starts and ends it is small beside it
WARM_UP_CALLS = 3


@dataclass
class Yardstick:
    """The yardstick's compiled step, the state it works on, and when its next run is due.

    Attributes:
      begin, step: compiled.
      inputs, train: what its batches are drawn from.
      dispatch_steps: steps in a call.
      platform: decides how much of the time it takes.
      calls: calls of a run that count.
      run_s: seconds of the last run.
      due_s: training seconds of the program at which the next run is due.
    """

    begin: Callable[[Leaves, Leaves], TrainState]
    step: Step
    inputs: Inputs
    train: Arrays
    dispatch_steps: int
    platform: Device
    calls: int = 0
    run_s: float = 0.0
    due_s: float = 0.0
    _state: TrainState | None = field(default=None, repr=False)

    def start(self, params: Leaves, model_state: Leaves) -> None:
        """Take parameters to train, which stay the caller's, and warm up."""
        self._state = None  # frees that of the trial before
        self._state = jax.block_until_ready(self.begin(params, model_state))
        seconds = min(self._timed(1).wall_s for _ in range(WARM_UP_CALLS))
        most = MAX_CHUNK_STEPS // self.dispatch_steps - 1  # that an order holds
        self.calls = min(most, max(RUN_CALLS[self.platform], math.ceil(RUN_S / seconds)))
        self.due_s = 0.0

    def run(self, train_s: float) -> tuple[float, float]:
        """Run once and return wall and processor seconds per step; `train_s` are the program's training seconds so
        far.
        """
        began = time.perf_counter()
        spent = self._timed(self.calls)
        steps = self.calls * self.dispatch_steps
        self.run_s = time.perf_counter() - began
        self.due_s = train_s + self.run_s / SHARE[self.platform]
        return spent.wall_s / steps, spent.cpu_s / steps

    def stop(self) -> None:
        """Free the state."""
        self._state = None

    def _timed(self, calls: int) -> Reading:
        """Make one call and so many more, and return what these took: from when the first is done, with the others
        handed over already, as those of a program's chunk are.
        """
        state = self._state
        assert state is not None
        order = jax.block_until_ready(self.step.order(state, self.inputs))
        state, first = self.step(state, self.inputs, self.train, order)
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            state, _ = self.step(state, self.inputs, self.train, order)
        if not is_done(first):  # else calls return when they are done, or as good as
            jax.block_until_ready(first)
            wall, cpu = time.perf_counter(), time.process_time()
        self._state = jax.block_until_ready(state)
        return Reading(time.perf_counter() - wall, time.process_time() - cpu)


def is_done(metrics: Mapping[str, Any]) -> bool:
    """Whether the device has worked off the call that these are of."""
    return all(value.is_ready() for value in metrics.values())


def make_yardstick(own: Program, data: Data, train: Arrays, keys: Keys, *, platform: Device, way: Way) -> Yardstick:
    """Compile it. `own` is the workload's program."""
    begin, step = compile_yardstick(own, data, train, platform=platform, way=way)
    return Yardstick(begin, step, Inputs(keys), train, data.info.dispatch_steps.get(platform, 1), platform)


def main(argv: list[str]) -> int:
    """Print the baseline's seconds per step on the workload of the folder argv[0], as one JSON line."""
    folder = discovery.find("workloads", argv[0])
    platform: Device = "gpu" if argv[1:] == ["gpu"] else "cpu"
    own = processes.workload_program(folder, platform=platform)
    data: Data = discovery.load_data(folder)
    keys = Keys(*(seeds.stream(0, 0, 0, "warmup") for _ in Keys._fields))
    data, feed = feeding.feed(data, data.load(), own.manifest.contract, data.info.dispatch_steps.get(platform, 1))
    train = feed.train
    way, _ = choose_way(own, own, data, train, keys, platform=platform)
    yardstick = make_yardstick(own, data, train, keys, platform=platform, way=way)
    yardstick.start(*jax.jit(variables_function(own, way))(keys.init))
    baseline, began = Baseline(), time.perf_counter()
    while time.perf_counter() - began < ALONE_S or baseline.runs < 3:
        baseline.enter(*yardstick.run(0.0))
    steps = baseline.runs * yardstick.calls * yardstick.dispatch_steps
    print(json.dumps({"workload": data.info.name, "baseline_step_s": baseline.step_s, "steps": steps}))
    return 0


ALONE_S = 10.0  # of the command


if __name__ == "__main__":
    keep_memory()
    sys.exit(main(sys.argv[1:]))
