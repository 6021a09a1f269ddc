"""MoMo-Adam with linear warm-up and linear decay of its largest step."""

import optax

from harness.api import TaskView
from harness.optim.momo import momo_adam
from harness.optim.schedules import warmup_linear


def build(task: TaskView, hp) -> optax.GradientTransformation:
    return momo_adam(
        warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"]),
        b1=hp["b1"],
        b2=hp["b2"],
        eps=hp["eps"],
        lb=hp["lb"],
        weight_decay=hp["weight_decay"],
    )
