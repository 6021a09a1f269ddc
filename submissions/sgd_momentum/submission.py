"""SGD with Nesterov momentum, gradients clipped by their norm, weight decay added to them, linear warm-up and linear
decay: the plain baseline."""

import jax
import optax

from harness.api import ParamKind, TaskView
from harness.optim.schedules import warmup_linear

DECAYED = {ParamKind.MATRIX, ParamKind.CONV, ParamKind.HEAD, ParamKind.EMBEDDING}


def build(task: TaskView, hp) -> optax.GradientTransformation:
    schedule = warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"])
    return optax.chain(
        optax.clip_by_global_norm(hp["clip_norm"]),
        optax.add_decayed_weights(
            hp["weight_decay"], mask=jax.tree.map(lambda info: info.kind in DECAYED, task.param_info)
        ),
        optax.sgd(schedule, momentum=hp["momentum"], nesterov=True),
    )
