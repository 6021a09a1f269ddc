"""Checkpoints of a trial through orbax: the training state's arrays, and what the host knows as JSON beside them.

Only the newest is kept. A save is complete or absent: a process killed while saving leaves the one before.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import jax

from harness.api import PyTree


class Checkpoints:
    """The checkpoints of one run folder."""

    def __init__(self, path: Path):
        # Imported here: a run short enough to need no checkpoint does not wait for it.
        from orbax.checkpoint import v1 as ocp

        logging.getLogger("absl").setLevel(logging.ERROR)
        self._checkpointer = ocp.training.Checkpointer(
            path.resolve(),
            preservation_policy=ocp.training.preservation_policies.LatestN(1),
            cleanup_tmp_directories=True,
        )

    def save(self, step: int, state: PyTree, host: dict[str, Any]) -> None:
        """Write the arrays of `state` and the JSON values of `host`; returns when both are on the disk."""
        self._checkpointer.save(step, state, custom_metadata=host, force=True, overwrite=True)

    def load(self, like: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
        """Return the newest (state, host), or None. `like` has the shapes, dtypes and placement the arrays are to
        have.
        """
        latest = self._checkpointer.latest
        if latest is None:
            return None
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            state = self._checkpointer.load(latest.step, abstract)
        return state, dict(self._checkpointer.metadata(latest.step).custom_metadata)

    def close(self) -> None:
        """Wait for what is in flight."""
        self._checkpointer.close()
