"""A batch-size ramp (Smith et al. 2018, arXiv:1711.00489): a quarter, a half, then the whole of the task's batch."""

import optax

from harness.api import Algorithm, Control
from harness.optim.optax_adapter import from_optax


def build(task, hp):
    full = task.batch_size
    horizon = task.step_hint * full

    def control(progress):
        if progress.examples < horizon / 4:
            return Control(batch_size=full // 4)
        return Control(batch_size=full // 2 if progress.examples < horizon / 2 else full)

    base = from_optax(optax.adam(hp["learning_rate"]))
    return Algorithm(init=base.init, step=base.step, batch_sizes=(full // 4, full // 2, full), control=control)
