"""Tiny Shakespeare (Karpathy 2015): 1.1 million characters of plays as one text, a token a character."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from harness.errors import DataError

SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def prepare(file: Path, sha256: str = SHA256) -> dict[str, np.ndarray]:
    """Return `train`, `validation` and `test`, uint8 tokens: the first 90%, the next 5% and the last 5% of the text.

    A token is an index into `vocabulary`, uint8[65]: the code points of the characters, sorted. Raises `DataError` for
    another text.
    """
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise DataError(
            f"{file}: {len(content)} bytes with sha256 {digest}, expected {sha256}; put a whole copy in its place"
        )
    vocabulary, tokens = np.unique(np.frombuffer(content, np.uint8), return_inverse=True)
    train, validation, test = np.split(tokens.astype(np.uint8), [tokens.size * 90 // 100, tokens.size * 95 // 100])
    return {"train": train, "validation": validation, "test": test, "vocabulary": vocabulary}
