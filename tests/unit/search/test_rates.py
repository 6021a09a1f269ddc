"""The learning rates that are predicted from are those that the submissions train by."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from harness.errors import ConfigError
from harness.optim import schedules
from harness.search import rates


@pytest.mark.parametrize("total", [7, 200, 613])
@pytest.mark.parametrize("name", rates.NAMES)
def test_the_same_as_the_schedule(name: str, total: int) -> None:
    schedule = schedules.scheduled(getattr(schedules, name), 0.01, total, 0.05)
    theirs = np.asarray(jax.vmap(schedule)(np.arange(total)))
    np.testing.assert_allclose(rates.learning_rates(name, 0.01, total, 0.05), theirs, rtol=1e-5, atol=1e-9)


def test_an_unknown_schedule() -> None:
    with pytest.raises(ConfigError, match="unknown schedule 'cosin'; did you mean 'cosine'"):
        rates.learning_rates("cosin", 1.0, 10, 0.0)
