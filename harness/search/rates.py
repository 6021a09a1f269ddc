"""The learning rates of schedules as numbers, for what is predicted of them: in numpy, with the symbols of
`harness.optim.schedules`, whose numbers they are. No jax.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from harness.errors import ConfigError, suggest

FloatArray = NDArray[np.float64]

WSD_DECAY = 0.2
"""Of the steps, at the end: the default there."""


def _wsd(t: FloatArray, p: FloatArray, total: int, warmup: int) -> FloatArray:
    start = max(warmup, total - max(1, round(WSD_DECAY * total)))
    return 1.0 - np.clip((t - start) / max(1, total - start), 0.0, 1.0)


_SHAPES: Mapping[str, Callable[[FloatArray, FloatArray, int, int], FloatArray]] = {
    "constant": lambda t, p, total, warmup: np.ones_like(p),
    "linear": lambda t, p, total, warmup: 1.0 - p,
    "cosine": lambda t, p, total, warmup: 0.5 * (1.0 + np.cos(np.pi * p)),
    "rex": lambda t, p, total, warmup: (1.0 - p) / (0.5 + 0.5 * (1.0 - p)),
    "wsd": _wsd,
}
NAMES = tuple(_SHAPES)


def warmup_steps(total: int, fraction: float) -> int:
    """Return the steps of warm-up: at least one."""
    return max(1, round(fraction * total))


def learning_rates(name: str, peak: float, total: int, fraction: float) -> FloatArray:
    """Return the rate of each of `total` steps, float64[total], after a linear warm-up over `fraction` of them.

    Raises ConfigError for a schedule that is none of `NAMES`.
    """
    if name not in _SHAPES:
        raise ConfigError(f"unknown schedule '{name}'; {suggest(name, NAMES, 'the law of annealing knows')}")
    t, warmup = np.arange(total, dtype=np.float64), warmup_steps(total, fraction)
    p = np.clip((t - warmup) / max(1, total - warmup), 0.0, 1.0)
    return peak * np.where(t < warmup, (t + 1) / warmup, _SHAPES[name](t, p, total, warmup))
