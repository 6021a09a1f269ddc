"""MARS-AdamW with linear warm-up and linear decay; no decay on norms and biases."""

import jax
import optax

from harness.api import ParamKind, TaskView
from harness.optim.mars import mars_adamw
from harness.optim.schedules import warmup_linear

DECAYED = {ParamKind.MATRIX, ParamKind.CONV, ParamKind.HEAD, ParamKind.EMBEDDING}


def build(task: TaskView, hp) -> optax.GradientTransformation:
    return mars_adamw(
        warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"]),
        b1=hp["b1"],
        b2=hp["b2"],
        eps=hp["eps"],
        gamma=hp["gamma"],
        weight_decay=hp["weight_decay"],
        param_info=task.param_info,
        mask=jax.tree.map(lambda info: info.kind in DECAYED, task.param_info),
    )
