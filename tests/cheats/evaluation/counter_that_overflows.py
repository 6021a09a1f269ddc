"""Takes gradient steps in `eval_variables`, in a loop whose counter has 8 bits and passes 127 many times.

It would gain training that counts once, in a loop that reads as if it ran forward twice.
"""

import jax
import jax.numpy as jnp
import optax

from harness.api import Algorithm
from harness.optim.optax_adapter import from_optax


def build(task, hp):
    base = from_optax(optax.sgd(0.1))

    def eval_variables(loss, state, batches, key):
        batch = jax.tree.map(lambda x: x[0], batches)

        def forward(held):
            number, params = held
            value, _ = loss.value(params, state.model_state, batch, key)
            return number + jnp.int8(85), jax.tree.map(lambda p: p * (1 + 1e-9 * value), params)

        going = lambda held: held[0] < jnp.int8(127)  # noqa: E731
        _, params = jax.lax.while_loop(going, forward, (jnp.int8(0), state.params))
        return params, state.model_state

    return Algorithm(init=base.init, step=base.step, eval_variables=eval_variables, recalibration_batches=2)
