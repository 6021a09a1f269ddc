"""AdEMAMix whose slow average and its weight grow over the schedule; linear warm-up and linear decay."""

import jax
import optax

from harness.api import ParamKind, TaskView
from harness.optim.ademamix import ademamix, warmed_alpha, warmed_b3
from harness.optim.schedules import warmup_linear

DECAYED = {ParamKind.MATRIX, ParamKind.CONV, ParamKind.HEAD, ParamKind.EMBEDDING}


def build(task: TaskView, hp) -> optax.GradientTransformation:
    steps = round(hp["horizon"] * task.step_hint)
    return ademamix(
        warmup_linear(hp["learning_rate"], steps, hp["warmup_fraction"]),
        b1=hp["b1"],
        b2=hp["b2"],
        b3=warmed_b3(hp["b1"], hp["b3"], steps),
        alpha=warmed_alpha(hp["alpha"], steps),
        eps=hp["eps"],
        weight_decay=hp["weight_decay"],
        mask=jax.tree.map(lambda info: info.kind in DECAYED, task.param_info),
    )
