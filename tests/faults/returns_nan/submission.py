"""A planted fault: parameters become NaN at step 30."""

import jax
import jax.numpy as jnp
import optax

from harness.api import Algorithm
from harness.optim.optax_adapter import from_optax


def build(task, hp):
    base = from_optax(optax.sgd(hp["learning_rate"]))

    def step(loss, state, batch, key):
        new, metrics = base.step(loss, state, batch, key)
        bad = jnp.where(state.step == 30, jnp.nan, 0.0)
        return new._replace(params=jax.tree.map(lambda p: p + bad, new.params)), metrics

    return Algorithm(init=base.init, step=step)
