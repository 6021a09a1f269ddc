"""CIFAR-10 (Krizhevsky 2009): 60,000 colour photographs of 32x32 pixels in 10 classes, out of its archive of pickles.

The archive's own order does not matter: everything is drawn over the *canonical order*, that of the images' rows (a
label byte, then 3,072 pixel bytes by channel, row, column, as in the archive) sorted as bytes.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.archive import read_members
from harness.data.near_duplicates import near_duplicates
from harness.errors import DataError

CLASSES = 10
TRAIN_ROWS_SHA256 = "72083841cd0fa633f09b24c0833cf6d6a1809caff400317117334e0aa6b0ed46"
TEST_ROWS_SHA256 = "f1bbb931260cda782c84c1948c82d910e2c193cb1d56756293f445027090946b"
"""Of the rows in canonical order: what the source holds, whatever its order and packing."""

_SPLIT_KEY = 32_768  # of the Philox generator that draws the validation split; published here, never changed
_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
_TEST = "test_batch"
_PIXELS = 3 * 32 * 32
_NO_PICKLE = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OverflowError,
    TypeError,
    ValueError,
)  # fmt: skip - what damaged bytes may lead to
_LARGEST = 64 * 2**20  # bytes of a batch; the real ones have 31 million


def prepare(
    archive: Path, train_sha256: str = TRAIN_ROWS_SHA256, test_sha256: str = TEST_ROWS_SHA256
) -> dict[str, np.ndarray]:
    """Read an archive of the official layout and return the arrays of the set.

    `image` uint8[50000, 32, 32, 3] and `label` uint8[50000]: the training images, so that the last 5,000 or the last
    10,000 are a validation split; see `_order`. `test_image` uint8[10000, 32, 32, 3] and `test_label`, in canonical
    order. Raises `DataError` for an archive that is damaged or holds something else.
    """
    batches = {}
    for name, content in read_members(archive, (*_BATCHES, _TEST), _LARGEST):
        batches[name] = _rows(content, f"{archive}: {name}")
    train = _canonical(np.concatenate([batches.pop(name) for name in _BATCHES]), train_sha256, f"{archive}: training")
    test = _canonical(batches.pop(_TEST), test_sha256, f"{archive}: test")
    train = train[_order(train[:, 0], near_duplicates(_pixels(train)))]
    return {
        "image": np.ascontiguousarray(_pixels(train).transpose(0, 2, 3, 1)),
        "label": train[:, 0].copy(),
        "test_image": np.ascontiguousarray(_pixels(test).transpose(0, 2, 3, 1)),
        "test_label": test[:, 0].copy(),
    }


def _order(labels: np.ndarray, repeated: np.ndarray) -> np.ndarray:
    """Return an order of the images in which a validation split of a tenth or a fifth is taken from the end.

    Each class is shuffled; its last fifth that is not `repeated` goes to its end, so that no validation image has a
    near-duplicate anywhere; and the classes take turns, so that any tens of images that follow each other hold each
    class alike.
    """
    draws = np.random.Generator(np.random.Philox(key=_SPLIT_KEY)).random(labels.size)
    shuffled = np.argsort(draws, kind="stable")
    columns = []
    for label in range(CLASSES):
        members = shuffled[labels[shuffled] == label]
        held_out = members[~repeated[members]][-(labels.size // (5 * CLASSES)) :]
        columns.append(np.concatenate([members[~np.isin(members, held_out)], held_out]))
    if len({column.size for column in columns}) > 1:
        raise DataError(f"expected as many images of each class, got {[column.size for column in columns]}")
    return np.stack(columns, 1).ravel()


def _canonical(rows: np.ndarray, sha256: str, where: str) -> np.ndarray:
    """Return the rows uint8[n, 3073] sorted as bytes, checked against the hash of their content."""
    # numpy orders byte strings as unsigned bytes; that it passes over zeros at their ends is no matter at equal length.
    order = np.argsort(rows.view(f"S{rows.shape[1]}").ravel(), kind="stable")
    rows = rows[order]
    digest = hashlib.sha256(rows.data).hexdigest()
    if digest != sha256:
        raise DataError(f"{where} images: {len(rows)} with content sha256 {digest}, expected {sha256}")
    return rows


def _pixels(rows: np.ndarray) -> np.ndarray:
    return rows[:, 1:].reshape(-1, 3, 32, 32)


# ---- the batches


def _rows(content: bytes, where: str) -> np.ndarray:
    """Return the rows uint8[n, 3073] of a pickled batch."""
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except _NO_PICKLE as error:
        raise DataError(f"{where}: not a pickled batch ({error})") from error
    data, labels = (batch.get(key) for key in (b"data", b"labels")) if isinstance(batch, Mapping) else (None, None)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (_PIXELS,):
        raise DataError(f"{where}: expected b'data' to be an array uint8[n, {_PIXELS}]")
    if not isinstance(labels, list) or len(labels) != len(data) or not all(map(_is_label, labels)):
        raise DataError(f"{where}: expected b'labels' to be a list of {len(data)} numbers from 0 to {CLASSES - 1}")
    return np.hstack([np.array(labels, np.uint8)[:, None], data])


def _is_label(label: object) -> bool:
    return isinstance(label, int) and 0 <= label < CLASSES


class _Unpickler(pickle.Unpickler):
    """Reads arrays and nothing else: a pickle is a program, and this one may call only what makes an array."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")


_reconstruct = np.ndarray.__reduce__(np.empty(0))[0]  # numpy 1 and 2 keep it in different places
