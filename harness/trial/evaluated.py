"""What a trial evaluated at its end, kept beside its record: parameters and model state, so that anybody can evaluate
them again (`harness verify`).
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from harness.errors import RunFolderError, beneath
from harness.program.manifest import Contract, Leaf
from harness.record.files import temporary_of

FILE = "evaluated.npz"

Arrays = list[np.ndarray]


def save(folder: Path, contract: Contract, params: Sequence[np.ndarray], model_state: Sequence[np.ndarray]) -> str:
    """Write the arrays into a run folder, whole or not at all; return their hash. Raises OSError."""
    arrays = [np.asarray(array) for array in (*params, *model_state)]
    new = temporary_of(folder / FILE)
    try:
        with new.open("wb") as file:
            np.savez(file, *arrays)
        new.replace(folder / FILE)
    finally:
        with suppress(OSError):
            new.unlink()
    return digest(contract, arrays)


def load(file: Path, contract: Contract) -> tuple[Arrays, Arrays]:
    """Return parameters and model state. Raises RunFolderError where the file does not hold the contract's arrays."""
    leaves = (*contract.params, *contract.model_state)
    try:
        with np.load(file, allow_pickle=False) as held:
            arrays = [held[f"arr_{number}"] for number in range(len(held.files))]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise beneath(error) or RunFolderError(f"{file} cannot be read: {type(error).__name__}: {error}") from None
    if len(arrays) != len(leaves):
        raise RunFolderError(f"{file} holds {len(arrays)} arrays, the program has {len(leaves)}")
    arrays = [_as(array, leaf, file) for array, leaf in zip(arrays, leaves, strict=True)]
    count = len(contract.params)
    return arrays[:count], arrays[count:]


def digest(contract: Contract, arrays: Sequence[np.ndarray]) -> str:
    """Return the SHA-256 over name, shape, dtype and bytes of each array, in the order of the contract's leaves."""
    hashed = hashlib.sha256()
    for leaf, array in zip((*contract.params, *contract.model_state), arrays, strict=True):
        hashed.update(f"{leaf.name} {leaf.dtype} {leaf.shape}\n".encode())
        hashed.update(array.tobytes())
    return hashed.hexdigest()


def _as(array: np.ndarray, leaf: Leaf, file: Path) -> np.ndarray:
    """Return an array as a leaf: the file does not know the names of dtypes that numpy lacks."""
    dtype = jnp.dtype(leaf.dtype)
    if array.dtype.kind == "V" and array.dtype.itemsize == dtype.itemsize:
        array = array.view(dtype)
    if (array.shape, array.dtype) != (leaf.shape, dtype):
        raise RunFolderError(
            f"{file} holds {array.dtype}{list(array.shape)} for {leaf.name}, expected is {leaf.dtype}{list(leaf.shape)}"
        )
    return array
