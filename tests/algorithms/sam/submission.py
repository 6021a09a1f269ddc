"""SAM (Foret et al. 2021, arXiv:2010.01412): the gradient at a point uphill from the parameters; two gradients a
step.
"""

import jax
import optax

from harness.api import Algorithm


def build(task, hp):
    base = optax.adam(hp["learning_rate"])

    def step(loss, state, batch, key):
        (value, model_state), grads = loss.value_and_grad(state.params, state.model_state, batch, key)
        scale = hp["rho"] / (optax.tree.norm(grads) + 1e-12)
        uphill = jax.tree.map(lambda p, g: p + scale * g, state.params, grads)
        _, grads = loss.value_and_grad(uphill, state.model_state, batch, key)
        updates, opt_state = base.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, opt_state=opt_state, model_state=model_state), {"loss": value}

    return Algorithm(init=lambda params, key: base.init(params), step=step)
