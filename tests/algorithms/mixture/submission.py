"""A mixture of sources (Chen et al. 2024, arXiv:2411.05735, section 3, with proportions that stand): of four times the
batch it trains on windows drawn so that each source has its share. Without sources, the examples' numbers stand in.
"""

import jax
import jax.numpy as jnp
import optax

from harness.api import Algorithm

SHARES = (0.5, 0.5, 0.0)


def build(task, hp):
    base = optax.adam(hp["learning_rate"])

    def chosen(batch, key):
        source = batch.get("source", batch["index"] % 2)
        there = jax.nn.one_hot(source, len(SHARES)).sum(axis=0)
        weight = (jnp.array(SHARES) / jnp.maximum(there, 1))[source]  # of one candidate
        drawn = jnp.log(weight) + jax.random.gumbel(key, weight.shape)  # the largest: drawn without replacement
        _, which = jax.lax.top_k(drawn, task.batch_size)
        return jax.tree.map(lambda x: x[which], dict(batch)), source[which]

    def step(loss, state, batch, key):
        batch, source = chosen(batch, key)
        (value, model_state), grads = loss.value_and_grad(state.params, state.model_state, batch, key)
        updates, opt_state = base.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value} | {f"share_{s}": (source == s).mean() for s in range(len(SHARES))}
        return state._replace(params=params, opt_state=opt_state, model_state=model_state), metrics

    return Algorithm(init=lambda params, key: base.init(params), step=step, candidates=4)
