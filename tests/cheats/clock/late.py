"""Begins its work late, once a clock that is set in the first seconds would be set.

It would gain the work: twenty gradients more on every step from the 100th on, at the price of one.
"""

import jax
import optax

from harness.api import Algorithm
from harness.optim.optax_adapter import from_optax


def build(task, hp):
    base = from_optax(optax.sgd(0.01))

    def step(loss, state, batch, key):
        def more():
            return jax.lax.fori_loop(0, 20, lambda _, held: base.step(loss, held, batch, key)[0], state)

        return base.step(loss, jax.lax.cond(state.step >= 100, more, lambda: state), batch, key)

    return Algorithm(init=base.init, step=step)
