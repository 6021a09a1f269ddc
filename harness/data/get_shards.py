"""Getting the shards of a data set that is kept as published (`harness.data.sharded`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from harness.data import fetch, sharded, shards
from harness.data.specs import DataSet
from harness.errors import DataError

_SPARE = 64 * 2**20  # bytes that are left free


def get(
    dataset: DataSet, folder: Path, downloads: Path, training: int, mirror: str | None, show: fetch.Show,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Get the validation shard and the first `training` training shards, but for those that are there and whole. Of
    whole ones that somebody has put there the hash is noted.

    Each is put in its place once it is whole, so that an interrupted call is gone on with where it was. Raises
    `DataError` for a shard that cannot be had or is none; a downloaded one is kept aside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked = dataset.files[: training + 1]
    for name in (file.name for file in asked):
        if _adopted(dataset, folder / name):
            say(f"{dataset.name}: {folder / name} was there and is whole; its hash is noted")
    wanted = [file for file in asked if not sharded.is_whole(folder / file.name)]
    needed, free = sum(file.bytes for file in wanted) + _SPARE, shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"data set {dataset.name} needs {needed / 2**20:.0f} MiB for {len(wanted)} shards, {folder} has "
            f"{free / 2**20:.0f} MiB free; make room, ask for fewer with --shards, or choose another folder with the "
            "environment variable HARNESS_DATA"
        )
    for file in wanted:
        came = fetch.fetch(file, downloads, mirror, show)
        try:
            shards.check_vocabulary(shards.map_shard(came.path), dataset.vocabulary, came.source)
        except DataError as error:
            if not came.ours:
                raise
            kept = fetch.set_aside(came.path)
            raise DataError(f"{error}. Refused and kept as {kept}; the same command downloads it anew") from error
        making = folder / f".{file.name}.making"
        if came.ours:
            shutil.move(came.path, making)
        else:
            shutil.copyfile(came.path, making)
        sharded.note(folder, file.name, shards.sha256(making))
        making.rename(folder / file.name)
        say(f"{dataset.name}: {file.name} from {came.source}")
    say(f"{dataset.name}: {training} training shards and the validation shard are in {folder}")


def _adopted(dataset: DataSet, path: Path) -> bool:
    """Note the hash of a whole shard of which none is noted; return whether there was one."""
    if path.name in sharded.noted(path.parent):
        return False
    try:
        shards.check_vocabulary(shards.map_shard(path), dataset.vocabulary, str(path))
    except DataError:
        return False
    sharded.note(path.parent, path.name, shards.sha256(path))
    return True
