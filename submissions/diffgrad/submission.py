"""diffGrad with linear warm-up and linear decay."""

import optax

from harness.api import TaskView
from harness.optim.diffgrad import diffgrad
from harness.optim.schedules import warmup_linear


def build(task: TaskView, hp) -> optax.GradientTransformation:
    return diffgrad(
        warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"]),
        b1=hp["b1"],
        b2=hp["b2"],
        eps=hp["eps"],
    )
