"""BatchNorm recalibration: running statistics estimated anew on training batches before each evaluation, on the
clock.
"""

import jax
import optax

from harness.api import Algorithm
from harness.optim.optax_adapter import from_optax

BATCHES = 5


def build(task, hp):
    base = from_optax(optax.adam(hp["learning_rate"]))

    def eval_variables(loss, state, batches, key):
        model_state = state.model_state
        for i in range(BATCHES):
            batch = jax.tree.map(lambda x, i=i: x[i], batches)
            _, model_state = loss.value(state.params, model_state, batch, key, train=True)
        return state.params, model_state

    return Algorithm(
        init=base.init,
        step=base.step,
        eval_variables=eval_variables,
        recalibration_batches=BATCHES,
    )
