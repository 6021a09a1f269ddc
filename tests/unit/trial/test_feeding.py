"""Streamed training arrays: the same bits as arrays that are wholly on the device, whatever is trained in which order,
and windows that depend on key and position alone.
"""

from __future__ import annotations

import dataclasses
import threading

import in_process
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from harness.errors import DataError
from harness.optim.optax_adapter import from_optax
from harness.program import discovery
from harness.program.draws import Keys
from harness.program.streaming import StreamedData
from harness.program.workload import Data
from harness.trial import feeding
from harness.trial.programs import Inputs, compile_programs

QUADRATIC = discovery.load_workload(discovery.find("workloads", "quadratic"))
RESIDENT = Data(QUADRATIC.info, QUADRATIC.shapes, QUADRATIC.splits, QUADRATIC.batch)
SPLITS = RESIDENT.load()
OWN = in_process.workload_program(QUADRATIC)
KEYS = Keys(*(jax.random.key(k) for k in range(4)))
BASE = from_optax(optax.adam(0.05))
DISPATCH = 2
SIZES = [32, 8]


class Column:
    """An array that is read in parts, and not while this process's own thread trains."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.read: list[tuple[str, int]] = []

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        self.read.append((threading.current_thread().name, len(rows)))
        return self.array[rows]


def streamed(window_steps: int = 7) -> StreamedData:
    fields = {field.name: getattr(RESIDENT, field.name) for field in dataclasses.fields(Data)}
    splits = dataclasses.replace(SPLITS, train={name: Column(array) for name, array in SPLITS.train.items()})
    return StreamedData(**fields | {"splits": lambda: splits}, window_steps=window_steps)


def eval_variables(loss, state, batches, key):
    return jax.tree.map(lambda p: p + batches["x"].mean() + batches["index"].sum(), state.params), state.model_state


@pytest.fixture(scope="module")
def program():
    algorithm = dataclasses.replace(
        BASE, candidates=2, batch_sizes=tuple(SIZES), eval_variables=eval_variables, recalibration_batches=3
    )
    return in_process.submission_program(QUADRATIC, OWN, algorithm)


def trained(data: Data, program, plan: list[tuple[int, int]], start=None):
    """Return the state, losses and evaluated variables after (batch size, calls) of the plan."""
    fed, feed = feeding.feed(data, data.load(), program.manifest.contract, DISPATCH)
    part = jax.device_put(dict(SPLITS.validation_slice))
    made = compile_programs(fed, OWN, program, feed.train, part, platform="cpu", dispatch_steps=DISPATCH)
    inputs, losses = Inputs(KEYS), []
    state = made.init(inputs) if start is None else jax.tree.map(jnp.array, start)
    for size, wanted in plan:
        while wanted:
            examples = int(state.examples)
            calls = feed.calls(wanted, examples, size * DISPATCH)
            arrays, order = feed.at(KEYS, examples), made.steps[size].order(state, inputs)
            for _ in range(calls):
                state, metrics = made.steps[size](state, inputs, arrays, order)
                losses += np.asarray(metrics["loss"]).tolist()
            wanted -= calls
    return state, losses, made.eval_variables(state, inputs, feed.recalibration(KEYS, int(state.step))), feed


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_streamed_arrays_give_the_bits_of_resident_ones(program):
    """Over an epoch's border, with candidates, recalibration batches, several steps a call and a changing batch size
    that divides no window.
    """
    plan = [(32, 13), (8, 9), (32, 10)]
    whole, losses, evaluated, _ = trained(RESIDENT, program, plan)
    found, found_losses, found_evaluated, feed = trained(streamed(), program, plan)
    assert int(whole.examples) * 2 > len(SPLITS.train["x"]), "an epoch"
    assert losses == found_losses
    assert same(whole, found)
    assert same(evaluated, found_evaluated)
    assert isinstance(feed, feeding.Windowed)
    assert len(feed.train["x"]) < len(SPLITS.train["x"])


def test_training_goes_on_from_a_state_with_the_same_bits(program):
    """What is saved is the state alone: another process makes its window anew."""
    data = streamed()
    middle, before, _, _ = trained(data, program, [(32, 5)])
    saved = jax.tree.map(np.asarray, middle)
    whole, losses, *_ = trained(data, program, [(32, 12)])
    found, after, *_ = trained(streamed(), program, [(32, 7)], start=saved)
    assert before + after == losses
    assert same(whole, found)


def test_the_next_window_is_read_in_a_thread_while_one_is_trained_on(program):
    data = streamed()
    contract = program.manifest.contract
    _, feed = feeding.feed(data, data.load(), contract, DISPATCH)
    column = data.load().train["x"]
    span = feeding.span_of(data, contract, DISPATCH)
    first = feed.at(KEYS, 0)
    feed._pool.submit(int).result()  # whatever was asked of the thread is done
    reads = len(column.read)
    assert feed.at(KEYS, span.examples - 1) is first, "the same window up to its end"
    second = feed.at(KEYS, span.examples)
    feed._pool.submit(int).result()
    assert len(column.read) == reads + 1, "it was read ahead; the one read since is the third"
    assert {name.partition("_")[0] for name, _ in column.read[1:]} == {"feeding"}
    other = Keys(*(jax.random.key(9) for _ in Keys._fields))
    assert not same(feed.at(other, span.examples), second), "another study has another order"
    assert same(feed.at(KEYS, span.examples), second)


def test_what_cannot_be_read_ahead_is_told_by_the_trial(program):
    data = streamed()
    _, feed = feeding.feed(data, data.load(), program.manifest.contract, DISPATCH)

    class Broken(Column):
        def __getitem__(self, rows):
            raise DataError("shard 3 is broken")

    feed._columns = {name: Broken(array) for name, array in SPLITS.train.items()}
    with pytest.raises(DataError, match="shard 3 is broken"):
        feed.at(KEYS, 0)
