"""Data sets that are kept as folders of classes: `train/CLASS/*.JPEG` and `val/CLASS/*.JPEG`.

No hash is pinned, and nothing is downloaded. `index` decodes every image once and notes its size and checksum; from
then on a changed folder is noticed when it is listed, and a changed file when it is read.

An image that does not decode is named and counted, and there is no index while there is one. Whoever accepts those
lists them in `excluded.txt`: for each stands the next image of its class, and the index holds what was excluded.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import DataError, beneath
from harness.machine.hardware import usable_cores

SPLITS = ("train", "val")
SUFFIXES = (".jpeg", ".jpg")  # in any case
INDEX, EXCLUDED, UNDECODABLE = "index.npz", "excluded.txt", "undecodable.txt"
SCHEMA = 1

_COLUMNS = ("names", "labels", "sizes", "lengths", "crc32")
_NAMED = 3  # of several that are wrong, in a message
_AHEAD = 4096  # files that are read ahead of what was noted

Show = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Files:
    """Image files and what was noted of each when they were indexed.

    Attributes:
      folder: that the names start from.
      names: bytes[n], paths.
      labels: uint16[n], the number of the class.
      sizes: uint16[n, 2], height and width in pixels.
      lengths, crc32: uint32[n], bytes of the content and their checksum.
    """

    folder: Path
    names: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    lengths: np.ndarray
    crc32: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: np.ndarray) -> Files:
        """Return these files alone."""
        kept = (self.names, self.labels, self.sizes, self.lengths, self.crc32)
        return Files(self.folder, *(array[rows] for array in kept))

    def path(self, row: int) -> Path:
        """Return the path of a file."""
        return self.folder / os.fsdecode(self.names[row])

    def read(self, row: int) -> bytes:
        """Return the content of a file; `DataError` where it cannot be read or is not what was indexed."""
        path = self.path(row)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise beneath(error) or DataError(
                f"{path} cannot be read ({error.strerror}); put it back in its place"
            ) from None
        found, noted = (len(content), zlib.crc32(content)), (int(self.lengths[row]), int(self.crc32[row]))
        if found != noted:
            raise DataError(
                f"{path}: {found[0]} bytes with CRC {found[1]:08x}, when it was indexed it had {noted[0]} with "
                f"{noted[1]:08x}; put the file of then in its place"
            )
        return content


@dataclass(frozen=True)
class Index:
    """What a folder holds.

    Attributes:
      classes: names, sorted; a label is a place among them.
      splits: the files of `train` and of `val`, sorted by class, then by name.
      excluded: names of files that others stand for.
      sha256: of all this.
    """

    classes: tuple[str, ...]
    splits: dict[str, Files]
    excluded: tuple[str, ...]
    sha256: str


def read(folder: Path) -> Index:
    """Return the index of a folder. Raises `DataError` where there is none, or files came, went, or got other names."""
    path, command = folder / INDEX, f"harness data get {folder.name}"
    if not path.is_file():
        list_names(folder)  # which says what is missing
        if (folder / UNDECODABLE).is_file():
            raise DataError(
                f"{folder} has no index: {folder / UNDECODABLE} lists images that do not decode. Put whole files in "
                f"their place, or rename the list to {EXCLUDED}; then type: {command}"
            )
        raise DataError(f"{folder} is not indexed yet; index it with: {command}")
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = dict(held)
        if arrays["schema"] != SCHEMA:
            raise DataError(f"{path}: schema {arrays['schema']}, expected {SCHEMA}; remove it, then type: {command}")
        splits = {s: Files(folder, *(arrays[f"{s} {column}"] for column in _COLUMNS)) for s in SPLITS}
        excluded = _decoded(arrays["excluded"])
        index = Index(_decoded(arrays["classes"]), splits, excluded, _sha256(arrays))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}); remove it, then type: {command}") from None
    indexed = {name for files in splits.values() for name in _decoded(files.names)} | set(excluded)
    found = set(list_names(folder))
    if indexed != found:
        gone, new = sorted(indexed - found), sorted(found - indexed)
        raise DataError(
            f"{folder} has changed since it was indexed: {_several(gone)} gone, {_several(new)} new; put them back as "
            f"they were, or remove {path} and type: {command}"
        )
    return index


def verify(folder: Path) -> None:
    """Read every file anew; `DataError` for the first that is not what was indexed."""
    index = read(folder)
    for files in index.splits.values():
        for _ in _side_by_side(partial(_read, files), range(len(files))):
            pass


def make(folder: Path, size_of: Callable[[bytes], tuple[int, int]], show: Show, say: Callable[[str], None]) -> Index:
    """Index a folder: read every image, and write what was noted in one piece.

    `size_of` decodes an image and returns its height and width, or raises `DataError` (`harness.data.jpeg.size_of`).
    Raises `DataError` where there are no classes, those of `train` and `val` differ, or images do not decode that
    `excluded.txt` does not list; `undecodable.txt` then lists them.
    """
    names = list_names(folder)
    total, done = sum((folder / name).stat().st_size for name in names), 0
    broken: dict[str, str] = {}
    noted: dict[str, tuple[int, int, int, int]] = {}

    def note(name: str) -> tuple[str, tuple[int, int, int, int] | str, int]:
        content = (folder / name).read_bytes()
        try:
            return name, (*size_of(content), len(content), zlib.crc32(content)), len(content)
        except DataError as error:
            return name, str(error), len(content)

    for name, facts, size in _side_by_side(note, names):
        done += size
        show(folder.name, done, total)
        if isinstance(facts, str):
            broken[name] = facts
        else:
            noted[name] = facts
    excluded = _excluded(folder, set(names), broken)
    if len(excluded) < len(broken):
        (folder / UNDECODABLE).write_text("".join(f"{name}\n" for name in broken))
        told = [f"{name} ({why})" for name, why in broken.items() if name not in excluded]
        raise DataError(
            f"{len(told)} of {len(names)} images do not decode: {_first(told)}. {folder / UNDECODABLE} lists them. Put "
            "whole files in their place; or accept that for each the next image of its class stands, by renaming the "
            f"list to {EXCLUDED}. Then type the same again"
        )
    arrays: dict[str, Any] = _arrays(names, noted, excluded)
    making = folder / f".{INDEX}.making"
    with making.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    making.rename(folder / INDEX)
    (folder / UNDECODABLE).unlink(missing_ok=True)
    index = read(folder)
    counts = " and ".join(f"{len(index.splits[split]):,} in {split}" for split in SPLITS)
    say(f"{folder.name}: {counts}, in {len(index.classes):,} classes; {len(excluded)} excluded; in {folder / INDEX}")
    return index


def list_names(folder: Path) -> list[str]:
    """Return the files of all classes of both splits, as `SPLIT/CLASS/NAME`, sorted; `DataError` where some lack."""
    found, classes = [], {}
    for split in SPLITS:
        place = folder / split
        if not place.is_dir():
            raise DataError(
                f"no folder {place}, where images are expected as {split}/CLASS/NAME.JPEG; put it there, or a link to "
                f"where it is, then type: harness data get {folder.name}"
            )
        classes[split] = sorted(entry.name for entry in os.scandir(place) if entry.is_dir())
        for name in classes[split]:
            own = sorted(
                n.name for n in os.scandir(place / name) if n.name.lower().endswith(SUFFIXES) and n.name[0] != "."
            )
            if not own:
                raise DataError(f"{place / name} holds no file {' or '.join(SUFFIXES)}; a class has at least one image")
            found += [f"{split}/{name}/{n}" for n in own]
    train, val = (set(classes[split]) for split in SPLITS)
    if train != val or not train:
        hint = "; sort its files into folders of their classes" if not val else ""
        raise DataError(
            f"{folder}: train has {len(train)} folders of classes, val {len(val)}; in one alone: "
            f"{_several(sorted(train ^ val))}{hint}. Both must have the same"
        )
    return found


def _side_by_side(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """Yield the results in order, some thousands of calls at a time in threads."""
    with ThreadPoolExecutor(usable_cores(), "decoding") as pool:
        for start in range(0, len(items), _AHEAD):
            yield from pool.map(function, items[start : start + _AHEAD])


def _read(files: Files, row: int) -> None:
    files.read(row)


def _excluded(folder: Path, names: set[str], broken: dict[str, str]) -> list[str]:
    """Return what `excluded.txt` lists. Raises `DataError` for what is not there, or decodes."""
    path = folder / EXCLUDED
    listed = sorted({line.strip() for line in path.read_text().splitlines() if line.strip()}) if path.exists() else []
    if wrong := [name for name in listed if name not in broken]:
        why = "decodes" if wrong[0] in names else "is not there"
        raise DataError(f"{path} lists {wrong[0]}, which {why}; take it out of the list, then type the same again")
    return listed


def _arrays(
    names: list[str], noted: dict[str, tuple[int, int, int, int]], excluded: list[str]
) -> dict[str, np.ndarray]:
    classes = sorted({name.split("/")[1] for name in names})
    arrays = {"schema": np.array(SCHEMA), "classes": _encoded(classes), "excluded": _encoded(excluded)}
    for split in SPLITS:
        own = [name for name in names if name.startswith(f"{split}/")]
        taken = [name if name in noted else _stand_in(name, own, noted) for name in own]
        facts = np.array([noted[name] for name in taken], np.int64)
        columns = {
            "names": _encoded(taken),
            "labels": np.searchsorted(classes, [name.split("/")[1] for name in own]).astype(np.uint16),
            "sizes": facts[:, :2].astype(np.uint16),
            "lengths": facts[:, 2].astype(np.uint32),
            "crc32": facts[:, 3].astype(np.uint32),
        }
        arrays |= {f"{split} {column}": array for column, array in columns.items()}
    return arrays


def _stand_in(name: str, names: list[str], noted: dict[str, tuple[int, int, int, int]]) -> str:
    """Return the next image of the class that decodes; after the last comes the first."""
    of_class = [other for other in names if other.rpartition("/")[0] == name.rpartition("/")[0]]
    place = of_class.index(name)
    for other in of_class[place:] + of_class[:place]:
        if other in noted:
            return other
    raise DataError(f"no image of the class of {name} decodes")


def _sha256(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
    return digest.hexdigest()


def _encoded(names: Iterable[str]) -> np.ndarray:
    return np.array([os.fsencode(name) for name in names], "S")


def _decoded(names: np.ndarray) -> tuple[str, ...]:
    return tuple(os.fsdecode(name) for name in names.tolist())


def _several(names: list[str]) -> str:
    """Return their number, and the first few."""
    return f"{len(names)} ({_first(names)})" if names else "none"


def _first(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
