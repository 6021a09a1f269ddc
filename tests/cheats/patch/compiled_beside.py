"""Says in its source that it is SGD at 0.1, and comes with a compiled file beside it that says otherwise.

It would gain a program that its published source does not make, and answers of `control` that no hash is over.
"""

import optax


def build(task, hp):
    return optax.sgd(0.1)
