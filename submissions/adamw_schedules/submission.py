"""AdamW under any of the schedules of `harness.optim`, by name: what a board of schedules compares."""

from functools import partial

import jax
import optax
import optax.contrib

from harness.api import Algorithm, ParamKind, TaskView
from harness.optim import more_schedules, schedules
from harness.optim.checks import expect_choice
from harness.optim.refined import refined

DECAYED = {ParamKind.MATRIX, ParamKind.CONV, ParamKind.HEAD, ParamKind.EMBEDDING}
SHAPES = {
    "constant": schedules.constant,
    "linear": schedules.linear,
    "cosine": schedules.cosine,
    "cosine_power": more_schedules.cosine_power,
    "exponential": more_schedules.exponential,
    "multistep": more_schedules.multistep,
    "one_cycle": more_schedules.one_cycle,
    "rex": schedules.rex,
    "wsd": schedules.wsd,
    "wsd_s": more_schedules.wsd_s,
    "infinite": schedules.infinite,
    "reduce_on_plateau": schedules.constant,
}


def build(task: TaskView, hp) -> optax.GradientTransformation | Algorithm:
    name, peak, steps = hp["schedule"], hp["learning_rate"], round(hp["horizon"] * task.step_hint)
    expect_choice("hp.schedule", name, [*SHAPES, "refined"])
    adamw = partial(
        optax.adamw,
        b1=hp["b1"],
        b2=hp["b2"],
        eps=hp["eps"],
        weight_decay=hp["weight_decay"],
        mask=jax.tree.map(lambda info: info.kind in DECAYED, task.param_info),
    )
    if name == "refined":
        pilot = max(2, round(hp["pilot_fraction"] * task.step_hint))
        return refined(adamw(1.0), peak, pilot, steps, hp["warmup_fraction"])
    rise = hp["pct_start"] if name == "one_cycle" else hp["warmup_fraction"]
    transform = adamw(schedules.scheduled(SHAPES[name], peak, steps, rise))
    if name == "reduce_on_plateau":  # of the loss value, which the harness hands to what asks for it
        window = schedules.larger(1, schedules.rounded(hp["window"] * steps))
        transform = optax.chain(transform, optax.contrib.reduce_on_plateau(accumulation_size=window))
    return transform
