"""AdamW whose batch grows by the norm test of AdAdaGrad, from a quarter of the task's; linear warm-up and decay."""

import jax
import optax

from harness.api import Algorithm, ParamKind, TaskView
from harness.optim.batch_sizes import halved, norm_test
from harness.optim.schedules import warmup_linear

DECAYED = {ParamKind.MATRIX, ParamKind.CONV, ParamKind.HEAD, ParamKind.EMBEDDING}


def build(task: TaskView, hp) -> Algorithm:
    adamw = optax.adamw(
        1.0,
        b1=hp["b1"],
        b2=hp["b2"],
        eps=hp["eps"],
        weight_decay=hp["weight_decay"],
        mask=jax.tree.map(lambda info: info.kind in DECAYED, task.param_info),
    )
    rate = warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"])
    sizes = halved(task.batch_size, hp["halvings"], multiple=hp["groups"])
    return norm_test(adamw, rate, task.batch_size, sizes, hp["eta"], hp["groups"])
