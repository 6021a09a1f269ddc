"""The yardstick: the harness's own AdamW step, run for a few steps between a program's chunks, through a whole trial.

Whatever slows the machine slows both; a program's seconds over the yardstick's are its calibrated time
(`harness.trial.host_state.Baseline`). Sums count, so that what a program does on every k-th step counts in full,
whatever k. The first step of each run of the yardstick is left out: it finds the caches as the program left them. The
host hands over as many steps as it counts while it counts, as it does in a program's chunk: this takes processor time
from the step, on two cores 2 to 5% of it. All of the program's steps count, since it could do its work on those that do
not.

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
from harness.trial.hosts import agreed
from harness.trial.mesh import Layout
from harness.trial.programs import MAX_CHUNK_STEPS, Inputs, Leaves, Order, Step, compile_yardstick, variables_function
from harness.trial.ways import choose_way

SHARE: dict[Device, float] = {"cpu": 0.07, "gpu": 0.01}  # of the program's training time
RUN_CALLS: dict[Device, int] = {"cpu": 2, "gpu": 2}  # calls of the step that count, in a run
RUN_S = 0.03  # the calls that count take at least so long: a process that slept gets more of a busy processor at first
UNCOUNTED_CALLS = 2  # of a run: the first, and the one in flight when the count ends
WARM_UP_RUNS = 2


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

    def start(self, params: Leaves, model_state: Leaves, train_s: float = 0.0) -> tuple[float, float]:
        """Take parameters to train, which stay the caller's, and warm up; return wall and processor seconds per step, a
        first guess. `train_s` are the program's training seconds so far.
        """
        self._state = None  # frees that of the trial before
        self._state = jax.block_until_ready(self.begin(params, model_state))
        first = min((self._timed(1) for _ in range(WARM_UP_RUNS)), key=lambda reading: reading.wall_s)
        most = MAX_CHUNK_STEPS // self.dispatch_steps - UNCOUNTED_CALLS  # that an order holds
        calls = max(1, min(most, max(RUN_CALLS[self.platform], math.ceil(RUN_S / first.wall_s))))
        self.calls = agreed(calls)
        self.due_s = train_s + (self.calls + UNCOUNTED_CALLS) * first.wall_s / SHARE[self.platform]
        return first.wall_s / self.dispatch_steps, first.cpu_s / self.dispatch_steps

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
        """Make calls one behind the other, as in a program's chunk, and return what `calls` of them take: from when the
        first is done to when as many more are, while the host hands over as many, which costs the step some of its
        processor. One more is in flight at both ends, so that neither start nor end of a chunk is in it.
        """
        assert self._state is not None
        order = jax.block_until_ready(self.step.order(self._state, self.inputs))
        done = [self._call(order) for _ in range(UNCOUNTED_CALLS)]
        jax.block_until_ready(done[0])
        last = calls + is_done(done[1])  # calls may return when they are done, or as good as: none is in flight then
        wall, cpu = time.perf_counter(), time.process_time()
        done += [self._call(order) for _ in range(calls)]
        jax.block_until_ready(done[last])
        spent = Reading(time.perf_counter() - wall, time.process_time() - cpu)
        jax.block_until_ready(self._state)
        return spent

    def _call(self, order: Order) -> Mapping[str, jax.Array]:
        """Make a call, and return its metrics."""
        assert self._state is not None
        self._state, metrics = self.step(self._state, self.inputs, self.train, order)
        return metrics


def is_done(metrics: Mapping[str, Any]) -> bool:
    """Whether the device has worked off the call that these are of."""
    return all(value.is_ready() for value in metrics.values())


def make_yardstick(
    own: Program, data: Data, train: Arrays, keys: Keys, *, platform: Device, way: Way, layout: Layout | None = None
) -> Yardstick:
    """Compile it. `own` is the workload's program."""
    begin, step = compile_yardstick(own, data, train, platform=platform, way=way, layout=layout)
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
