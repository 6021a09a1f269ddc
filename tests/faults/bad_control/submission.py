"""Planted faults of the only code that runs beside a trial: `control` goes wrong once training has begun."""

import os
import time

import optax

from harness.api import Algorithm, Control
from harness.optim.optax_adapter import from_optax


def build(task, hp):
    def control(progress):
        if progress.step == 0:
            return None
        if hp["fault"] == "raises":
            raise ValueError("seven is too many")
        if hp["fault"] == "exits":
            os._exit(7)
        if hp["fault"] == "waits":
            time.sleep(3600)
        return "faster" if hp["fault"] == "no answer" else Control(batch_size=7)

    base = from_optax(optax.sgd(hp["learning_rate"]))
    return Algorithm(init=base.init, step=base.step, control=control)
