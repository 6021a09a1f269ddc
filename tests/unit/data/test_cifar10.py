"""CIFAR-10: the same splits out of any order and packing, none of them leaky, and nothing but arrays unpickled."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from harness.data import cifar10, near_duplicates, store
from harness.data.near_duplicates import THRESHOLD
from harness.errors import DataError

PER_CLASS = 20  # training images; a fifth of them is 4
BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


class Python2Pickler(pickle._Pickler):  # type: ignore[misc, name-defined]
    """Writes what Python 2 wrote: protocol 2, both kinds of string as bytes, numpy's old names."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_text(self, text: str | bytes) -> None:
        content = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[bytes] = dispatch[str] = save_text

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if getattr(obj, "__name__", "") == "_reconstruct":
            self.write(pickle.GLOBAL + b"numpy.core.multiarray\n_reconstruct\n")
            self.memoize(obj)
        else:
            super().save_global(obj, name)


def pickled(value: object) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue()


def batch(rows: np.ndarray, pixels: np.ndarray | None = None) -> bytes:
    return pickled(
        {
            b"batch_label": b"training batch",
            b"labels": rows[:, 0].tolist(),
            b"data": np.ascontiguousarray(rows[:, 1:]) if pixels is None else pixels,
            b"filenames": [b"frog.png"] * len(rows),
        }
    )


def write_archive(path: Path, members: dict[str, bytes]) -> Path:
    packed = (
        tarfile.open(path, "w:gz", compresslevel=1) if path.suffix == ".gz" else tarfile.open(path, "w:xz", preset=0)
    )
    with packed as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def members(train: np.ndarray, test: np.ndarray) -> dict[str, bytes]:
    parts = [*np.split(train, 5), test]
    return {"batches.meta": pickled({b"num_vis": 3072})} | {n: batch(p) for n, p in zip(BATCHES, parts, strict=True)}


def make_rows(per_class: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (10 * per_class, 3072), np.uint8)
    return np.hstack([np.repeat(np.arange(10, dtype=np.uint8), per_class)[:, None], pixels])


def content(rows: np.ndarray) -> str:
    return hashlib.sha256(b"".join(sorted(row.tobytes() for row in rows))).hexdigest()


@pytest.fixture
def train() -> np.ndarray:
    return make_rows(PER_CLASS, 1)


@pytest.fixture
def test() -> np.ndarray:
    return make_rows(3, 2)


def prepare(folder: Path, train: np.ndarray, test: np.ndarray, name: str = "cifar.tar.gz") -> dict[str, np.ndarray]:
    archive = write_archive(folder / name, members(train, test))
    return cifar10.prepare(archive, content(train), content(test))


def test_any_order_and_packing_give_the_same_arrays(tmp_path: Path, train: np.ndarray, test: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    first = prepare(tmp_path, train, test)
    second = prepare(tmp_path, rng.permutation(train), rng.permutation(test), "cifar.tar.xz")
    assert store.content_sha256(first) == store.content_sha256(second)
    assert {name: array.shape for name, array in first.items()} == {
        "image": (200, 32, 32, 3),
        "label": (200,),
        "test_image": (30, 32, 32, 3),
        "test_label": (30,),
    }
    rows = {name: np.hstack([first[label][:, None], first[name].transpose(0, 3, 1, 2).reshape(-1, 3072)])
            for name, label in (("image", "label"), ("test_image", "test_label"))}  # fmt: skip
    assert {row.tobytes() for row in rows["image"]} == {row.tobytes() for row in train}, "each image keeps its label"
    assert [row.tobytes() for row in rows["test_image"]] == sorted(row.tobytes() for row in test)


def test_both_validation_splits_hold_each_class_alike(tmp_path: Path, train: np.ndarray, test: np.ndarray) -> None:
    labels = prepare(tmp_path, train, test)["label"]
    for tail in (20, 40, 200):
        np.testing.assert_array_equal(np.bincount(labels[-tail:], minlength=10), np.full(10, tail // 10))


def test_an_image_with_a_near_duplicate_is_never_held_out(tmp_path: Path, train: np.ndarray, test: np.ndarray) -> None:
    """Pairs are planted where the split would otherwise take one: of all kinds, in every class."""
    before = prepare(tmp_path, train, test)
    rows = {row[1:].tobytes(): i for i, row in enumerate(train)}
    held_out = [image.transpose(2, 0, 1) for image in before["image"][-40:]]
    paired = [rows[image.tobytes()] for image in held_out]
    rng = np.random.default_rng(3)
    for n, image in enumerate(held_out):
        twin = [
            image,
            image[..., ::-1],
            image // 2 + 40,  # brighter where it is dark, and flatter
            np.clip(image + rng.normal(0, 20, image.shape), 0, 255).astype(np.uint8),
        ][n % 4]
        of_its_class = np.flatnonzero(train[:, 0] == train[paired[n], 0])
        replaced = next(i for i in of_its_class if i not in paired)
        train[replaced, 1:] = twin.ravel()
        paired.append(replaced)
    after = prepare(tmp_path, train, test)
    tail = {image.transpose(2, 0, 1).tobytes() for image in after["image"][-40:]}
    assert not tail & {train[i, 1:].tobytes() for i in paired}
    np.testing.assert_array_equal(np.bincount(after["label"][-40:]), np.full(10, 4))


def test_near_duplicates_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the definition by brute force, on images alike enough to come near the threshold from both sides."""
    monkeypatch.setattr(near_duplicates, "_ROWS", 17)
    rng = np.random.default_rng(0)
    faces = rng.integers(60, 196, (4, 3, 4, 4)).repeat(8, 2).repeat(8, 3)
    noise = rng.normal(0, 1, (90, 3, 32, 32)) * rng.uniform(0, 20, (90, 1, 1, 1))
    # Half of the noise is as coarse as the blocks that pairs are sought by, where the bound leaves no room.
    noise[::2] = 2 * noise[::2, :1, ::4, ::4].repeat(4, 2).repeat(4, 3)
    images = np.clip(faces[rng.integers(0, 4, 90)] + noise, 0, 255).astype(np.uint8)
    images[::3] = images[::3, ..., ::-1]
    flat, mirrored = images.reshape(90, -1), images[..., ::-1].reshape(90, -1)
    both = np.triu(np.stack([np.corrcoef(flat), np.corrcoef(flat, mirrored)[:90, 90:]]), k=1)
    expected = {(m, i, j) for m, i, j in zip(*map(np.ndarray.tolist, np.nonzero(both > THRESHOLD)), strict=True)}
    assert sum(both[pair] < 1.01 * THRESHOLD for pair in expected) > 9, "some are close to it"
    alike = sorted({i for pair in expected for i in pair[1:]})
    assert 0 < len(alike) < 90
    assert np.flatnonzero(near_duplicates.near_duplicates(images)).tolist() == alike

    sought = near_duplicates._near_pairs(images, flat.mean(1), 3072 * flat.var(1))
    passed = [(int(m), *pair) for m, i, j in sought for pair in zip(i.tolist(), j.tolist(), strict=True)]
    assert len(passed) == len(set(passed)), "each pair comes once"
    assert expected <= set(passed), "none is passed over"
    assert len(passed) < 2 * len(expected), "few come in vain"


def test_an_image_is_no_duplicate_of_its_own_mirror_image() -> None:
    half = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 16), np.uint8)
    assert not near_duplicates.near_duplicates(np.concatenate([half, half[..., ::-1]], -1)).any()


def test_images_without_contrast_are_no_trouble() -> None:
    assert not near_duplicates.near_duplicates(np.full((3, 3, 32, 32), 7, np.uint8)).any()


# ---- what is refused


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.mkdir, (str(self.path),)

    path: Path


@pytest.mark.parametrize("where", ["alone", "in data"])
def test_a_pickle_that_would_run_a_program_is_refused(
    tmp_path: Path, train: np.ndarray, test: np.ndarray, where: str
) -> None:
    evil = Evil()
    evil.path = tmp_path / "ran"
    value = {"alone": evil, "in data": {b"labels": [0], b"data": evil}}[where]
    archive = write_archive(tmp_path / "c.tar.gz", members(train, test) | {"data_batch_3": pickle.dumps(value)})
    with pytest.raises(DataError, match=r"data_batch_3: not a pickled batch \(it asks for .*mkdir"):
        cifar10.prepare(archive, content(train), content(test))
    assert not evil.path.exists()


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (b"", "not a pickled batch"),
        (b"\x80\x02}q", "not a pickled batch"),
        (b"\x00" * 99, "not a pickled batch"),
        (pickle.dumps([1]), "expected b'data' to be an array"),
        (pickle.dumps({b"labels": [0], b"data": b"pixels"}), "expected b'data' to be an array"),
        (batch(make_rows(1, 0), np.zeros((10, 9), np.uint8)), "expected b'data' to be an array"),
        (batch(make_rows(1, 0), np.zeros((9, 3072), np.uint8)), "list of 9 numbers"),
        (batch(make_rows(1, 0) + np.uint8(1)), "list of 10 numbers from 0 to 9"),
    ],
)
def test_a_batch_of_another_form_is_refused(
    tmp_path: Path, train: np.ndarray, test: np.ndarray, member: bytes, message: str
) -> None:
    archive = write_archive(tmp_path / "cifar.tar.xz", members(train, test) | {"data_batch_5": member})
    with pytest.raises(DataError, match=rf"cifar.tar.xz: .*data_batch_5: .*{message}"):
        cifar10.prepare(archive, content(train), content(test))


@pytest.mark.parametrize("suffix", ["gz", "xz"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_a_damaged_archive_is_refused(
    tmp_path: Path, train: np.ndarray, test: np.ndarray, suffix: str, damage: str
) -> None:
    archive = write_archive(tmp_path / f"c.tar.{suffix}", members(train, test))
    whole = archive.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    archive.write_bytes({"truncated": whole[:middle], "flipped": flipped, "empty": b"", "text": b"<html>"}[damage])
    with pytest.raises(DataError, match=r"c\.tar"):
        cifar10.prepare(archive, content(train), content(test))


@pytest.mark.parametrize("suffix", ["gz", "xz"])
def test_an_archive_cut_within_its_header_is_refused(tmp_path: Path, suffix: str) -> None:
    archive = write_archive(tmp_path / f"c.tar.{suffix}", {})
    whole = archive.read_bytes()
    for length in range(len(whole)):
        archive.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"c\.tar"):
            cifar10.prepare(archive)


def test_another_content_is_refused(tmp_path: Path, train: np.ndarray, test: np.ndarray) -> None:
    archive = write_archive(tmp_path / "c.tar.gz", members(train, test))
    with pytest.raises(DataError, match=rf"training images: 200 with content sha256 {content(train)}, expected 7208"):
        cifar10.prepare(archive)
    with pytest.raises(DataError, match=r"test images: 30 with content sha256 \w+, expected abc"):
        cifar10.prepare(archive, content(train), "abc")


def test_missing_batches_are_named(tmp_path: Path, train: np.ndarray, test: np.ndarray) -> None:
    parts = members(train, test)
    del parts["data_batch_2"], parts["test_batch"]
    archive = write_archive(tmp_path / "c.tar.gz", parts)
    with pytest.raises(DataError, match="2 of 6 files are missing, the first is data_batch_2"):
        cifar10.prepare(archive)


def test_a_member_of_absurd_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archive(tmp_path / "c.tar.gz", {"data_batch_1": bytes(2000)})
    monkeypatch.setattr(cifar10, "_LARGEST", 1000)
    with pytest.raises(DataError, match="data_batch_1 has 2000 bytes, expected at most 1000"):
        cifar10.prepare(archive)


def test_classes_of_unequal_size_are_refused(tmp_path: Path, train: np.ndarray, test: np.ndarray) -> None:
    train[0, 0] = 1
    with pytest.raises(DataError, match="as many images of each class"):
        prepare(tmp_path, train, test)


# ---- the set itself, where it has been prepared


@pytest.fixture(scope="module")
def real() -> dict[str, np.ndarray]:
    state, why = store.state("cifar10")
    if state != "ready":
        pytest.skip(why)
    return store.load("cifar10")


def test_the_real_set_is_what_the_archive_holds(real: dict[str, np.ndarray]) -> None:
    store.verify("cifar10")
    for name, label, expected in (
        ("image", "label", cifar10.TRAIN_ROWS_SHA256),
        ("test_image", "test_label", cifar10.TEST_ROWS_SHA256),
    ):
        pixels = real[name].transpose(0, 3, 1, 2).reshape(len(real[name]), -1)
        assert content(np.hstack([real[label][:, None], pixels])) == expected


def test_the_real_splits_hold_each_class_alike(real: dict[str, np.ndarray]) -> None:
    for tail in (5000, 10_000):
        np.testing.assert_array_equal(np.bincount(real["label"][-tail:]), np.full(10, tail // 10))
