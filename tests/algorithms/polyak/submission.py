"""SGD with the stochastic Polyak step (Loizou et al. 2021, arXiv:2002.10542): the optax adapter hands over the loss
value.
"""

import optax


def build(task, hp):
    return optax.polyak_sgd(max_learning_rate=hp["max_learning_rate"], f_min=0.0, eps=1e-6)
