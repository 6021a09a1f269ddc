"""Writes a call of Python into the step, as jax's callbacks to the host are, which jax refuses to serialise.

It would gain a function of its own in the process that holds data, clock and target.
"""

import optax

from ._rewriting import first_in_main, rewrite_step

CALL = (
    "%mine = stablehlo.custom_call @xla_ffi_python_cpu_callback() {api_version = 4 : i32, has_side_effect = true} : "
    "() -> tensor<f32>"
)


def build(task, hp):
    rewrite_step(lambda text: first_in_main(text, CALL))
    return optax.sgd(0.1)
