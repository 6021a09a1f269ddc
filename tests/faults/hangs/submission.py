"""A planted fault: where the learning rate is above a half, a loop in the step never ends from step 150 on, which is
past what warming up takes.
"""

import jax
import jax.numpy as jnp
import optax

from harness.api import Algorithm
from harness.optim.optax_adapter import from_optax


def build(task, hp):
    base = from_optax(optax.sgd(hp["learning_rate"]))

    def step(loss, state, batch, key):
        new, metrics = base.step(loss, state, batch, key)
        stuck = (state.step >= 150) & (hp["learning_rate"] > 0.5)
        left = jax.lax.while_loop(lambda left: left >= 1, lambda left: 5 * left % 1009 + 1, jnp.where(stuck, 1, 0))
        return new, metrics | {"left": jnp.float32(left)}

    return Algorithm(init=base.init, step=step)
