"""AdamW whose batch doubles twice, from a quarter of the task's to all of it; linear warm-up and linear decay."""

import jax
import optax

from harness.api import Algorithm, ParamKind, TaskView
from harness.optim.batch_sizes import batch_ramp, halved
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
    sizes = halved(task.batch_size, hp["halvings"])
    end = hp["ramp_fraction"] * task.step_hint * task.batch_size  # in examples
    starts = [end * i / max(1, len(sizes) - 1) for i in range(len(sizes))]
    return batch_ramp(adamw, rate, task.batch_size, sizes, starts)
