"""Writes its numbers as constants of the dialect that StableHLO is often lowered from, which XLA takes as well.

It would gain as many constants as a program has bytes, for a count of StableHLO's own finds none.
"""

import numpy as np
import optax

from ._rewriting import first_in_main, rewrite_step

NUMBERS = np.random.default_rng(0).normal(size=10_000).astype("float32").tobytes().hex()
TYPE = "tensor<10000xf32>"


def build(task, hp):
    held = f'%mine = chlo.constant dense<"0x{NUMBERS}"> : {TYPE}'
    rewrite_step(lambda text: first_in_main(text, held, used=[("%mine", TYPE)]))
    return optax.sgd(0.1)
