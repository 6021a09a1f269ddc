"""LARS with linear warm-up and linear decay; norms and biases are neither adapted nor decayed."""

import jax
import optax

from harness.api import ParamKind, TaskView
from harness.optim.lars import lars
from harness.optim.schedules import warmup_linear

DECAYED = {ParamKind.MATRIX, ParamKind.CONV, ParamKind.HEAD, ParamKind.EMBEDDING}


def build(task: TaskView, hp) -> optax.GradientTransformation:
    return lars(
        warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"]),
        momentum=hp["momentum"],
        trust_coefficient=hp["trust_coefficient"],
        eps=hp["eps"],
        weight_decay=hp["weight_decay"],
        param_info=task.param_info,
        mask=jax.tree.map(lambda info: info.kind in DECAYED, task.param_info),
    )
