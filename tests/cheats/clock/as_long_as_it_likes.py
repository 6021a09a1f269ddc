"""Loops until a number that it keeps says to stop: once on the first steps, often later.

It would gain work that no look at the program, and no check of its first steps, can know of.
"""

import jax
import jax.numpy as jnp
import optax

from harness.api import Algorithm
from harness.optim.optax_adapter import from_optax


def build(task, hp):
    base = from_optax(optax.sgd(0.01))

    def step(loss, state, batch, key):
        until = jnp.where(state.step < 50, 1, 1 + state.step % 40)

        def again(held):
            number, inner = held
            return number + 1, base.step(loss, inner, batch, key)[0]

        _, new = jax.lax.while_loop(lambda held: held[0] < until, again, (jnp.int32(0), state))
        return new, {"loss": loss.value(new.params, new.model_state, batch, key)[0]}

    return Algorithm(init=base.init, step=step)
