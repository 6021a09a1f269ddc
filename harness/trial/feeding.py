"""What training arrays a chunk is handed: all of them, or, of a workload that is streamed, a window of the data stream.

The order of the examples is a pure function of key and position (`harness.program.draws`). So window j is a pure
function of key and j: the examples at the positions from j times its span on, read from the columns, sorted by their
number. It has no other state, and a resumed trial and any batch size see the same examples. While a window is trained
on, a thread reads the next one and hands it to the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from harness.api import Key
from harness.program.draws import Arrays, Keys, draw_examples
from harness.program.manifest import Contract
from harness.program.streaming import Column, StreamedData
from harness.program.workload import Data, Splits

NUMBERS = "number of the example"
"""Beside the arrays of a window: int32[rows], sorted."""


class Whole:
    """All training arrays, on the device."""

    def __init__(self, train: Arrays):
        self.train = train

    def at(self, keys: Keys, examples: int) -> Arrays:
        """Return what the steps that follow on so many examples are handed."""
        return self.train

    def recalibration(self, keys: Keys, step: int) -> Arrays:
        """Return what `eval_variables` is handed after so many steps."""
        return self.train

    def calls(self, calls: int, examples: int, size: int) -> int:
        """Return how many of these calls, of `size` examples each, can be made with what `at` returns."""
        return calls

    def close(self) -> None:
        """Drop what is read ahead."""


@dataclass(frozen=True)
class Span:
    """How the data stream is cut into windows.

    Attributes:
      examples: from the beginning of one to that of the next.
      rows: of each: it goes on for one call more, so that a call that begins in it finds all of its examples, and holds
        as many candidates and recalibration batches as the program asks for.
      candidates: examples drawn for each that is counted.
      count: of examples in the training set.
      recalibrates: whether `eval_variables` is handed batches.
    """

    examples: int
    rows: int
    candidates: int
    count: int
    recalibrates: bool


def span_of(data: StreamedData, contract: Contract, dispatch: int) -> Span:
    """Return the windows that a program takes, which makes so many steps in a call."""
    info, candidates = data.info, contract.candidates
    examples = data.window_steps * info.batch_size
    trained = (examples + max(contract.batch_sizes, default=info.batch_size) * dispatch) * candidates
    recalibrated = contract.recalibration_batches * info.batch_size
    return Span(examples, max(trained, recalibrated), candidates, info.num_train_examples, recalibrated > 0)


class Windowed(Whole):
    """The window of the data stream that is trained on; the next one is read meanwhile."""

    def __init__(self, columns: Mapping[str, Column], span: Span):
        self._columns, self._span = columns, span
        self._pool = ThreadPoolExecutor(1, "feeding")
        self._held: tuple[Any, Arrays] | None = None
        self._ahead: dict[Any, Future[Arrays]] = {}
        self._draw = jax.jit(lambda key, seen: draw_examples(key, seen, span.rows, span.count)[0])
        super().__init__(self._read(np.arange(span.rows, dtype=np.int32) % span.count))

    def at(self, keys: Keys, examples: int) -> Arrays:
        j = examples // self._span.examples
        key = (np.asarray(jax.random.key_data(keys.data)).tobytes(), j)
        if self._held is None or self._held[0] != key:
            reading = self._ahead.pop(key, None) or self._start(keys, j)
            self.close()
            self._held = None  # before the new one is there, so that no three of them are
            self._held = key, reading.result()
            # Its examples are drawn now: on the device, which would make them wait behind the steps of this window.
            self._ahead[key[0], j + 1] = self._start(keys, j + 1)
        return self._held[1]

    def recalibration(self, keys: Keys, step: int) -> Arrays:
        if not self._span.recalibrates:
            return self.train
        data_key, _ = jax.random.split(jax.random.fold_in(keys.evaluation, step))
        return self._read(np.asarray(self._draw(data_key, 0)))

    def calls(self, calls: int, examples: int, size: int) -> int:
        left = self._span.examples - examples % self._span.examples
        return min(calls, -(-left // size))

    def close(self) -> None:
        for reading in self._ahead.values():
            reading.cancel()
        self._ahead = {}

    def _start(self, keys: Keys, j: int) -> Future[Arrays]:
        seen = j * self._span.examples * self._span.candidates
        return self._pool.submit(self._read, np.asarray(self._draw(keys.data, seen)))

    def _read(self, numbers: np.ndarray) -> Arrays:
        numbers = np.sort(numbers)
        arrays = {name: column[numbers] for name, column in self._columns.items()}
        return jax.block_until_ready(jax.device_put(arrays | {NUMBERS: numbers}))


def handed(data: Data, contract: Contract, dispatch: int) -> tuple[Data, Mapping[str, Any]]:
    """Return the data whose `batch` takes what a program is handed, and the shapes of that."""
    shapes = {name: (shape, jnp.dtype(dtype)) for name, (shape, dtype) in data.shapes["train"].items()}
    if not isinstance(data, StreamedData):
        return data, {name: jax.ShapeDtypeStruct(*shape) for name, shape in shapes.items()}
    rows = span_of(data, contract, dispatch).rows
    held = {name: jax.ShapeDtypeStruct((rows, *shape[1:]), dtype) for name, (shape, dtype) in shapes.items()}
    return replace(data, batch=partial(_looked_up, data)), held | {NUMBERS: jax.ShapeDtypeStruct((rows,), jnp.int32)}


def feed(
    data: Data, splits: Splits, contract: Contract, dispatch: int, put: Callable[[Any], Any] = jax.device_put
) -> tuple[Data, Whole]:
    """Return the data whose `batch` takes what a program is handed, and what hands it the training arrays.

    `put` puts arrays that are held whole on the device, or on several; a workload that is streamed has one device.
    """
    fed, _ = handed(data, contract, dispatch)
    if isinstance(data, StreamedData):
        return fed, Windowed(splits.train, span_of(data, contract, dispatch))
    return fed, Whole(jax.block_until_ready(put(dict(splits.train))))


def _looked_up(data: Data, window: Mapping[str, jax.Array], examples: jax.Array, key: Key) -> dict[str, jax.Array]:
    """Return the batch of these examples, which are in the window. In place of others, which only the yardstick and
    warm-up ask for, come some that are there.
    """
    numbers = window[NUMBERS]
    rows = jnp.minimum(jnp.searchsorted(numbers, examples, method="compare_all"), len(numbers) - 1)
    rows = jnp.where(numbers[rows] == examples, rows, examples % len(numbers))
    arrays = {name: array for name, array in window.items() if name != NUMBERS}
    return data.batch(arrays, rows, key)
