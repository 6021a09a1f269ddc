"""Prepared data sets: a folder of `.npy` files and a `meta.json` each, below `root()`. Loading maps them into memory.

A set is made in a hidden folder beside its place and renamed at the end, so that what stands in its place is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.data import image_folder, sharded
from harness.data.specs import DATASETS, Arrays, DataSet, get_command
from harness.errors import DataError, beneath, suggest
from harness.machine.cache import cache_folder

SCHEMA = 1

State = Literal["embedded", "ready", "partial", "missing", "damaged"]


def root() -> Path:
    """Return the folder of the prepared sets: HARNESS_DATA, else `data` in the cache folder."""
    own = os.environ.get("HARNESS_DATA")
    return Path(own).expanduser() if own else cache_folder() / "data"


def find(name: str) -> DataSet:
    """Return the data set of that name; `DataError` for an unknown one."""
    if name not in DATASETS:
        raise DataError(f"unknown data set '{name}'; {suggest(name, DATASETS, 'data sets')}")
    return DATASETS[name]


def load(name: str, sha256: str | None = None) -> Arrays:
    """Return the arrays of a set, read-only and mapped into memory. Cheap: nothing is hashed but an embedded set. A set
    of shards or images has none (`harness.data.sharded`, `image_folder`), and is only looked at.

    Raises `DataError` where the set is missing or damaged at a glance, or where its recorded content is not `sha256`.
    """
    dataset = find(name)
    if dataset.shards:
        sharded.look(dataset, root() / name)
        return {}
    if dataset.images:
        image_folder.read(root() / name)
        return {}
    if dataset.embedded:
        arrays = dataset.prepare()
        if sha256 and (held := content_sha256(arrays)) != sha256:
            raise DataError(f"data set {name}: this harness brings content {held}, expected {sha256}")
        return arrays
    meta = read_meta(name)
    if sha256 and meta["sha256"] != sha256:
        mend = (
            f"another version of the harness prepared it; prepare it anew with: {get_command(name)}"
            if sha256 == dataset.sha256
            else f"this version of the harness makes {dataset.sha256}; use the version that the workload was made for"
        )
        raise DataError(f"data set {name} in {root() / name} has content {meta['sha256']}, expected {sha256}: {mend}")
    return _arrays(root() / name, meta)


def read_meta(name: str) -> dict[str, Any]:
    """Return what is recorded of a prepared set: sha256, source, facts, and dtype and shape of each array."""
    path = root() / name / "meta.json"
    try:
        meta = json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"data set {name} is missing from {root()}; get it with: {get_command(name)}") from None
    except (OSError, ValueError) as error:
        raise beneath(error) or DataError(
            f"{path} cannot be read ({error}); mend it with: {get_command(name)}"
        ) from None
    if not isinstance(meta, dict) or meta.get("schema") != SCHEMA:
        raise DataError(f"{path}: expected schema {SCHEMA}; prepare it anew with: {get_command(name)}")
    return meta


def state(name: str, training: int | None = None) -> tuple[State, str]:
    """Return how a set stands as far as can be told without hashing it, and why it cannot be used. A set of shards is
    "partial" where some are missing of the first `training` training shards (default: what its workloads take).
    """
    dataset = find(name)
    if dataset.shards:
        return sharded.state(dataset, root() / name, training)
    try:
        load(name, dataset.sha256)
    except DataError as error:
        return "damaged" if (root() / name).exists() else "missing", str(error)
    return "embedded" if dataset.embedded else "ready", ""


def identity(name: str) -> str | None:
    """Return the hash of what is held of a folder of images: names, sizes and checksums; None for any other set, whose
    specification or shards tell.
    """
    return image_folder.read(root() / name).sha256 if find(name).images else None


def verify(name: str) -> None:
    """Hash a set anew; `DataError` where it is missing or not what its specification says."""
    dataset = find(name)
    if dataset.shards:
        return sharded.verify(dataset, root() / name)
    if dataset.images:
        return image_folder.verify(root() / name)
    arrays = load(name, dataset.sha256)
    digest = dataset.sha256 if dataset.embedded else content_sha256(arrays)  # loading an embedded set has hashed it
    if digest != dataset.sha256:
        raise DataError(
            f"data set {name} is damaged: its content is {digest}, expected {dataset.sha256}; "
            f"mend it with: {get_command(name)}"
        )


def content_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 over name, dtype, shape and little-endian bytes of each array, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@contextmanager
def hold(name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Be the only process that prepares this set; clear what a killed one left. `waiting` is told of another at it."""
    root().mkdir(parents=True, exist_ok=True)
    with (root() / f".{name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in (_making(name), _replaced(name)):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def write(dataset: DataSet, arrays: Arrays, source: str) -> None:
    """Put a prepared set in its place, whole or not at all; for the holder only. Raises `DataError` for other content.

    What is hashed is what was written, read back.
    """
    making, place = _making(dataset.name), root() / dataset.name
    making.mkdir()
    try:
        for name, array in arrays.items():
            with (making / f"{name}.npy").open("wb") as file:
                np.save(file, array)
                file.flush()
                os.fsync(file.fileno())
        meta = {
            "schema": SCHEMA,
            "name": dataset.name,
            "sha256": dataset.sha256,
            "source": source,
            "facts": dict(dataset.facts),
            "arrays": {n: {"dtype": a.dtype.str, "shape": list(a.shape)} for n, a in sorted(arrays.items())},
        }
        digest = content_sha256(_arrays(making, meta))
        if digest != dataset.sha256:
            raise DataError(f"data set {dataset.name}: {source} gave content {digest}, expected {dataset.sha256}")
        with (making / "meta.json").open("w") as file:
            json.dump(meta, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(making)
        if place.exists():  # damaged, or of another version
            place.rename(_replaced(dataset.name))
        making.rename(place)
        _sync_folder(root())
    finally:
        for leftover in (making, _replaced(dataset.name)):
            shutil.rmtree(leftover, ignore_errors=True)


def _arrays(folder: Path, meta: dict[str, Any]) -> Arrays:
    arrays = {}
    for name, expected in meta["arrays"].items():
        path = folder / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is damaged ({error}); mend it with: {get_command(folder.name)}") from None
        if array.dtype.str != expected["dtype"] or list(array.shape) != expected["shape"]:
            raise DataError(
                f"{path} holds {array.dtype.str}{list(array.shape)}, expected {expected['dtype']}{expected['shape']}; "
                f"mend it with: {get_command(folder.name)}"
            )
        arrays[name] = array
    return arrays


def _making(name: str) -> Path:
    return root() / f".{name}.making"


def _replaced(name: str) -> Path:
    return root() / f".{name}.replaced"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
