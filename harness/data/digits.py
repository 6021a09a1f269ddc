"""Handwritten digits: 1,797 grey images of 8x8 pixels, read from the file that scikit-learn's wheel carries.

Source: "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, UCI Machine Learning Repository,
doi:10.24432/C50P49), its test set, CC BY 4.0. scikit-learn is found but never imported, which would take seconds.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import zlib
from pathlib import Path

import numpy as np

from harness.errors import DataError

SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
"""Of the unpacked file: 1,797 lines of 64 pixels, 0 to 16, and a label."""
COUNT = 1797
_SPLIT_KEY = 1797  # of the Philox generator that draws the split; published here, never changed
TRAIN, VALIDATION, TEST = 898, 599, 300
"""Images of each split. A third validates, so that chance in the choice of images weighs less."""

Split = dict[str, np.ndarray]


def read() -> tuple[np.ndarray, np.ndarray]:
    """Return (images uint8[1797, 8, 8, 1] with values 0 to 16, labels uint8[1797]) in the file's order.

    Raises `DataError` where scikit-learn is not installed or its file is another.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError(
            "the digits come with scikit-learn, which is not installed; mend it with: pip install scikit-learn"
        )
    return read_file(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz")


def read_file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read and check one file; see `read`."""
    mend = "install scikit-learn again: pip install --force-reinstall --no-deps scikit-learn"
    if not path.is_file():
        raise DataError(f"{path}: the digits' file is missing from scikit-learn; {mend}")
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}); {mend}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise DataError(f"{path}: unpacked it has sha256 {digest}, expected {SHA256}; {mend}")
    numbers = np.array(content.decode().replace("\n", ",").rstrip(",").split(","), np.float32)
    table = numbers.astype(np.uint8).reshape(COUNT, 65)
    return table[:, :64].reshape(COUNT, 8, 8, 1), table[:, 64]


def splits() -> dict[str, Split]:
    """Return train (898 images), validation (599), test (300): {"image": uint8[n, 8, 8, 1], "label": uint8[n]}.

    Stratified: classes are shuffled each on its own and dealt out evenly, so each split holds each class in proportion.
    The file holds no image twice, so no image is in two splits (a test checks both).
    """
    images, labels = read()
    draws = np.random.Generator(np.random.Philox(key=_SPLIT_KEY)).random(COUNT)
    place = np.empty(COUNT)  # of each image within its class, from 0 to 1
    for label in range(10):
        members = np.flatnonzero(labels == label)
        place[members[np.argsort(draws[members], kind="stable")]] = (np.arange(members.size) + 0.5) / members.size
    order = np.lexsort((labels, place))
    parts = np.split(order, [TEST, TEST + VALIDATION])
    return {
        name: {"image": images[part], "label": labels[part]}
        for name, part in zip(("test", "validation", "train"), map(np.sort, parts), strict=True)
    }


def arrays() -> dict[str, np.ndarray]:
    """Return the same as one flat dictionary: `train_image`, `train_label`, `validation_image` and so on."""
    return {f"{split}_{name}": array for split, part in splits().items() for name, array in part.items()}
