"""Schedule-free SGD: warm-up and a constant learning rate, evaluated at the average."""

import jax

from harness.api import Algorithm, ParamKind, TaskView
from harness.optim.evaluation import evaluated_at
from harness.optim.schedule_free import schedule_free_eval_params, schedule_free_sgd

DECAYED = {ParamKind.MATRIX, ParamKind.CONV, ParamKind.HEAD, ParamKind.EMBEDDING}


def build(task: TaskView, hp) -> Algorithm:
    transform = schedule_free_sgd(
        hp["learning_rate"],
        max(1, round(hp["warmup_fraction"] * task.step_hint)),
        b1=hp["b1"],
        weight_decay=hp["weight_decay"],
        mask=jax.tree.map(lambda info: info.kind in DECAYED, task.param_info),
        r=hp["r"],
    )
    batches = hp["recalibration_batches"] if task.has_model_state else 0
    return evaluated_at(transform, schedule_free_eval_params, batches)
