"""AdamW, evaluated at the mean of its latest checkpoints (LAWA); linear warm-up and linear decay."""

import jax
import optax

from harness.api import Algorithm, ParamKind, TaskView
from harness.optim.averaging import lawa
from harness.optim.schedules import larger, rounded, warmup_linear

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
    every = larger(1, rounded(hp["every_fraction"] * task.step_hint))
    batches = hp["recalibration_batches"] if task.has_model_state else 0
    return lawa(adamw, every, hp["window"], recalibration_batches=batches)
