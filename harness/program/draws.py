"""What chance decides of a trial's steps: which examples, and the keys of augmentation and of the submission.

Pure functions of the trial's keys and of how far it is, so that a resumed trial and any batch size see the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from harness.api import Batch
from harness.program.data_order import batch_indices

Arrays = Mapping[str, jax.Array]
"""Arrays of a split on the device, the example axis first."""
BatchOf = Callable[[Arrays, jax.Array, jax.Array], dict[str, jax.Array]]
"""`harness.program.workload.Data.batch`: (training arrays, int32[B], key) -> the batch."""


class Keys(NamedTuple):
    """The typed keys of one trial's streams (`harness.program.seeds`)."""

    init: jax.Array
    data: jax.Array
    algorithm: jax.Array
    evaluation: jax.Array


class Draw(NamedTuple):
    """What chance decides of one step, but for what the workload's loss draws.

    Attributes:
      examples: int32[candidates x batch size], their numbers.
      batch_key: of their augmentation.
      key: what the submission's `step` is handed.
    """

    examples: jax.Array
    batch_key: jax.Array
    key: jax.Array


def draw_step(
    keys: Keys, seen: jax.Array, step: jax.Array, size: int, *, num_examples: int, candidates: int = 1
) -> Draw:
    """Return the draw of the step of `size` examples that comes after `seen` examples and so many steps.

    `num_examples` are in the training set.
    """
    examples = draw_examples(keys.data, seen * candidates, size * candidates, num_examples)
    return Draw(*examples, jax.random.fold_in(keys.algorithm, step))


def draw_examples(key: jax.Array, seen: jax.Array, size: int, num_examples: int) -> tuple[jax.Array, jax.Array]:
    """Return (int32[size], key): the examples at a position of the data stream, and the key of their augmentation."""
    order_key, batch_key = jax.random.split(key)
    return batch_indices(order_key, seen, size, num_examples), jax.random.fold_in(batch_key, seen)


def take_batch(batch: BatchOf, train: Arrays, examples: jax.Array, key: jax.Array) -> Batch:
    """Return the batch of these examples, with their numbers in it."""
    return batch(train, examples, key) | {"index": examples}


def draw_recalibration(key: jax.Array, step: jax.Array, count: int, size: int, *, num_examples: int) -> Draw:
    """Return the draw of a call of `eval_variables` after so many steps: `examples` and `batch_key` of each of `count`
    batches of `size` examples, on a leading axis. `key` is that of the stream.
    """
    data_key, own_key = jax.random.split(jax.random.fold_in(key, step))
    drawn = [draw_examples(data_key, jnp.int32(i * size), size, num_examples) for i in range(count)]
    examples, batch_keys = (jnp.stack(part) for part in zip(*drawn, strict=True))
    return Draw(examples, batch_keys, own_key)


def recalibration_batches(batch: BatchOf, train: Arrays, draw: Draw) -> Batch:
    """Return the batches that `eval_variables` is handed, stacked on a leading axis."""
    batches = [take_batch(batch, train, *each) for each in zip(draw.examples, draw.batch_key, strict=True)]
    stacked: Batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    return stacked
