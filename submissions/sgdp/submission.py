"""SGDP with linear warm-up and linear decay; no decay on norms and biases."""

import jax
import optax

from harness.api import ParamKind, TaskView
from harness.optim.adamp import sgdp
from harness.optim.schedules import warmup_linear

DECAYED = {ParamKind.MATRIX, ParamKind.CONV, ParamKind.HEAD, ParamKind.EMBEDDING}


def build(task: TaskView, hp) -> optax.GradientTransformation:
    return sgdp(
        warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"]),
        momentum=hp["momentum"],
        weight_decay=hp["weight_decay"],
        delta=hp["delta"],
        wd_ratio=hp["wd_ratio"],
        param_info=task.param_info,
        mask=jax.tree.map(lambda info: info.kind in DECAYED, task.param_info),
    )
