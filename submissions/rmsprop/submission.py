"""RMSProp with momentum, linear warm-up and linear decay."""

import optax

from harness.api import TaskView
from harness.optim.rmsprop import rmsprop
from harness.optim.schedules import warmup_linear


def build(task: TaskView, hp) -> optax.GradientTransformation:
    return rmsprop(
        warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"]),
        decay=hp["decay"],
        eps=hp["eps"],
        momentum=hp["momentum"],
    )
