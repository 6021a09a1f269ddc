"""AdamW, evaluated at the exponential moving average of its weights; linear warm-up and linear decay."""

import jax
import optax

from harness.api import Algorithm, ParamKind, TaskView
from harness.optim.averaging import ema
from harness.optim.schedules import warmup_linear

DECAYED = {ParamKind.MATRIX, ParamKind.CONV, ParamKind.HEAD, ParamKind.EMBEDDING}


def build(task: TaskView, hp) -> Algorithm:
    adamw = optax.adamw(
        warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"]),
        b1=hp["b1"],
        b2=hp["b2"],
        eps=hp["eps"],
        weight_decay=hp["weight_decay"],
        mask=jax.tree.map(lambda info: info.kind in DECAYED, task.param_info),
    )
    steps = max(1.0, hp["average_fraction"] * task.step_hint)
    batches = hp["recalibration_batches"] if task.has_model_state else 0
    return ema(adamw, 1 - 1 / steps, recalibration_batches=batches)
