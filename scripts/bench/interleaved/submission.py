"""AdamW, as bench_loop.py writes it by hand beside the harness's loop."""

import optax


def build(task, hp):
    return optax.adamw(hp["learning_rate"])
