"""The handwritten digits: found without importing scikit-learn, checked, and split the same way for ever."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from harness.data import digits
from harness.errors import DataError
from harness.program import discovery


@pytest.fixture(scope="module")
def splits():
    return digits.splits()


def test_file() -> None:
    images, labels = digits.read()
    assert images.shape == (1797, 8, 8, 1)
    assert images.dtype == labels.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 16)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    # The first line of the file is the 0 that scikit-learn's documentation shows.
    assert labels[0] == 0
    assert images[0, 0, :, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]


def test_scikit_learn_is_not_imported() -> None:
    code = "import sys; from harness.data import digits; digits.splits(); sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_sizes_and_strata(splits) -> None:
    assert {name: len(split["label"]) for name, split in splits.items()} == {
        "train": 898,
        "validation": 599,
        "test": 300,
    }
    _, labels = digits.read()
    for split in splits.values():
        expected = np.bincount(labels) * len(split["label"]) / len(labels)
        assert np.abs(np.bincount(split["label"]) - expected).max() <= 1


def test_no_image_is_in_two_splits(splits) -> None:
    seen = [image.tobytes() for split in splits.values() for image in split["image"]]
    assert len(seen) == len(set(seen)) == 1797


def test_split_is_frozen(splits) -> None:
    """Recorded once; a change would make every target and published score a different workload's."""
    digest = hashlib.sha256()
    for name in ("train", "validation", "test"):
        digest.update(splits[name]["image"].tobytes() + splits[name]["label"].tobytes())
    assert digest.hexdigest() == "bf73544aef3e60635c9f6600b805b01ae1ab2a24156b4b3369d6744038c1033a"


def test_noise_is_frozen(splits) -> None:
    """`resnet_digits` adds noise to the images that it is measured on: the noisy images are its data."""
    noisy = discovery.load_workload(discovery.find("workloads", "resnet_digits")).splits()
    assert np.array_equal(noisy.train["image"], splits["train"]["image"])
    digest = hashlib.sha256()
    for split, name in ((noisy.validation, "validation"), (noisy.test, "test")):
        copies = len(split["label"]) // len(splits[name]["label"])
        assert np.array_equal(split["label"], np.tile(splits[name]["label"], copies))
        digest.update(split["image"].tobytes())
    assert digest.hexdigest() == "20733f6a11fa4bed319578ad5d15076c73999f186db0da7333e6c6b6e57b5c5c"


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install scikit-learn"):
        digits.read()


def test_missing_file(tmp_path) -> None:
    with pytest.raises(DataError, match="missing from scikit-learn; install scikit-learn again"):
        digits.read_file(tmp_path / "digits.csv.gz")


@pytest.mark.parametrize("damage", ["not gzip", "truncated", "flipped"])
def test_damaged_file(tmp_path, damage: str) -> None:
    whole = gzip.compress(b"0,1,2\n" * 1000, mtime=0)
    middle = len(whole) // 2
    content = {
        "not gzip": b"0,1,2\n",
        "truncated": whole[:middle],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :],
    }[damage]
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="install scikit-learn again"):
        digits.read_file(path)


def test_another_file(tmp_path) -> None:
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(gzip.compress(b"0,1,2\n"))
    with pytest.raises(DataError, match="unpacked it has sha256"):
        digits.read_file(path)
