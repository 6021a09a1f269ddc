"""Prodigy with linear decay: its learning rate is an estimate; no decay on norms and biases."""

import jax
import optax

from harness.api import ParamKind, TaskView
from harness.optim.prodigy import prodigy
from harness.optim.schedules import warmup_linear

DECAYED = {ParamKind.MATRIX, ParamKind.CONV, ParamKind.HEAD, ParamKind.EMBEDDING}


def build(task: TaskView, hp) -> optax.GradientTransformation:
    return prodigy(
        warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"]),
        b1=hp["b1"],
        b2=hp["b2"],
        eps=hp["eps"],
        weight_decay=hp["weight_decay"],
        d0=hp["d0"],
        use_bias_correction=hp["use_bias_correction"],
        mask=jax.tree.map(lambda info: info.kind in DECAYED, task.param_info),
    )
