"""Checkpoints of a trial through orbax: the training state's arrays, and what the host knows as JSON beside them.

The arrays lie by the names of the program's manifest. Only the newest checkpoint is kept. A save is complete or absent:
a process killed while saving leaves the one before. A hash over all that is saved tells one that was damaged since.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax

from harness.errors import HarnessError
from harness.trial.hosts import on_host
from harness.trial.stopping import out_of_memory

Arrays = Mapping[str, jax.Array]


class DamagedError(HarnessError):
    """A checkpoint does not hold what was saved."""


class Checkpoints:
    """The checkpoints of one run folder. orbax is imported by the first use, which a short trial never comes to."""

    def __init__(self, path: Path):
        self.path = path
        self._opened: Any = None

    @property
    def _checkpointer(self) -> Any:
        if self._opened is None:
            from orbax.checkpoint import v1 as ocp

            logging.getLogger("absl").setLevel(logging.ERROR)
            self._opened = ocp.training.Checkpointer(
                self.path.resolve(),
                preservation_policy=ocp.training.preservation_policies.LatestN(1),
                cleanup_tmp_directories=True,
            )
        return self._opened

    def save(self, step: int, arrays: Arrays, host: dict[str, Any]) -> None:
        """Write the arrays by name and the JSON values of `host`; returns when both are on the disk."""
        held = {name: array for name, array in arrays.items() if array.size}  # orbax refuses empty ones
        try:
            book = {"host": host, "sha256": digest(held, host)}
            self._checkpointer.save(step, held, custom_metadata=book, force=True, overwrite=True)
        except Exception:
            with suppress(Exception):  # orbax tells of a save that failed once more when it is closed
                self.close()
            self._opened = None
            for left in self.path.glob("*.orbax-checkpoint-tmp"):  # which fills the disk that is full
                shutil.rmtree(left, ignore_errors=True)
            raise

    def load(self, like: Arrays) -> tuple[dict[str, jax.Array], dict[str, Any]] | None:
        """Return the newest (arrays, host), or None. `like` has the names, shapes, dtypes and placement the arrays are
        to have. Raises DamagedError where it is not what was saved, OSError where it cannot be read.
        """
        if not self.path.exists():
            return None
        try:
            found = self._read(like)
        except Exception as error:
            if out_of_memory(error):
                raise
            for file in self.path.rglob("*"):
                if file.is_file():
                    file.read_bytes()  # which tells where it is the machine that cannot
            raise DamagedError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
        if found is None:
            return None
        held, book = found
        if book.get("sha256") != digest(held, book.get("host")):
            raise DamagedError("its hash is another one")
        empty = {name: x for name, x in like.items() if not x.size}
        return held | empty, dict(book["host"])

    def discard(self) -> None:
        """Remove all that is saved."""
        self.close()
        self._opened = None
        shutil.rmtree(self.path)

    def _read(self, like: Arrays) -> tuple[dict[str, jax.Array], dict[str, Any]] | None:
        """Return arrays and metadata of the newest checkpoint as they lie there."""
        latest = self._checkpointer.latest
        if latest is None:
            return None
        abstract = {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for name, x in like.items() if x.size
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            held = self._checkpointer.load(latest.step, abstract)
        return held, dict(self._checkpointer.metadata(latest.step).custom_metadata)

    def close(self) -> None:
        """Wait for what is in flight."""
        if self._opened is not None:
            self._opened.close()


def digest(arrays: Arrays, host: Any) -> str:
    """Return the SHA-256 over name, dtype, shape and bytes of each array, and over the JSON value beside them."""
    hashed = hashlib.sha256(json.dumps(host, sort_keys=True).encode())
    for name in sorted(arrays):
        array = on_host(arrays[name])
        hashed.update(f"{name} {array.dtype} {array.shape}\n".encode())
        hashed.update(array.tobytes())
    return hashed.hexdigest()
