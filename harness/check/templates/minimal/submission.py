"""Clipped Nesterov AdamW with warm-up and cosine decay."""

import optax

from harness.optim.schedules import warmup_cosine


def build(task, hp):
    schedule = warmup_cosine(hp["learning_rate"], round(hp["horizon"] * task.step_hint), warmup_fraction=0.05)
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, b1=0.9, b2=0.98, weight_decay=hp["weight_decay"], nesterov=True),
    )
