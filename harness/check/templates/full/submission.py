"""Nesterov momentum with warm-up and cosine decay, evaluated at an average of the parameters."""

import jax
import jax.numpy as jnp

from harness.api import Algorithm, TaskView
from harness.optim.schedules import warmup_cosine


def build(task: TaskView, hp) -> Algorithm:
    schedule = warmup_cosine(hp["learning_rate"], round(hp["horizon"] * task.step_hint), warmup_fraction=0.05)

    def init(params, key):
        """Return the state: arrays only. `key` is for whatever is drawn at the start."""
        return {"velocity": jax.tree.map(jnp.zeros_like, params), "average": jax.tree.map(jnp.copy, params)}

    def step(loss, state, batch, key):
        """Take one step. The gradient may be taken as often as you like, at any parameters: it is all on the clock."""
        (value, model_state), grads = loss.value_and_grad(state.params, state.model_state, batch, key)
        rate, momentum, decay = schedule(state.step), hp["momentum"], hp["average_decay"]
        velocity = jax.tree.map(lambda v, g: momentum * v + g, state.opt_state["velocity"], grads)
        params = jax.tree.map(lambda p, v, g: p - rate * (momentum * v + g), state.params, velocity, grads)
        average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.opt_state["average"], params)
        opt_state = {"velocity": velocity, "average": average}
        return state._replace(params=params, opt_state=opt_state, model_state=model_state), {"loss": value}

    def eval_variables(loss, state, batches, key):
        """Return what is evaluated. May run the loss forward; `batches` are training data, if asked for."""
        return state.opt_state["average"], state.model_state

    return Algorithm(init=init, step=step, eval_variables=eval_variables)
