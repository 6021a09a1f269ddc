"""Members of a tar archive, packed by gzip, xz or not at all: read in memory, never extracted."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

from harness.errors import DataError

_DAMAGED = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, TypeError)
"""What damaged bytes lead to; TypeError where tarfile meets the end within gzip's header."""


def read_members(archive: Path, wanted: Collection[str], largest: int) -> Iterator[tuple[str, bytes]]:
    """Yield (path, content) of the wanted files, as they come; a path starts below the archive's top folder.

    Raises `DataError` for a damaged archive, one that lacks a wanted file, and a file of more than `largest` bytes.
    """
    missing = set(wanted)
    try:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                path = member.name.removeprefix("./").partition("/")[2]
                file = tar.extractfile(member) if path in missing else None
                if file is None:
                    continue
                if member.size > largest:
                    raise DataError(f"{archive}: {path} has {member.size} bytes, expected at most {largest}")
                missing.remove(path)
                yield path, file.read()
    except _DAMAGED as error:
        raise DataError(f"{archive}: not a whole tar archive ({error})") from error
    if missing:
        raise DataError(f"{archive}: {len(missing)} of {len(wanted)} files are missing, the first is {min(missing)}")
