"""A planted fault: step returns bfloat16 parameters."""

import jax
import jax.numpy as jnp
import optax

from harness.api import Algorithm
from harness.optim.optax_adapter import from_optax


def build(task, hp):
    base = from_optax(optax.sgd(hp["learning_rate"]))

    def step(loss, state, batch, key):
        new, metrics = base.step(loss, state, batch, key)
        return new._replace(params=jax.tree.map(lambda p: p.astype(jnp.bfloat16), new.params)), metrics

    return Algorithm(init=base.init, step=step)
