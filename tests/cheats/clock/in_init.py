"""Works in `init`: a hundred products of matrices before the first step.

It would gain a start that no step has paid for.
"""

import jax
import jax.numpy as jnp
import optax

from harness.api import Algorithm
from harness.optim.optax_adapter import from_optax


def build(task, hp):
    base = from_optax(optax.sgd(0.1))

    def init(params, key):
        start = jax.random.normal(key, (64, 64))
        worked = jax.lax.fori_loop(0, 100, lambda _, x: jnp.tanh(x @ start), start)
        return base.init(params, key), worked.mean()

    def step(loss, state, batch, key):
        inner, worked = state.opt_state
        new, metrics = base.step(loss, state._replace(opt_state=inner), batch, key)
        return new._replace(opt_state=(new.opt_state, worked)), metrics

    return Algorithm(init=init, step=step)
