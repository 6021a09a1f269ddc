"""COCOB-Backprop: no learning rate, no schedule, no decay."""

import optax

from harness.api import TaskView
from harness.optim.cocob import cocob


def build(task: TaskView, hp) -> optax.GradientTransformation:
    return cocob(
        alpha=hp["alpha"],
        eps=hp["eps"],
    )
