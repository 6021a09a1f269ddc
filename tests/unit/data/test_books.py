"""The books: exactly those of the manifest, in its order, as tokens that give every byte back."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data import books, bpe, store
from harness.data.specs import DATASETS
from harness.errors import DataError

MIRROR = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "classic-books"
BOOKS = {
    "Ann Author/One.md": ("train", b"# Title: One\r\n\r\nIt was a dark night. It was.\r\n" * 20),
    "Ben Writer/Two.md": ("val", "# Title: Two\n\nDark — and “still”".encode()),
    "Cé Poet/Three.md": ("test", "# Title: Trois\n\nIl était nuit\n\n".encode()),
    "Ann Author/Four.md": ("train", b"# Title: Four\n\n  And the night was dark"),
}
ORDER = ["Ann Author/Four.md", "Cé Poet/Three.md", "Ann Author/One.md", "Ben Writer/Two.md"]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def text_of(split: str) -> bytes:
    return b"".join(BOOKS[path][1] + b"\n\n" for path in ORDER if BOOKS[path][0] == split)


def make(folder: Path, suffix: str = "gz", contents: dict[str, bytes] | None = None) -> tuple[Path, Path, str]:
    listed: dict[str, Any] = {
        "books": [{"split": BOOKS[p][0], "path": p, "sha256": sha256(BOOKS[p][1])} for p in ORDER],
        "sha256": {split: sha256(text_of(split)) for split in ("train", "val", "test")},
    }
    manifest, archive = folder / "manifest.json", folder / f"books.tar.{suffix}"
    manifest.write_text(json.dumps(listed))
    with tarfile.open(archive, f"w:{suffix}") as tar:
        held = {path: content for path, (_, content) in BOOKS.items()} if contents is None else contents
        for path, content in {"README.md": b"about", "Dan Late/1984.md": b"not listed", **held}.items():
            info = tarfile.TarInfo(f"classic-books-markdown-abc/{path}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return manifest, archive, sha256(manifest.read_bytes())


@pytest.mark.parametrize("suffix", ["gz", "xz"])
def test_tokens_give_the_splits_back(tmp_path: Path, suffix: str) -> None:
    manifest, archive, digest = make(tmp_path, suffix)
    arrays = books.prepare(manifest, archive, digest, 30)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.uint16)}
    assert arrays["merges"].shape == (30, 2)
    for split, short in (("train", "train"), ("validation", "val"), ("test", "test")):
        assert bpe.decode(arrays[split], arrays["merges"]) == text_of(short)
    assert arrays["train"].size < len(text_of("train")) / 2


def test_the_tokenizer_sees_the_training_split_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = books.prepare(*make(tmp_path), 30)["merges"]
    monkeypatch.setitem(BOOKS, "Ben Writer/Two.md", ("val", b"zqzqzqzq " * 999))
    np.testing.assert_array_equal(books.prepare(*make(tmp_path), 30)["merges"], trained)


def test_what_is_not_as_the_manifest_says_is_refused(tmp_path: Path) -> None:
    whole = {path: content for path, (_, content) in BOOKS.items()}
    manifest, archive, digest = make(tmp_path, contents=whole | {"Cé Poet/Three.md": b"Il faisait jour"})
    with pytest.raises(DataError, match=r"Cé Poet/Three\.md: 15 bytes with sha256 \w+, expected"):
        books.prepare(manifest, archive, digest, 30)
    del whole["Ann Author/One.md"]
    with pytest.raises(DataError, match=r"1 of 4 files are missing, the first is Ann Author/One\.md"):
        books.prepare(*make(tmp_path, contents=whole), 30)
    with pytest.raises(DataError, match=rf"manifest\.json: .*{digest}, expected {books.MANIFEST_SHA256}"):
        books.prepare(manifest, archive)


def test_a_split_in_another_order_is_refused(tmp_path: Path) -> None:
    manifest, archive, _ = make(tmp_path)
    listed = json.loads(manifest.read_text())
    listed["books"].reverse()
    manifest.write_text(json.dumps(listed))
    with pytest.raises(DataError, match="the train split: "):
        books.prepare(manifest, archive, sha256(manifest.read_bytes()), 30)


@pytest.mark.parametrize("damage", ["truncated", "text"])
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: str) -> None:
    manifest, archive, digest = make(tmp_path)
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"<html>")
    with pytest.raises(DataError, match=r"books\.tar\.gz"):
        books.prepare(manifest, archive, digest, 30)


@pytest.mark.skipif(not MIRROR.is_dir(), reason=f"no mirror at {MIRROR}")
def test_the_real_manifest() -> None:
    content = (MIRROR / "manifest.json").read_bytes()
    assert sha256(content) == books.MANIFEST_SHA256
    listed = json.loads(content)
    sizes = DATASETS["classic_books"].facts["bytes"]
    assert sizes == {"train": listed["bytes"]["train"], "validation": listed["bytes"]["val"],
                     "test": listed["bytes"]["test"]}  # fmt: skip
    authors = {split: {b["path"].split("/")[0] for b in listed["books"] if b["split"] == split} for split in sizes}
    assert not authors["train"] & authors["test"]


def test_the_real_set() -> None:
    state, why = store.state("classic_books")
    if state != "ready":
        pytest.skip(why)
    store.verify("classic_books")
    arrays = store.load("classic_books")
    sizes = store.read_meta("classic_books")["facts"]["bytes"]
    assert arrays["merges"].shape == (books.MERGES, 2)
    for split in ("validation", "test"):
        text = bpe.decode(arrays[split], arrays["merges"])
        assert len(text) == sizes[split]
        assert text.startswith(b"# Title: ")
    spelled = np.array([len(word) for word in bpe.spellings(arrays["merges"])])
    assert spelled[arrays["train"]].sum() == sizes["train"]
