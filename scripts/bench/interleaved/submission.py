"""AdamW whose `control` hands over to bench_loop.py between two chunks of the harness's loop."""

from collections.abc import Callable

import optax

from harness.api import Algorithm, Progress
from harness.optim.optax_adapter import from_optax

between: Callable[[Progress], None] = lambda progress: None  # noqa: E731 - set by bench_loop.py


def build(task, hp):
    base = from_optax(optax.adamw(hp["learning_rate"]))
    return Algorithm(init=base.init, step=base.step, control=lambda progress: between(progress))
