"""Shampoo, grafted to Adam, with linear warm-up and linear decay; no decay on norms and biases."""

import jax
import optax

from harness.api import ParamKind, TaskView
from harness.optim.schedules import warmup_linear
from harness.optim.shampoo import shampoo

DECAYED = {ParamKind.MATRIX, ParamKind.CONV, ParamKind.HEAD, ParamKind.EMBEDDING}


def build(task: TaskView, hp) -> optax.GradientTransformation:
    return shampoo(
        warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"]),
        task.param_info,
        b1=hp["b1"],
        b2=hp["b2"],
        eps=hp["eps"],
        weight_decay=hp["weight_decay"],
        precondition_frequency=hp["precondition_frequency"],
        block_size=hp["block_size"],
        mask=jax.tree.map(lambda info: info.kind in DECAYED, task.param_info),
    )
