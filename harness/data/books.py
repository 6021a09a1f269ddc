"""Classic books up to 1929, as tokens of a byte-pair encoding that is trained on their training split.

The manifest lists the books, in the order in which they follow each other, and the split of each: an author is in one
split only. Which books it takes and which authors it holds out no rule gives back from the archive alone; so it must be
had, and its hash pins all content.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from harness.data import bpe
from harness.data.archive import read_members
from harness.errors import DataError

MANIFEST_SHA256 = "8d493a686b47802a91244ca902e5ede83a6d3ffb37805034c1f897e5fe0a133e"
MERGES = 7936
"""Which with the 256 bytes make 8,192 tokens."""

_SPLITS = {"train": "train", "validation": "val", "test": "test"}  # as the arrays and as the manifest call them
_LARGEST = 64 * 2**20  # bytes of a book; the real ones have at most 3 million
_END = b"\n\n"  # after each book


def prepare(
    manifest: Path, archive: Path, manifest_sha256: str = MANIFEST_SHA256, merges: int = MERGES
) -> dict[str, np.ndarray]:
    """Return `train`, `validation` and `test`, uint16 tokens, and `merges` uint16[7936, 2], which `bpe` decodes with.

    Each book, with the two newlines after it, is encoded by itself. Raises `DataError` for another manifest, and for
    an archive, packed by gzip or xz, that does not hold the manifest's books byte for byte.
    """
    listed = _read_manifest(manifest, manifest_sha256)
    books = _read_books(archive, listed)
    texts = {
        split: [books[book["path"]] + _END for book in listed["books"] if book["split"] == short]
        for split, short in _SPLITS.items()
    }
    for split, short in _SPLITS.items():
        _check(b"".join(texts[split]), listed["sha256"][short], f"{archive}: the {split} split")
    counts: Counter[bytes] = Counter()
    for text in texts["train"]:
        counts.update(bpe.PIECES.findall(text))
    trained = bpe.train(counts, merges)
    encode = bpe.encoder(trained)
    return {split: np.concatenate([encode(text) for text in texts[split]]) for split in _SPLITS} | {"merges": trained}


def _read_manifest(path: Path, sha256: str) -> dict[str, Any]:
    content = path.read_bytes()
    _check(content, sha256, str(path))
    listed: dict[str, Any] = json.loads(content)
    return listed


def _read_books(archive: Path, listed: dict[str, Any]) -> dict[str, bytes]:
    """Return the content of each book by its path."""
    wanted = {book["path"]: book["sha256"] for book in listed["books"]}
    books = {}
    for path, content in read_members(archive, wanted, _LARGEST):
        _check(content, wanted[path], f"{archive}: {path}")
        books[path] = content
    return books


def _check(content: bytes, sha256: str, what: str) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise DataError(
            f"{what}: {len(content)} bytes with sha256 {digest}, expected {sha256}; put a whole copy in its place"
        )
