"""A planted fault: a warm-up counts its steps in Python, which is traced once: it stands still at 1/50."""

import jax
import optax

from harness.api import Algorithm
from harness.optim.optax_adapter import from_optax


def build(task, hp):
    base = from_optax(optax.sgd(hp["learning_rate"]))
    steps = 0

    def step(loss, state, batch, key):
        nonlocal steps
        steps += 1
        new, metrics = base.step(loss, state, batch, key)
        share = min(1.0, steps / 50)
        return new._replace(params=jax.tree.map(lambda p, q: p + share * (q - p), state.params, new.params)), metrics

    return Algorithm(init=base.init, step=step)
