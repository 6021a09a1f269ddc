"""APOLLO-Mini: moments in a random space of rank 1 give each matrix one scale; linear warm-up and linear decay."""

import dataclasses

import jax
import jax.numpy as jnp

from harness.api import Algorithm, TaskView
from harness.optim.apollo import apollo
from harness.optim.optax_adapter import from_optax
from harness.optim.schedules import warmup_linear


def build(task: TaskView, hp) -> Algorithm:
    transform = apollo(
        warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"]),
        task.param_info,
        rank=1,
        scale=hp["scale"],
        scale_type="tensor",
        update_gap=hp["update_gap"],
        b1=hp["b1"],
        b2=hp["b2"],
        eps=hp["eps"],
        norm_growth=hp["norm_growth"],
        weight_decay=hp["weight_decay"],
    )

    def init(params, key):
        """Let the projections depend on the trial's key."""
        return transform.init(params)._replace(seed=jax.random.bits(key, dtype=jnp.uint32))

    return dataclasses.replace(from_optax(transform), init=init)
