"""A planted fault: step calls back to the host, which no program can."""

import jax
import optax

from harness.api import Algorithm
from harness.optim.optax_adapter import from_optax


def look(step):
    if step == 7:
        raise ValueError("seven is too many")


def build(task, hp):
    base = from_optax(optax.sgd(hp["learning_rate"]))

    def step(loss, state, batch, key):
        jax.debug.callback(look, state.step)
        return base.step(loss, state, batch, key)

    return Algorithm(init=base.init, step=step)
