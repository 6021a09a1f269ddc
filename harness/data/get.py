"""Getting a data set: its files from a mirror or their public addresses, prepared once into its place."""

from __future__ import annotations

from pathlib import Path

from harness.data import store
from harness.data.specs import DataSet
from harness.errors import DataError


def get(name: str, mirror: str | None = None) -> None:
    """Download and prepare a data set where it is not there yet. Raises `DataError` where that fails."""
    dataset = store.find(name)
    with store.hold(name):
        arrays = dataset.prepare(*_paths(dataset, mirror))
        store.write(dataset, arrays, mirror or dataset.source)


def _paths(dataset: DataSet, mirror: str | None) -> list[Path]:
    if mirror is None:
        raise DataError("no download yet; use --mirror")
    return [next(Path(mirror) / m for m in file.mirror if (Path(mirror) / m).exists()) for file in dataset.files]
