"""Takes the gradient of half of the batch, and multiplies matrices whose product nothing uses, which XLA leaves out.

It gains half of each step, and no flag: what is counted is StableHLO, before XLA has looked at it.
"""

import jax
import jax.numpy as jnp
import optax

from harness.api import Algorithm
from harness.optim.optax_adapter import from_optax

SIZE = 4096


def build(task, hp):
    base = from_optax(optax.sgd(0.1))

    def step(loss, state, batch, key):
        half = jax.tree.map(lambda x: x[: len(x) // 2], batch)
        new, metrics = base.step(loss, state, half, key)
        large = jnp.broadcast_to(metrics["loss"], (SIZE, SIZE))
        unused = jax.lax.select(jnp.bool_(False), large @ large, large)  # which of the two is known
        return new, metrics | {"more": unused[0, 0]}

    return Algorithm(init=base.init, step=step)
