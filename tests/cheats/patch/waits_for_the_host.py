"""Writes into the step that it reads from the host, which nothing ever sends.

It would gain a channel to a process that has one end of it, or a trial that stands still off the clock.
"""

import optax

from ._rewriting import first_in_main, rewrite_step

READ = """%t = stablehlo.create_token : !stablehlo.token
    %in:2 = "stablehlo.infeed"(%t) <{infeed_config = "", layout = [[0]]}> : (!stablehlo.token) -> (tensor<4xf32>, !stablehlo.token)"""  # noqa: E501


def build(task, hp):
    rewrite_step(lambda text: first_in_main(text, READ))
    return optax.sgd(0.1)
