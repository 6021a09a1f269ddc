"""LAMB with linear warm-up and linear decay; norms and biases are neither decayed nor adapted."""

import jax
import optax

from harness.api import ParamKind, TaskView
from harness.optim.lamb import lamb
from harness.optim.schedules import warmup_linear

ADAPTED = {ParamKind.MATRIX, ParamKind.CONV, ParamKind.HEAD, ParamKind.EMBEDDING}


def build(task: TaskView, hp) -> optax.GradientTransformation:
    return lamb(
        warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"]),
        b1=hp["b1"],
        b2=hp["b2"],
        eps=hp["eps"],
        weight_decay=hp["weight_decay"],
        mask=jax.tree.map(lambda info: info.kind in ADAPTED, task.param_info),
        trust_clip=hp["trust_clip"] or None,
        param_info=task.param_info,
    )
