"""AdaGrad with linear warm-up and linear decay."""

import optax

from harness.api import TaskView
from harness.optim.adagrad import adagrad
from harness.optim.schedules import warmup_linear


def build(task: TaskView, hp) -> optax.GradientTransformation:
    return adagrad(
        warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"]),
        initial_accumulator=hp["initial_accumulator"],
        eps=hp["eps"],
    )
