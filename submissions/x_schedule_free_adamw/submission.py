"""optax.contrib.schedule_free_adamw of optax 0.2.8, called with hyperparameters that its signature names."""

import optax.contrib

from harness.optim import schedules
from harness.optim.evaluation import evaluated_at

PARAMETERS = (
    "learning_rate",
    "b1",
    "b2",
    "eps",
    "weight_decay",
    "weight_lr_power",
)


def build(task, hp):
    given = {name: hp[name] for name in PARAMETERS}
    shapes = {"linear": schedules.linear, "cosine": schedules.cosine}  # 0 at so many step hints
    if hp["schedule"] != "constant":
        steps = round(hp["horizon"] * task.step_hint)
        rate = schedules.scheduled(shapes[hp["schedule"]], given["learning_rate"], steps, hp["warmup_fraction"])
        given["learning_rate"] = rate
    made = optax.contrib.schedule_free_adamw(**given)
    batches = 10 if task.has_model_state else 0  # for running statistics at the average
    return evaluated_at(made, optax.contrib.schedule_free_eval_params, batches)  # it trains at y, and is measured at x
