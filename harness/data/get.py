"""Getting a data set: its files from a mirror or their public addresses, prepared once and put in its place."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

from harness.data import fetch, get_shards, image_folder, store
from harness.data.specs import DataSet
from harness.errors import DataError

_SPARE = 64 * 2**20  # bytes that are left free


def get(
    name: str, mirror: str | None, show: fetch.Show, say: Callable[[str], None], *, shards: int | None = None
) -> None:
    """Download and prepare a data set, unless it is there and whole. `mirror` is a folder or an address, `shards`
    how many training shards to get of a set of them; None: as many as its workloads take.

    Raises `DataError` where that fails; then nothing stands in its place that was not there before. What was downloaded
    stays for the next call, or is kept aside where it is not the data set; it is removed once the set is in its place.
    """
    dataset = store.find(name)
    if dataset.embedded:
        store.verify(name)
        say(f"{name}: comes with the harness, nothing to get")
        return
    try:
        with store.hold(name, lambda: say(f"{name}: another process is at it; waiting")):
            if dataset.shards:
                place, count = store.root() / name, shards or dataset.shards
                get_shards.get(dataset, place, downloads(name), count, mirror, show, say)
            elif dataset.images:
                _index(dataset, show, say)
            elif _is_whole(name):
                say(f"{name}: ready in {store.root() / name}, nothing to get")
            else:
                _get(dataset, mirror, show, say)
    except OSError as error:
        place = error.filename or store.root()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = "make room" if full else "mend that"
        raise DataError(
            f"data set {name}: {place}: {error.strerror or error}; {mend}, or choose another folder with the "
            "environment variable HARNESS_DATA, then type the same again"
        ) from error


def downloads(name: str) -> Path:
    """Return the folder of the downloads of a data set."""
    return store.root() / "downloads" / name


def _get(dataset: DataSet, mirror: str | None, show: fetch.Show, say: Callable[[str], None]) -> None:
    folder = downloads(dataset.name)
    _check_space(dataset, 0 if mirror and not fetch.is_url(mirror) else sum(file.bytes for file in dataset.files))
    fetched = [fetch.fetch(file, folder, mirror, show) for file in dataset.files]
    sources = ", ".join(file.source for file in fetched)
    say(f"{dataset.name}: preparing {sources}")
    try:
        store.write(dataset, dataset.prepare(*(file.path for file in fetched)), sources)
    except DataError as error:
        kept = [str(fetch.set_aside(file.path)) for file in fetched if file.ours]
        aside = f". Refused and kept as {', '.join(kept)}; the same command downloads anew" if kept else ""
        raise DataError(f"{error}{aside}") from error
    for file in fetched:
        if file.ours:
            file.path.unlink()
    say(f"{dataset.name}: ready in {store.root() / dataset.name}")


def _index(dataset: DataSet, show: fetch.Show, say: Callable[[str], None]) -> None:
    folder = store.root() / dataset.name
    if (folder / image_folder.INDEX).is_file():
        image_folder.read(folder)
        say(f"{dataset.name}: ready in {folder}, nothing to do")
        return
    if not folder.is_dir():
        raise DataError(
            f"{dataset.name} cannot be downloaded here: its home is {dataset.source}. Put its images, or links to "
            f"them, at {folder / 'train'}/CLASS/*.JPEG and {folder / 'val'}/CLASS/*.JPEG, then type the same again, "
            "which indexes them"
        )
    from harness.data.jpeg import size_of  # and pillow with it, which nothing else here needs

    image_folder.make(folder, size_of, show, say)


def _is_whole(name: str) -> bool:
    try:
        store.verify(name)
    except DataError:
        return False
    return True


def _check_space(dataset: DataSet, download_bytes: int) -> None:
    needed = download_bytes + dataset.prepared_bytes + _SPARE
    free = shutil.disk_usage(store.root()).free
    if free < needed:
        raise DataError(
            f"data set {dataset.name} needs {needed / 2**20:.0f} MiB for download and preparation, {store.root()} has "
            f"{free / 2**20:.0f} MiB free; make room, or choose another folder with the environment variable "
            "HARNESS_DATA"
        )
