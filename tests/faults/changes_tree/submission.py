"""A planted fault: step adds an entry to the optimizer state."""

import optax

from harness.api import Algorithm
from harness.optim.optax_adapter import from_optax


def build(task, hp):
    base = from_optax(optax.sgd(hp["learning_rate"]))

    def step(loss, state, batch, key):
        new, metrics = base.step(loss, state, batch, key)
        return new._replace(opt_state=(new.opt_state, metrics["loss"])), metrics

    return Algorithm(init=base.init, step=step)
