"""optax.contrib.sophia of optax 0.2.8, called with hyperparameters that its signature names."""

import optax.contrib

from harness.optim import schedules

PARAMETERS = (
    "learning_rate",
    "b1",
    "b2",
    "eps",
    "weight_decay",
    "gamma",
    "clip_threshold",
    "update_interval",
    "verbose",
    "print_win_rate_every_n_steps",
)


def build(task, hp):
    given = {name: hp[name] for name in PARAMETERS}
    shapes = {"linear": schedules.linear, "cosine": schedules.cosine}  # 0 at so many step hints
    if hp["schedule"] != "constant":
        steps = round(hp["horizon"] * task.step_hint)
        rate = schedules.scheduled(shapes[hp["schedule"]], given["learning_rate"], steps, hp["warmup_fraction"])
        given["learning_rate"] = rate
    made = optax.contrib.sophia(**given)
    return made
