"""Hard-example selection (Loshchilov and Hutter 2016, arXiv:1511.06343): four candidates an example, the hardest are
trained on.
"""

import jax
import optax

from harness.api import Algorithm


def build(task, hp):
    base = optax.adam(hp["learning_rate"])

    def step(loss, state, batch, key):
        losses = loss.per_example(state.params, state.model_state, batch, key)
        _, hardest = jax.lax.top_k(losses, task.batch_size)
        chosen = jax.tree.map(lambda x: x[hardest], dict(batch))
        (value, model_state), grads = loss.value_and_grad(state.params, state.model_state, chosen, key)
        updates, opt_state = base.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value, "candidate_loss": losses.mean()}
        return state._replace(params=params, opt_state=opt_state, model_state=model_state), metrics

    return Algorithm(init=lambda params, key: base.init(params), step=step, candidates=4)
