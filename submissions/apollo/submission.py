"""APOLLO: moments in a random space of a quarter of the width scale the gradient; linear warm-up and linear decay."""

import dataclasses
import statistics

import jax
import jax.numpy as jnp
from jax.tree_util import tree_leaves

from harness.api import Algorithm, TaskView
from harness.optim.apollo import apollo
from harness.optim.matrices import is_matrix_like, view
from harness.optim.optax_adapter import from_optax
from harness.optim.schedules import warmup_linear


def build(task: TaskView, hp) -> Algorithm:
    transform = apollo(
        warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"]),
        task.param_info,
        rank=max(1, round(hp["rank_fraction"] * width(task))),
        scale=hp["scale"],
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


def width(task: TaskView) -> float:
    """Return the median, over matrices and convolutions, of the smaller of fan-in and fan-out."""
    pairs = zip(tree_leaves(task.params), tree_leaves(task.param_info), strict=True)
    shapes = [jax.eval_shape(view(info).split, p).shape[1:] for p, info in pairs if is_matrix_like(info)]
    return statistics.median(map(min, shapes)) if shapes else 1
