"""Muon for matrices and convolutions, AdamW with a learning rate of its own for the rest, linear decay of both."""

import optax

from harness.api import TaskView
from harness.optim.matrices import by_kind
from harness.optim.muon import muon
from harness.optim.schedules import warmup_linear


def build(task: TaskView, hp) -> optax.GradientTransformation:
    def schedule(peak: float) -> optax.Schedule:
        return warmup_linear(peak, round(hp["horizon"] * task.step_hint), hp["warmup_fraction"])

    fast = "bfloat16" if task.platform == "gpu" else None
    return by_kind(
        task.param_info,
        matrices=muon(
            schedule(hp["learning_rate"]),
            task.param_info,
            momentum=hp["momentum"],
            weight_decay=hp["weight_decay"],
            ns_dtype=fast if hp["ns_dtype"] == "auto" else hp["ns_dtype"],
        ),
        others=optax.adamw(
            schedule(hp["adam_learning_rate"]),
            b1=hp["adam_b1"],
            b2=hp["adam_b2"],
            eps=hp["adam_eps"],
            weight_decay=hp["adam_weight_decay"],
        ),
    )
