"""AdamW on the hard ones of twice as many candidates, drawn by the rank of their loss; linear warm-up and decay."""

import jax
import optax

from harness.api import Algorithm, ParamKind, TaskView
from harness.optim.schedules import warmup_linear
from harness.optim.selection import hard_examples

DECAYED = {ParamKind.MATRIX, ParamKind.CONV, ParamKind.HEAD, ParamKind.EMBEDDING}


def build(task: TaskView, hp) -> Algorithm:
    adamw = optax.adamw(
        warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"]),
        b1=hp["b1"],
        b2=hp["b2"],
        eps=hp["eps"],
        weight_decay=hp["weight_decay"],
        mask=jax.tree.map(lambda info: info.kind in DECAYED, task.param_info),
    )
    return hard_examples(adamw, hp["candidates"], hp["beta"])
