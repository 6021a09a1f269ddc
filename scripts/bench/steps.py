"""The harness's AdamW step by itself, its share of the device's ceiling, and what each submission's step costs."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp

from harness.api import TrainState
from harness.errors import HarnessError
from harness.machine.flags import Device
from harness.program import discovery, processes, seeds, submission
from harness.program.draws import Keys
from harness.trial.host_state import Baseline
from harness.trial.programs import (
    MAX_CHUNK_STEPS,
    Inputs,
    Programs,
    compile_programs,
    compile_yardstick,
    variables_function,
)
from harness.trial.ways import choose_way
from harness.trial.yardstick import Yardstick, make_yardstick


def keys() -> Keys:
    """Return the keys of streams that no trial takes."""
    return Keys(*(seeds.stream(0, 0, 0, "warmup") for _ in Keys._fields))


def device() -> Device:
    """Return the platform of this process."""
    return "gpu" if jax.default_backend() == "gpu" else "cpu"


CALLS = 10  # that are waited for together


def ceiling(size: int, seconds: float, dtype: Any = jnp.bfloat16) -> float:
    """Return the FLOP/s of a product of two size x size matrices, measured for so many seconds; of random numbers,
    since zeros take less power and are faster.
    """
    a, b = (jax.random.normal(key, (size, size), dtype) for key in jax.random.split(jax.random.key(0)))
    multiply = jax.jit(lambda a, b: a @ b)
    jax.block_until_ready(multiply(a, b))
    times: list[float] = []
    while sum(times) * CALLS < seconds:
        start = time.perf_counter()
        for _ in range(CALLS):
            product = multiply(a, b)
        jax.block_until_ready(product)
        times.append((time.perf_counter() - start) / CALLS)
    return 2.0 * size**3 / statistics.median(times)


class HarnessSteps:
    """The yardstick's compiled step, `dispatch` of them a call."""

    def __init__(self, folder: discovery.Folder, variant: str | None, train: Any, dispatch: int):
        self.inputs, self._train, self.dispatch = Inputs(keys()), train, dispatch
        platform = device()
        own, data = processes.workload_program(folder, variant, platform), discovery.load_data(folder, variant)
        data = dataclasses.replace(data, info=dataclasses.replace(data.info, dispatch_steps={platform: dispatch}))
        way, self.way = choose_way(own, own, data, train, keys(), platform=platform)
        start = time.perf_counter()
        self._begin, self.step = compile_yardstick(own, data, train, platform=platform, way=way)
        self.compile_s = time.perf_counter() - start
        self._variables, self.contract = jax.jit(variables_function(own, way)), own.manifest.contract
        self._state = self.begin()
        self.run(2)

    def begin(self) -> TrainState:
        """Return the state before the first step."""
        return self._begin(*self._variables(self.inputs.keys.init))

    def run(self, calls: int) -> float:
        """Make so many calls and return seconds per step."""
        jax.block_until_ready(self._state)
        start = time.perf_counter()
        for number in range(calls):
            if number % (MAX_CHUNK_STEPS // self.dispatch) == 0:
                order = self.step.order(self._state, self.inputs)
            self._state, metrics = self.step(self._state, self.inputs, self._train, order)
        jax.block_until_ready((self._state, metrics))
        return (time.perf_counter() - start) / calls / self.dispatch


def step_row(folder: discovery.Folder, variant: str | None, *, seconds: float, matrix: int) -> dict[str, Any]:
    """Return the values of row (a): the step with one and with several steps a call, in turn."""
    workload = discovery.load_workload(folder, variant)
    info = workload.info
    train = jax.device_put(dict(workload.splits().train))
    several = max(2, info.dispatch_steps.get("gpu", 2)) if jax.default_backend() == "gpu" else 2
    runners = [HarnessSteps(folder, variant, train, dispatch) for dispatch in (1, several)]
    each = [max(1, round(seconds / 10 / (runner.run(1) * runner.dispatch))) for runner in runners]
    times = [[runner.run(calls) for runner, calls in zip(runners, each, strict=True)] for _ in range(5)]
    one, more = (statistics.median(column) for column in zip(*times, strict=True))
    best, top = min(one, more), ceiling(matrix, seconds / 5)
    assert workload.flops is not None
    flops = workload.flops * info.batch_size
    examples = jax.tree.leaves(jax.eval_shape(workload.batch, train, jnp.arange(info.batch_size), jax.random.key(0)))
    tokens = examples[0].shape[1] if info.name.startswith("lm_") else 1
    return {
        "step_ms": 1e3 * one,
        f"step_ms_{several}_a_call": 1e3 * more,
        "unit": "tokens" if tokens > 1 else "images",
        "units_per_s": info.batch_size * tokens / best,
        "model_tflop_per_step": flops / 1e12,
        "model_tflop_per_s": flops / best / 1e12,
        "ceiling_tflop_per_s": top / 1e12,
        "share_of_ceiling": flops / best / top,
        "choices": dict(workload.choices) | {"way": runners[0].way},
    }


ROUNDS = 12


def over_yardstick(programs: Programs, inputs: Inputs, train: Any, size: int, yardstick: Yardstick) -> float:
    """Return the seconds of a program's step over the yardstick's, which runs between its chunks."""
    state, baseline = programs.init(inputs), Baseline()
    yardstick.start(state.params, state.model_state)
    step, calls, seconds = programs.steps[size], max(1, 50 // programs.dispatch_steps), 0.0
    for number in range(ROUNDS + 1):
        start = time.perf_counter()
        order = step.order(state, inputs)
        for _ in range(calls):
            state, metrics = step(state, inputs, train, order)
        jax.block_until_ready((state, metrics))
        if number:  # the first round warms up
            seconds += time.perf_counter() - start
        baseline.enter(*yardstick.run(0.0))
    return seconds / ROUNDS / calls / programs.dispatch_steps / baseline.step_s


def submissions_row(folder: discovery.Folder, variant: str | None, platform: Device) -> dict[str, Any]:
    """Return the values of row (d): the step of every submission over AdamW's, in turn; None where it does not run."""
    data = discovery.load_data(folder, variant)
    own, splits = processes.workload_program(folder, variant, platform), data.load()
    train, slice_ = jax.device_put((dict(splits.train), dict(splits.validation_slice)))
    ratios: dict[str, float | None] = {}
    for name, source in discovery.find_all("submissions").items():
        try:
            hp = submission.read_info(source).defaults
            (program,) = processes.submission_programs(
                folder, source, [hp], data.info.budget_steps, variant=variant, platform=platform
            )
            way = choose_way(own, program, data, train, keys(), platform=platform)
            programs = compile_programs(data, own, program, train, slice_, platform=platform, way=way[0])
            values = tuple(jnp.float32(hp[name]) for name in programs.contract.arguments)
            yardstick = make_yardstick(own, data, train, keys(), platform=platform, way=way[0])
            ratios[name] = over_yardstick(programs, Inputs(keys(), values), train, data.info.batch_size, yardstick)
        except HarnessError as error:
            print(f"  {name}: {error}")
            ratios[name] = None
    return {"step_over_adamw": ratios}
