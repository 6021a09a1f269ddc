"""Shards of tokens: files in the .bin layout in which FineWeb is published as GPT-2 tokens.

A header of 256 int32 (the magic number, the version, the number of tokens, then zeros) and so many uint16, all
little-endian. Shards are mapped into memory; only what is asked for is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.errors import DataError, beneath

MAGIC, VERSION = 20240520, 1
HEADER_BYTES = 256 * 4

_MEND = "put a whole copy in its place"
_PIECE = 2**24  # tokens looked at at a time


def map_shard(path: Path) -> np.ndarray:
    """Return the tokens of a shard, uint16[n], read-only and mapped into memory.

    Raises `DataError` where it is missing, has another header, or has more or fewer bytes than its header says.
    """
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
        size = path.stat().st_size
    except OSError as error:
        raise beneath(error) or DataError(f"{path} cannot be read ({error.strerror}); {_MEND}") from None
    if len(header) < HEADER_BYTES:
        raise DataError(f"{path}: {size} bytes, expected a header of {HEADER_BYTES} and tokens after it; {_MEND}")
    magic, version, count = (int(value) for value in np.frombuffer(header, "<i4", 3))
    if magic != MAGIC:
        raise DataError(f"{path}: its first number is {magic}, that of a token shard is {MAGIC}; {_MEND}")
    if version != VERSION:
        raise DataError(f"{path}: a token shard of version {version}, expected {VERSION} (uint16 tokens); {_MEND}")
    if count < 1 or size != HEADER_BYTES + 2 * count:
        raise DataError(
            f"{path}: {size} bytes, but its header says {count} tokens, which make {HEADER_BYTES + 2 * count}; {_MEND}"
        )
    return np.memmap(path, np.dtype("<u2"), "r", HEADER_BYTES, (count,))


def check_vocabulary(tokens: np.ndarray, vocabulary: int, where: str) -> None:
    """Raise `DataError` naming the first token that is `vocabulary` or more."""
    for start in range(0, tokens.size, _PIECE):
        piece = tokens.reshape(-1)[start : start + _PIECE]
        if piece.size and piece.max() >= vocabulary:
            place = int(np.argmax(piece >= vocabulary))
            raise DataError(
                f"{where}: token {start + place} is {int(piece[place])}, expected less than {vocabulary}; {_MEND}"
            )


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Windows:
    """The windows of several shards, one after the other, as if they were an array uint16[windows, length].

    Windows overlap by one token, so that all but the first of a shard are predicted; none goes over the border of two
    shards, and what is left at the end of one is dropped. `windows[rows]` reads these rows alone.

    Attributes:
      shape, dtype: of the array that it stands for.
    """

    def __init__(self, paths: Sequence[Path], length: int, vocabulary: int):
        """Map the shards; `vocabulary` bounds their tokens. Raises `DataError` for one that is no whole shard."""
        self._paths, self._vocabulary = tuple(paths), vocabulary
        self._views = [self._view(map_shard(path), length) for path in self._paths]
        self._starts = np.cumsum([0, *map(len, self._views)])
        self.shape, self.dtype = (int(self._starts[-1]), length), np.dtype(np.uint16)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return uint16[len(rows), length]. Raises `DataError` for a token out of the vocabulary."""
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows from {rows.min()} to {rows.max()}, there are {len(self)}")
        found = np.empty((len(rows), self.shape[1]), np.uint16)
        shard_of = np.searchsorted(self._starts, rows, side="right") - 1
        for n in np.unique(shard_of):
            here = np.flatnonzero(shard_of == n)
            windows = self._views[n][rows[here] - self._starts[n]]
            if windows.max() >= self._vocabulary:
                check_vocabulary(map_shard(self._paths[n]), self._vocabulary, str(self._paths[n]))
            found[here] = windows
        return found

    @staticmethod
    def _view(tokens: np.ndarray, length: int) -> np.ndarray:
        if tokens.size < length:
            return np.empty((0, length), np.uint16)
        return np.lib.stride_tricks.sliding_window_view(tokens, length)[:: length - 1]
