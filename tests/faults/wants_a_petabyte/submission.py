"""A planted fault: the optimizer state does not fit into any memory."""

import jax.numpy as jnp

from harness.api import Algorithm


def build(task, hp):
    def step(loss, state, batch, key):
        value, _ = loss.value(state.params, state.model_state, batch, key)
        return state._replace(opt_state=state.opt_state + 1), {"loss": value}

    return Algorithm(init=lambda params, key: jnp.zeros((1 << 25, 1 << 25), jnp.uint8), step=step)
