"""Sophia-G with linear warm-up and linear decay; no decay on norms and biases."""

import jax

from harness.api import Algorithm, LossKind, ParamKind, TaskView
from harness.optim.schedules import warmup_linear
from harness.optim.sophia import sophia_g, with_sampled_targets

DECAYED = {ParamKind.MATRIX, ParamKind.CONV, ParamKind.HEAD, ParamKind.EMBEDDING}


def build(task: TaskView, hp) -> Algorithm:
    transform = sophia_g(
        warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"]),
        b1=hp["b1"],
        b2=hp["b2"],
        gamma=hp["gamma"],
        eps=hp["eps"],
        weight_decay=hp["weight_decay"],
        update_interval=hp["update_interval"],
        mask=jax.tree.map(lambda info: info.kind in DECAYED, task.param_info),
    )
    return with_sampled_targets(transform, sampled=task.loss_kind is LossKind.SOFTMAX_CROSS_ENTROPY)
