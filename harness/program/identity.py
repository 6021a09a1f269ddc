"""The identity of a program: a hash over its contract and its StableHLO, and over nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from harness.errors import SubmissionError
from harness.program import operations
from harness.program.manifest import Contract
from harness.program.store import Program
from harness.record import plain_data


def identity(contract: Contract, texts: Mapping[str, str]) -> str:
    """Return the SHA-256 over a contract and the StableHLO of each function: without debug information, symbols
    renamed, so that two folders that compute the same share it.
    """
    digest = hashlib.sha256(json.dumps(plain_data.to_plain(contract), sort_keys=True).encode())
    for name in sorted(texts):
        digest.update(f"\0{name}\0{operations.normalised(texts[name])}".encode())
    return digest.hexdigest()


def check_identity(program: Program) -> None:
    """Raise SubmissionError where a program is not what its id says: somebody has edited the store."""
    from jax import export

    texts = {name: str(export.deserialize(bytearray(data)).mlir_module()) for name, data in program.functions.items()}
    found, manifest = identity(program.manifest.contract, texts), program.manifest
    if found != manifest.id:
        raise SubmissionError(f"the program {manifest.id} in the store has the content of {found}; remove its folder")
