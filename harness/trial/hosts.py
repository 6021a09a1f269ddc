"""One trial by several processes, each on a host of its own: all run the same loop, the first one decides and writes.

Every process has the same arrays in mind and calls the same programs in the same order. What depends on a clock or a
signal (when to end, to save, to run the yardstick) is what the first process says, so that none waits for another that
went elsewhere. The run folder lies where all can read it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np

from harness import errors
from harness.errors import HarnessError

T = TypeVar("T")

MOST_BYTES = 4096  # of what the first process says at a time
MEETING_S = 3600  # in which the slowest process compiles
HEARTBEAT_S = 30  # a process that gave no sign of life for so long is lost
_MEETINGS = itertools.count()  # of which no two have a name in common


@dataclass(frozen=True)
class Joined:
    """Which of the processes of a trial this one is.

    Attributes:
      coordinator: address of the first one, as `host:port`.
      processes: how many there are.
      process: the number of this one, from 0.
    """

    coordinator: str
    processes: int
    process: int

    def join(self) -> None:
        """Wait for the others and see their devices from now on. Comes before the first use of a device."""
        jax.distributed.initialize(
            self.coordinator, self.processes, self.process, heartbeat_timeout_seconds=HEARTBEAT_S
        )


def first() -> bool:
    """Whether this is the process that decides and writes; the only one is."""
    return bool(jax.process_index() == 0)


def agreed(value: T) -> T:
    """Return what the first process has here: JSON values."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    line = np.frombuffer(json.dumps(value).encode()[:MOST_BYTES].ljust(MOST_BYTES), np.uint8)
    said: T = json.loads(np.asarray(multihost_utils.broadcast_one_to_all(line)).tobytes())
    return said


def by_first(function: Callable[[], T]) -> T | None:
    """Return what a function gives, which the first process alone calls; None in the others. A HarnessError that it
    raises ends all of them alike: the others would wait for the first one.
    """
    if jax.process_count() == 1:
        return function()
    made, error = None, None
    if first():
        try:
            made = function()
        except HarnessError as raised:
            error = raised
    kind = agreed(None if error is None else type(error).__name__)
    if error is not None:
        raise error
    if kind is not None:
        raise getattr(errors, kind, HarnessError)("the first process ended the trial, and its result says why")
    return made


def meet() -> None:
    """Return once all processes have come here, however long they take: the first time that they send each other arrays
    they wait for half a minute, which is less than one may need longer than another to compile.
    """
    if jax.process_count() > 1:
        from jax._src.distributed import global_state  # jax has no other name for it

        client: Any = global_state.client
        client.wait_at_barrier(f"meeting {next(_MEETINGS)}", timeout_in_ms=1000 * MEETING_S)


def wait_for_all() -> None:
    """Return once all processes have come here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("chunk")


def on_host(array: jax.Array) -> np.ndarray:
    """Return the whole array; where parts of it lie with other processes, all of them call this."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
