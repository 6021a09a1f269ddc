"""Data sets that are kept as they are published, as shards of tokens: the first file of a set is its validation shard,
the others are training shards, of which one may have the first few alone.

No hash of a published shard is pinned here: what came is checked by header, size and vocabulary, its hash is noted when
it is put in its place, and `verify` compares it later.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.data import fetch, shards
from harness.data.specs import DataSet
from harness.errors import DataError

SCHEMA = 1
_SPARE = 64 * 2**20  # bytes that are left free


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


def look(dataset: DataSet, folder: Path) -> None:
    """Raise `DataError` where not even one training shard is there, or a shard is damaged at a glance."""
    paths(dataset, folder, 1)
    for file in dataset.files:
        if (folder / file.name).exists():
            shards.map_shard(folder / file.name)


def verify(dataset: DataSet, folder: Path) -> None:
    """Read every shard that is there: its hash is the one noted, and its tokens are of the vocabulary."""
    look(dataset, folder)
    noted = _noted(folder)
    for file in dataset.files:
        path = folder / file.name
        if not path.exists():
            continue
        if (found := shards.sha256(path)) != noted.get(file.name):
            raise DataError(
                f"{path}: its sha256 is {found}, when it came it was {noted.get(file.name, 'not noted')}; remove it, "
                "then type the command that got it"
            )


def get(
    dataset: DataSet, folder: Path, downloads: Path, training: int, mirror: str | None, show: fetch.Show,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Get the validation shard and the first `training` training shards, but for those that are there and whole.

    Each is put in its place once it is whole, so that an interrupted call is gone on with where it was. Raises
    `DataError` for a shard that cannot be had or is none; a downloaded one is kept aside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [file for file in dataset.files[: training + 1] if not _is_whole(folder / file.name)]
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
        _note(folder, file.name, shards.sha256(making))
        making.rename(folder / file.name)
        say(f"{dataset.name}: {file.name} from {came.source}")
    say(f"{dataset.name}: {training} training shards and the validation shard are in {folder}")


def _is_whole(path: Path) -> bool:
    try:
        shards.map_shard(path)
    except DataError:
        return False
    return path.name in _noted(path.parent)


def _noted(folder: Path) -> dict[str, str]:
    """Return the hashes noted when the shards came; none where the note is damaged."""
    try:
        held = json.loads((folder / "meta.json").read_text())
        return dict(held["shards"]) if held["schema"] == SCHEMA else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _note(folder: Path, name: str, sha256: str) -> None:
    making = folder / ".meta.json.making"
    making.write_text(json.dumps({"schema": SCHEMA, "shards": _noted(folder) | {name: sha256}}, indent=1))
    making.rename(folder / "meta.json")
