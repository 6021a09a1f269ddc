"""Kron (PSGD) with linear warm-up and linear decay; no decay on norms and biases."""

import dataclasses

import jax
import jax.numpy as jnp

from harness.api import Algorithm, ParamKind, TaskView
from harness.optim.kron import kron
from harness.optim.optax_adapter import from_optax
from harness.optim.schedules import warmup_linear

DECAYED = {ParamKind.MATRIX, ParamKind.CONV, ParamKind.HEAD, ParamKind.EMBEDDING}


def build(task: TaskView, hp) -> Algorithm:
    transform = kron(
        warmup_linear(hp["learning_rate"], round(hp["horizon"] * task.step_hint), hp["warmup_fraction"]),
        task.param_info,
        b1=hp["b1"],
        weight_decay=hp["weight_decay"],
        precond_lr=hp["precond_lr"],
        max_size_triangular=hp["max_size_triangular"],
        mask=jax.tree.map(lambda info: info.kind in DECAYED, task.param_info),
    )

    def init(params, key):
        """Let the probes depend on the trial's key."""
        return transform.init(params)._replace(seed=jax.random.bits(key, dtype=jnp.uint32))

    return dataclasses.replace(from_optax(transform), init=init)
