"""Tiny Shakespeare: three contiguous pieces of the text, and the characters behind the tokens."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from harness.data import shakespeare, store
from harness.data.specs import DATASETS
from harness.errors import DataError

MIRROR = Path(__file__).resolve().parents[3].parent / "shared" / "data"


def test_pieces_by_hand(tmp_path: Path) -> None:
    text = b"to be, or not to be!" * 5  # 100 characters: 90, 5 and 5
    (tmp_path / "input.txt").write_bytes(text)
    arrays = shakespeare.prepare(tmp_path / "input.txt", hashlib.sha256(text).hexdigest())
    assert bytes(arrays["vocabulary"]) == b" !,benort"
    assert {name: bytes(arrays["vocabulary"][arrays[name]]) for name in ("train", "validation", "test")} == {
        "train": text[:90],
        "validation": b"not t",
        "test": b"o be!",
    }
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.uint8)}


@pytest.mark.parametrize("text", [b"", b"to be", b"<html>not found</html>"])
def test_another_text_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "input.txt").write_bytes(text)
    with pytest.raises(
        DataError, match=rf"input.txt: {len(text)} bytes with sha256 \w+, expected {shakespeare.SHA256}"
    ):
        shakespeare.prepare(tmp_path / "input.txt")


@pytest.mark.skipif(not MIRROR.is_dir(), reason=f"no mirror at {MIRROR}")
def test_the_real_text() -> None:
    arrays = shakespeare.prepare(MIRROR / "tinyshakespeare" / "input.txt")
    assert store.content_sha256(arrays) == DATASETS["tinyshakespeare"].sha256
    assert [arrays[name].size for name in ("train", "validation", "test", "vocabulary")] == [1003854, 55770, 55770, 65]
    text = b"".join(bytes(arrays["vocabulary"][arrays[name]]) for name in ("train", "validation", "test"))
    assert hashlib.sha256(text).hexdigest() == shakespeare.SHA256
