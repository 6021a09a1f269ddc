"""Adam evaluated at the exponential moving average of its parameters (Polyak and Juditsky 1992)."""

import jax
import optax

from harness.api import Algorithm


def build(task, hp):
    base = optax.adam(hp["learning_rate"])

    def init(params, key):
        return {"adam": base.init(params), "average": jax.tree.map(lambda p: p + 0, params)}

    def step(loss, state, batch, key):
        (value, model_state), grads = loss.value_and_grad(state.params, state.model_state, batch, key)
        updates, adam = base.update(grads, state.opt_state["adam"], state.params)
        params = optax.apply_updates(state.params, updates)
        average = optax.incremental_update(params, state.opt_state["average"], 1 - hp["decay"])
        opt_state = {"adam": adam, "average": average}
        return state._replace(params=params, opt_state=opt_state, model_state=model_state), {"loss": value}

    def eval_variables(loss, state, batches, key):
        return state.opt_state["average"], state.model_state

    return Algorithm(init=init, step=step, eval_variables=eval_variables)
