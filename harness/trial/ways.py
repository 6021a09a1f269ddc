"""Which way attention goes on this card: by cuDNN's fused kernels where they agree with XLA's products, else by XLA.

A program holds both where it was exported with cuDNN (`harness.program.manifest`). They are tried out by the
yardstick: one step each, from the same parameters on the same batch.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from harness.api import TrainState
from harness.machine.flags import Device
from harness.program.draws import Arrays, Keys
from harness.program.manifest import Way
from harness.program.store import Program
from harness.program.workload import Data
from harness.trial.programs import Inputs, compile_yardstick, variables_function

TOLERANCE = 0.05  # of the largest value of an array: bf16 has 8 bits, and the two round in different places


def choose_way(
    own: Program, submission: Program, data: Data, train: Arrays, keys: Keys, *, platform: Device,
    devices: int = 1,
) -> tuple[Way, str]:  # fmt: skip
    """Return the way of attention that the trial takes, and why; the reason is empty where there is one way alone."""
    if devices > 1 and own.manifest.has("cudnn"):
        return "xla", "over several devices, cuDNN's calls would be repeated on each"
    if not own.manifest.has("cudnn"):
        return "xla", str(own.manifest.declared.get("cudnn", ""))
    if not submission.manifest.has("cudnn"):
        return "xla", f"the submission has no other: {submission.manifest.declared.get('cudnn', '')}"
    problem = trouble(own, data, train, keys, platform=platform)
    return ("xla", f"cudnn failed: {problem}") if problem else ("cudnn", "a step agrees with xla's")


def trouble(own: Program, data: Data, train: Arrays, keys: Keys, *, platform: Device) -> str:
    """Return what is wrong with cuDNN's way; empty where loss and moments after a step are those of XLA's."""
    try:
        found = _stepped(own, data, train, keys, platform, "cudnn")
    except (RuntimeError, ValueError, TypeError) as error:  # not built, refused, or failed on the device
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
    expected = _stepped(own, data, train, keys, platform, "xla")
    names = [leaf.name for leaf in own.manifest.contract.opt_state] + ["loss"]
    for name, one, other in zip(names, found, expected, strict=True):
        one, other = jnp.asarray(one, jnp.float32), jnp.asarray(other, jnp.float32)
        if one.size and not float(jnp.abs(one - other).max()) <= TOLERANCE * float(jnp.abs(other).max()):
            return f"its {name} differs from xla's"
    return ""


def _stepped(own: Program, data: Data, train: Arrays, keys: Keys, platform: Device, way: Way) -> list[Any]:
    """Return the moments, which are the gradient but for a factor, and the losses after one call of the yardstick."""
    begin, step = compile_yardstick(own, data, train, platform=platform, way=way)
    state: TrainState = begin(*jax.jit(variables_function(own, way))(keys.init))
    state, metrics = step(state, Inputs(keys), train)
    return jax.block_until_ready([*state.opt_state, metrics["loss"]])
