"""Several devices: which batches they can share. Needs no jax."""

from __future__ import annotations

from collections.abc import Iterable

from harness.errors import HarnessError


def check_divisible(sizes: Iterable[int], devices: int, where: str, error: type[HarnessError]) -> None:
    """Raise `error` where a batch size is not a multiple of the number of devices; `where` names whose it is."""
    for size in sizes:
        if size % devices:
            fits = ", ".join(str(count) for count in range(1, size + 1) if size % count == 0)
            told = f"{where}: a batch of {size} examples cannot be split evenly over devices={devices}"
            raise error(f"{told}; choose one of {fits}")
