"""Data sets that are kept as they are published, as shards of tokens: the first file of a set is its validation shard,
the others are training shards, of which one may have the first few alone.

No hash of a published shard is pinned here: what came is checked by header, size and vocabulary, its hash is noted when
it is put in its place, and `verify` compares it later.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.data import shards
from harness.data.specs import DataSet
from harness.errors import DataError

SCHEMA = 1


@dataclass(frozen=True)
class Paths:
    """The shards of a set that are asked for."""

    validation: Path
    train: tuple[Path, ...]


def paths(dataset: DataSet, folder: Path, training: int) -> Paths:
    """Return the paths of the validation shard and of the first `training` training shards.

    Raises `DataError` with the command that gets them where some are missing.
    """
    files = [folder / file.name for file in dataset.files[: training + 1]]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        have = len(files) - len(missing)
        raise DataError(
            f"data set {dataset.name}: {have} of {len(files)} shards are in {folder}, the first that is missing is "
            f"{missing[0]}; get them with: {command(dataset.name, training)}"
        )
    return Paths(files[0], tuple(files[1:]))


def command(name: str, training: int) -> str:
    """Return what to type to get so many training shards."""
    return f"harness data get {name} --shards {training}"


def state(
    dataset: DataSet, folder: Path, training: int | None = None
) -> tuple[Literal["ready", "partial", "missing", "damaged"], str]:
    """Return how a set stands at a glance, and what is wrong: all shards that are there, and whether its workloads have
    enough of them; with `training` the validation shard and the first so many training shards.
    """
    wanted = training or dataset.shards
    files = dataset.files if training is None else dataset.files[: training + 1]
    here = [folder / file.name for file in files if (folder / file.name).exists()]
    try:
        for path in here:
            shards.map_shard(path)
    except DataError as error:
        return "damaged", f"{error}, as this does: {command(dataset.name, wanted)}"
    try:
        paths(dataset, folder, wanted)
    except DataError as error:
        return "partial" if here else "missing", str(error)
    return "ready", ""


def count(dataset: DataSet, folder: Path) -> str:
    """Return how many are there of the shards that the workloads of a set take: "2 of 51 shards"."""
    files = dataset.files[: dataset.shards + 1]
    return f"{sum((folder / file.name).is_file() for file in files)} of {len(files)} shards"


def look(dataset: DataSet, folder: Path) -> None:
    """Raise `DataError` where not even one training shard is there, or a shard is damaged at a glance."""
    paths(dataset, folder, 1)
    for file in dataset.files:
        if (folder / file.name).exists():
            shards.map_shard(folder / file.name)


def verify(dataset: DataSet, folder: Path) -> None:
    """Hash every shard that is there; `DataError` for one whose hash is not that noted when it came."""
    look(dataset, folder)
    hashes = noted(folder)
    for file in dataset.files:
        path = folder / file.name
        if not path.exists():
            continue
        if (found := shards.sha256(path)) != hashes.get(file.name):
            if file.name not in hashes:
                raise DataError(
                    f"{path}: no hash of it is noted, as of a file that was put there by hand; this checks it and "
                    f"notes its hash: {command(dataset.name, max(1, dataset.files.index(file)))}"
                )
            raise DataError(
                f"{path}: its sha256 is {found}, when it came it was {hashes[file.name]}; remove it, then type the "
                "command that got it"
            )


def is_whole(path: Path) -> bool:
    """Return whether a shard is there, whole at a glance, and its hash noted."""
    try:
        shards.map_shard(path)
    except DataError:
        return False
    return path.name in noted(path.parent)


def noted(folder: Path) -> dict[str, str]:
    """Return the hashes noted when the shards came; none where the note is damaged."""
    try:
        held = json.loads((folder / "meta.json").read_text())
        return dict(held["shards"]) if held["schema"] == SCHEMA else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def note(folder: Path, name: str, sha256: str) -> None:
    """Note the hash of a shard that is about to be put in its place."""
    making = folder / ".meta.json.making"
    making.write_text(json.dumps({"schema": SCHEMA, "shards": noted(folder) | {name: sha256}}, indent=1))
    making.rename(folder / "meta.json")
