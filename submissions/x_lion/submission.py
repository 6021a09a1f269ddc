"""optax.lion of optax 0.2.8, called with hyperparameters that its signature names."""

import optax

from harness.optim import schedules

PARAMETERS = (
    "learning_rate",
    "b1",
    "b2",
    "weight_decay",
)


def build(task, hp):
    given = {name: hp[name] for name in PARAMETERS}
    shapes = {"linear": schedules.linear, "cosine": schedules.cosine}  # 0 at so many step hints
    if hp["schedule"] != "constant":
        steps = round(hp["horizon"] * task.step_hint)
        rate = schedules.scheduled(shapes[hp["schedule"]], given["learning_rate"], steps, hp["warmup_fraction"])
        given["learning_rate"] = rate
    made = optax.lion(**given)
    return made
