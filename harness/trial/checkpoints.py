"""Checkpoints of a trial through orbax: the training state's arrays, and what the host knows as JSON beside them.

The arrays lie by the names of the program's manifest. Only the newest checkpoint is kept. A save is complete or absent:
a process killed while saving leaves the one before.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

Arrays = Mapping[str, jax.Array]


class Checkpoints:
    """The checkpoints of one run folder. orbax is imported by the first use, which a short trial never comes to."""

    def __init__(self, path: Path):
        self._path = path
        self._opened: Any = None

    @property
    def _checkpointer(self) -> Any:
        if self._opened is None:
            from orbax.checkpoint import v1 as ocp

            logging.getLogger("absl").setLevel(logging.ERROR)
            self._opened = ocp.training.Checkpointer(
                self._path.resolve(),
                preservation_policy=ocp.training.preservation_policies.LatestN(1),
                cleanup_tmp_directories=True,
            )
        return self._opened

    def save(self, step: int, arrays: Arrays, host: dict[str, Any]) -> None:
        """Write the arrays by name and the JSON values of `host`; returns when both are on the disk."""
        held = {name: array for name, array in arrays.items() if array.size}  # orbax refuses empty ones
        self._checkpointer.save(step, held, custom_metadata=host, force=True, overwrite=True)

    def load(self, like: Arrays) -> tuple[dict[str, jax.Array], dict[str, Any]] | None:
        """Return the newest (arrays, host), or None. `like` has the names, shapes, dtypes and placement the arrays are
        to have.
        """
        if not self._path.exists():
            return None
        latest = self._checkpointer.latest
        if latest is None:
            return None
        abstract = {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for name, x in like.items() if x.size
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            held = self._checkpointer.load(latest.step, abstract)
        empty = {name: x for name, x in like.items() if not x.size}
        return held | empty, dict(self._checkpointer.metadata(latest.step).custom_metadata)

    def close(self) -> None:
        """Wait for what is in flight."""
        if self._opened is not None:
            self._opened.close()
