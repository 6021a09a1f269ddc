"""optax.contrib.muon of optax 0.2.8, called with hyperparameters that its signature names."""

import optax.contrib

from harness.optim import schedules

PARAMETERS = (
    "learning_rate",
    "ns_steps",
    "beta",
    "eps",
    "weight_decay",
    "nesterov",
    "adaptive",
    "preconditioning",
    "adam_b1",
    "adam_b2",
    "adam_eps_root",
    "adam_weight_decay",
)


def build(task, hp):
    given = {name: hp[name] for name in PARAMETERS}
    shapes = {"linear": schedules.linear, "cosine": schedules.cosine}  # 0 at so many step hints
    if hp["schedule"] != "constant":
        steps = round(hp["horizon"] * task.step_hint)
        rate = schedules.scheduled(shapes[hp["schedule"]], given["learning_rate"], steps, hp["warmup_fraction"])
        given["learning_rate"] = rate
    made = optax.contrib.muon(**given)
    return made
