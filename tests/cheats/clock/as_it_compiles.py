"""Has XLA work: a chain of products of numbers that it makes of nothing, which are folded when the program is compiled.

It gains what comes of the chain for nothing where compile time is not scored. It is bounded by what XLA folds.
"""

import jax.numpy as jnp
import optax

SIZE, LINKS = 16, 8


def build(task, hp):
    def schedule(count):
        x = start = jnp.array([[1.0 if i == j else 1 / (2 + i + j) for j in range(SIZE)] for i in range(SIZE)])
        for _ in range(LINKS):
            x = jnp.tanh(jnp.matmul(x, start, precision="highest"))
        return 0.1 + 0.0 * count + 1e-9 * x[0, 0]

    return optax.sgd(schedule)
