"""Prepared sets: identified by their content, whole or not there, and quick to load."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.data import store
from harness.data.specs import DATASETS, Arrays, DataSet, File
from harness.errors import DataError

ARRAYS = {"train": np.arange(1000, dtype=np.uint16), "test": np.arange(12, dtype=np.uint8).reshape(3, 4)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> DataSet:
    made = DataSet(
        name="toy",
        what="a toy",
        source="https://example.org",
        licence="CC0",
        citation="none",
        sha256=store.content_sha256(ARRAYS),
        prepared_bytes=2012,
        prepare=lambda file: ARRAYS,
        files=(File("toy.bin", None, None, 10, ("toy/toy.bin",)),),
        facts={"bytes": {"train": 7}},
    )
    monkeypatch.setitem(DATASETS, "toy", made)
    return made


def write(toy: DataSet, arrays: Arrays = ARRAYS) -> None:
    with store.hold("toy"):
        store.write(toy, arrays, "here")


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("toy", ".toy.lock"))


def test_a_set_comes_back_as_it_was_mapped_and_read_only(toy: DataSet, folder: Path) -> None:
    write(toy)
    loaded = store.load("toy", toy.sha256)
    assert list(loaded) == ["test", "train"]
    for name, array in loaded.items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.dtype == ARRAYS[name].dtype
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
    meta = store.read_meta("toy")
    assert (meta["sha256"], meta["source"], meta["facts"]) == (toy.sha256, "here", {"bytes": {"train": 7}})
    assert store.state("toy") == ("ready", "")
    store.verify("toy")
    assert hidden(folder) == []


def test_the_hash_of_content_by_hand() -> None:
    import hashlib

    arrays = {"b": np.array([[1, 2]], np.uint16), "a": np.zeros((0, 3), np.float32)}
    expected = hashlib.sha256(b"a <f4 (0, 3)\nb <u2 (1, 2)\n\x01\x00\x02\x00").hexdigest()
    assert store.content_sha256(arrays) == expected
    big_endian = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in arrays.items()}
    assert store.content_sha256(big_endian) == expected
    assert store.content_sha256({"a": arrays["a"], "b": arrays["b"][:, ::-1][:, ::-1]}) == expected
    for other in (
        {"a": arrays["a"], "c": arrays["b"]},
        {"a": arrays["a"], "b": arrays["b"].T},
        {"a": arrays["a"], "b": arrays["b"].view(np.int16)},
        {"a": arrays["a"], "b": arrays["b"] + np.uint16(1)},
    ):
        assert store.content_sha256(other) != expected


def test_a_missing_set_names_the_command_that_gets_it(toy: DataSet, folder: Path) -> None:
    with pytest.raises(DataError, match=f"toy is missing from {folder}; get it with: harness data get toy") as caught:
        store.load("toy")
    assert caught.value.exit_code == 3
    assert store.state("toy") == ("missing", str(caught.value))


def test_an_unknown_set_is_told_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match="unknown data set 'cifar'; did you mean 'cifar10'"):
        store.load("cifar")


def test_another_content_than_a_workload_pins(toy: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    write(toy)
    with pytest.raises(DataError, match=f"has content {toy.sha256}, expected abc: this version of the harness makes"):
        store.load("toy", "abc")
    monkeypatch.setitem(DATASETS, "toy", DataSet(**(vars(toy) | {"sha256": "abc"})))
    with pytest.raises(DataError, match=r"expected abc: another version .* harness data get toy"):
        store.load("toy", "abc")
    assert store.state("toy")[0] == "damaged"
    with pytest.raises(DataError, match=r"this harness brings content 9770.*, expected abc"):
        store.load("grammar", "abc")


@pytest.mark.parametrize("damage", ["flipped", "truncated", "removed", "exchanged", "no meta", "broken meta", "schema"])
def test_damage_does_not_verify(toy: DataSet, folder: Path, damage: str) -> None:
    write(toy)
    array, meta = folder / "toy" / "train.npy", folder / "toy" / "meta.json"
    content = array.read_bytes()
    if damage == "flipped":
        array.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "truncated":
        array.write_bytes(content[:-100])
    elif damage == "removed":
        array.unlink()
    elif damage == "exchanged":
        np.save(array, ARRAYS["train"].reshape(10, 100))
    elif damage == "no meta":
        meta.unlink()
    else:
        meta.write_text("{" if damage == "broken meta" else meta.read_text().replace('"schema": 1', '"schema": 9'))
    with pytest.raises(DataError, match="harness data get toy"):
        store.verify("toy")
    if damage != "flipped":  # which a glance does not see
        assert store.state("toy")[0] == "damaged"
    write(toy)
    store.verify("toy")
    assert hidden(folder) == []


def test_other_content_is_never_put_in_place(toy: DataSet, folder: Path) -> None:
    with pytest.raises(DataError, match=rf"toy: here gave content \w+, expected {toy.sha256}"):
        write(toy, ARRAYS | {"train": ARRAYS["train"] + np.uint16(1)})
    assert not (folder / "toy").exists()
    assert hidden(folder) == []


@pytest.mark.parametrize("before", ["nothing", "whole"])
@pytest.mark.parametrize("last", range(3))
def test_a_disk_that_fills_up_leaves_what_was_there(
    toy: DataSet, folder: Path, monkeypatch: pytest.MonkeyPatch, before: str, last: int
) -> None:
    """Full at any of the three syncs: of the two arrays and of meta.json."""
    if before == "whole":
        write(toy)
    syncs = iter([None] * last)

    def fsync(descriptor: int) -> None:
        if next(syncs, "full") == "full":
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(store.os, "fsync", fsync)
        write(toy)
    assert store.state("toy")[0] == ("ready" if before == "whole" else "missing")
    assert hidden(folder) == []


def test_what_killed_processes_left_is_cleared(toy: DataSet, folder: Path) -> None:
    write(toy)
    shutil.copytree(folder / "toy", folder / ".toy.making")
    (folder / "toy").rename(folder / ".toy.replaced")
    assert store.state("toy")[0] == "missing"
    with store.hold("toy"):
        assert hidden(folder) == []


def test_where_the_sets_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert store.root() == tmp_path / "data"
    monkeypatch.setenv("HARNESS_DATA", "~/sets")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.root() == tmp_path / "sets"
    monkeypatch.delenv("HARNESS_DATA")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    assert store.root() == tmp_path / "cache" / "data"


# ---- the specifications


def test_embedded_sets_are_what_their_hashes_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("digits", "grammar"):
        store.verify(name)
        assert store.state(name) == ("embedded", "")
        assert sum(array.nbytes for array in store.load(name).values()) == DATASETS[name].prepared_bytes
        monkeypatch.setitem(DATASETS, name, DataSet(**(vars(DATASETS[name]) | {"sha256": "abc"})))
        with pytest.raises(DataError, match="expected abc"):
            store.verify(name)


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda d: d.name)
def test_a_specification_is_complete(dataset: DataSet) -> None:
    assert DATASETS[dataset.name] is dataset
    as_published = dataset.shards or dataset.images
    assert len(bytes.fromhex(dataset.sha256)) == (0 if as_published else 32), "no hash is published of these"
    assert bool(dataset.shards) == bool(dataset.vocabulary)
    assert dataset.what and dataset.source and dataset.licence and dataset.citation
    assert dataset.prepared_bytes > 0
    json.dumps(dict(dataset.facts))
    for file in dataset.files:
        assert file.bytes > 0
        assert file.url or file.mirror, "it must come from somewhere"
        assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32
        assert all(path.startswith(f"{dataset.name.replace('_', '-')}/") for path in file.mirror)
