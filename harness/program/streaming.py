"""Workloads whose training arrays do not fit on the device: what their `data()` returns. No jax is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from harness.program.workload import Data


class Column(Protocol):
    """Stands in a `Splits.train` for an array whose first axis is that of the examples, and which is read in parts.

    Attributes:
      shape, dtype: of the array.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows int[n], read from wherever they are; a pure function, called in a thread of its own."""
        ...


@dataclass(frozen=True)
class StreamedData(Data):
    """Data of which the device holds one stretch of the data stream at a time.

    The arrays of `splits().train` are `Column`s. All else is as in `Data`: `shapes` states the whole, and `batch`
    gathers by row; which rows it is handed, `harness.trial.feeding` sees to.

    Attributes:
      window_steps: steps of training between two reads, at the workload's batch size. Three stretches are on the device
        at a time: the one that is trained on, the next, and the yardstick's, which stays.
    """

    window_steps: int = 100
