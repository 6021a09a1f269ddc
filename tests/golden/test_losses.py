"""The first 20 training losses of each workload are what they were when it was made (scripts/record_losses.py).

Workloads for an accelerator in their small form.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness import discover
from harness.golden import STEPS, first_losses
from harness.workload import SMALL

FOLDERS = discover.find_all("workloads")
LOSSES = json.loads((Path(__file__).parent / "data" / "losses.json").read_text())


@pytest.mark.parametrize("name", FOLDERS)
def test_first_losses(name: str, with_data) -> None:
    with_data(discover.workload_info(FOLDERS[name]).datasets)
    small = discover.workload_info(FOLDERS[name]).small
    losses = first_losses(discover.load_workload(FOLDERS[name], SMALL if small else None))
    assert len(losses) == len(LOSSES[name]) == STEPS
    # In bf16 every value is rounded to 8 bits, and where depends on how XLA fuses.
    np.testing.assert_allclose(losses, LOSSES[name], rtol=2e-3 if small else 1e-4)
    assert min(losses[10:]) < losses[0], "it learns"
