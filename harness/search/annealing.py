"""A law of annealing: from one or two loss curves and their learning rates to the loss under other schedules. No jax.

    L(s) = L0 + A S1(s)^-α - C S2(s)

    S1(s) = Σ_{i≤s} η_i                 the area under the learning rates
    m_i   = λ m_{i-1} + (η_{i-1} - η_i)
    S2(s) = Σ_{i≤s} m_i                 the annealing area: what the rate has fallen, and goes on to yield

(Tissue et al. 2024, arXiv:2408.11029, who fit language models and hold λ at 0.999 over tens of thousands of steps.)
During warm-up η counts as the peak, as theirs does. The law is one of a loss that training lowers under one peak rate,
model, batch size and optimizer; a metric like accuracy is none of its kind.

They minimise a Huber loss of log L by L-BFGS from a grid of starts. Here the residuals are of L over the measured loss,
which is the same to first order; given α and λ the law is linear in (L0, A, C), which non-negative least squares solves
exactly, so that a search in α and a list of λ remain, and no start is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import HarnessError

FloatArray = NDArray[np.float64]

MOMENTA = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
LEAST = 8  # measurements, for four parameters and the choice of λ
_ALPHAS = np.geomspace(0.02, 4.0, 60)


@dataclass(frozen=True)
class Curve:
    """A run.

    Attributes:
      rates: float64[n], the learning rate of each step from the first on.
      steps: int[m], the steps after which the loss was measured: from 1 to n.
      losses: float64[m].
    """

    rates: FloatArray
    steps: NDArray[np.int64]
    losses: FloatArray


@dataclass(frozen=True)
class Law:
    """A fitted law.

    Attributes:
      L0, A, alpha, C, momentum: as in the module; `momentum` is λ.
      error: root mean square of the residuals, as a share of the loss.
      annealed: whether the runs behind it annealed: else C is unknown, and counts as 0.
    """

    L0: float
    A: float
    alpha: float
    C: float
    momentum: float
    error: float
    annealed: bool

    def predict(self, rates: ArrayLike, steps: ArrayLike | None = None) -> FloatArray:
        """Return the losses after `steps` (default: the last), float64[m], under the learning rates `rates`.

        Raises HarnessError where the rates anneal and those behind the law never did.
        """
        S1, S2 = areas(rates, self.momentum)
        at = np.array([len(S1)]) if steps is None else np.asarray(steps)
        if not self.annealed and anneals(S1, S2):
            raise HarnessError(
                "the law was fitted on runs whose learning rate never fell, and cannot tell what falling gains; fit it "
                "on one that is annealed too"
            )
        return np.asarray(self.L0 + self.A * S1[at - 1] ** -self.alpha - self.C * S2[at - 1])

    def hopeless(self, rates: ArrayLike, target: float, *, margin: float = 3.0) -> bool:
        """Whether the last loss under `rates` is predicted above `target` by more than `margin` errors of the fit."""
        last = float(self.predict(rates)[-1])
        return last * (1.0 - margin * self.error) > target


def curve(rates: ArrayLike, steps: ArrayLike, losses: ArrayLike) -> Curve:
    """Return a run, its arrays checked. Raises HarnessError for a step without a rate, and for a loss that is no finite
    number above 0.
    """
    made = Curve(np.asarray(rates, np.float64), np.asarray(steps, np.int64), np.asarray(losses, np.float64))
    if made.steps.shape != made.losses.shape or made.rates.ndim != 1:
        raise HarnessError(
            f"annealing law: expected as many losses as steps, and rates in a row; got {made.losses.shape} losses, "
            f"{made.steps.shape} steps, rates {made.rates.shape}"
        )
    if len(made.steps) and not (1 <= made.steps.min() and made.steps.max() <= len(made.rates)):
        raise HarnessError(
            f"annealing law: expected steps from 1 to {len(made.rates)}, which there are rates for; got "
            f"{made.steps.min()} to {made.steps.max()}"
        )
    if not (np.isfinite(made.losses) & (made.losses > 0)).all():
        raise HarnessError("annealing law: expected finite losses above 0; leave a run that diverged out")
    if not (np.isfinite(made.rates) & (made.rates >= 0)).all() or not made.rates.any():
        raise HarnessError("annealing law: expected finite learning rates, none below 0 and one above")
    return made


def areas(rates: ArrayLike, momentum: float) -> tuple[FloatArray, FloatArray]:
    """Return S1 and S2 after each step, float64[n] each; the rates before the peak count as the peak."""
    from scipy.signal import lfilter  # slow to import

    eta = np.array(rates, np.float64)
    eta[: eta.argmax()] = eta.max()
    fallen = -np.diff(eta, prepend=eta[0])
    return np.cumsum(eta), np.cumsum(lfilter([1.0], [1.0, -momentum], fallen))


def anneals(S1: FloatArray, S2: FloatArray) -> bool:
    """Whether the learning rates behind these areas fell by more than rounding."""
    return bool(np.abs(S2).max() > 1e-9 * S1[-1])


def fit(curves: Sequence[Curve], momenta: Sequence[float] = MOMENTA) -> Law:
    """Return the law of least squared error over all measurements; λ is the best of `momenta`.

    Raises HarnessError for fewer than `LEAST` measurements.
    """
    count = sum(len(one.steps) for one in curves)
    if count < LEAST:
        raise HarnessError(f"annealing law: expected {LEAST} measurements or more, got {count}; add a run")
    return min((_fit(curves, momentum) for momentum in momenta), key=lambda law: law.error)


def _fit(curves: Sequence[Curve], momentum: float) -> Law:
    """Fit with λ given."""
    from scipy.optimize import minimize_scalar, nnls

    both = [areas(one.rates, momentum) for one in curves]
    S1 = np.concatenate([a[one.steps - 1] for (a, _), one in zip(both, curves, strict=True)])
    S2 = np.concatenate([b[one.steps - 1] for (_, b), one in zip(both, curves, strict=True)])
    losses = np.concatenate([one.losses for one in curves])
    annealed = any(anneals(a, b) for a, b in both)
    unit, drop = S1.max(), max(np.abs(S2).max(), 1e-300)  # columns of like size, for the solver

    def solved(alpha: float) -> tuple[FloatArray, float]:
        columns = [np.ones_like(S1), (S1 / unit) ** -alpha, *([-S2 / drop] if annealed else [])]
        found, norm = nnls(np.stack(columns, axis=1) / losses[:, None], np.ones_like(losses))
        return found, float(norm)

    start = int(np.argmin([solved(alpha)[1] for alpha in _ALPHAS]))
    ends = math.log(_ALPHAS[max(start - 1, 0)]), math.log(_ALPHAS[min(start + 1, len(_ALPHAS) - 1)])
    best = minimize_scalar(lambda x: solved(math.exp(x))[1], bounds=ends, method="bounded", options={"xatol": 1e-9})
    alpha = math.exp(float(best.x))
    found, norm = solved(alpha)
    C = float(found[2] / drop) if annealed else 0.0
    A = float(found[1] * unit**alpha)
    return Law(float(found[0]), A, alpha, C, momentum, norm / math.sqrt(len(losses)), annealed)
