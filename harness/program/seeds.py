"""Named random streams from one root seed: init, data, algorithm, tuning. None depends on the submission."""

from __future__ import annotations

import zlib
from typing import Literal

import jax

Stream = Literal["init", "data", "algorithm", "evaluation", "warmup"]


def stream(seed: int, study: int, trial: int, name: Stream, *, tuning: bool = False) -> jax.Array:
    """Return the typed key of the stream `name` of one trial.

    Tuning runs draw from other streams than scoring runs, so a point is never scored on the seeds that chose it.
    """
    key = jax.random.key(seed)
    for part in (zlib.crc32(b"tuning" if tuning else b"scoring"), study, trial, zlib.crc32(name.encode())):
        key = jax.random.fold_in(key, part)
    return key
