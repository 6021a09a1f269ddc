"""The first 20 training losses of each workload are what they were when it was made (scripts/record_losses.py).

Workloads for an accelerator in their small form.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness.campaign import scale_ladder
from harness.data import store
from harness.program import discovery
from harness.program.workload import SMALL
from harness.trial.golden import STEPS, first_losses

FOLDERS = {name: of for name, of in discovery.find_all("workloads").items() if not scale_ladder.is_rung(name)}
LOSSES = json.loads((Path(__file__).parent / "data" / "losses.json").read_text())


@pytest.mark.parametrize("name", FOLDERS)
def test_first_losses(name: str, with_data) -> None:
    with_data(discovery.workload_info(FOLDERS[name]).datasets)
    datasets = map(store.find, discovery.workload_info(FOLDERS[name]).datasets)
    if any(dataset.shards or dataset.images for dataset in datasets):
        pytest.skip("its data are made by the tests: there are no losses of published ones to hold it to")
    small = discovery.workload_info(FOLDERS[name]).small
    losses = first_losses(discovery.load_workload(FOLDERS[name], SMALL if small else None))
    assert len(losses) == len(LOSSES[name]) == STEPS
    # In bf16 every value is rounded to 8 bits, and where depends on how XLA fuses.
    np.testing.assert_allclose(losses, LOSSES[name], rtol=2e-3 if small else 1e-4)
    assert min(losses[10:]) < losses[0], "it learns"
