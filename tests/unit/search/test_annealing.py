"""The law of annealing: its areas by hand, its constants back out of curves made by them, and a real noisy training
whose WSD ending follows from a cosine and a constant run.
"""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import HarnessError
from harness.search.annealing import Law, areas, curve, fit

N = 600
PEAK = 0.01
AT = np.arange(24, N + 1, 24)


def cosine(n: int = N, warmup: int = 30) -> np.ndarray:
    t = np.arange(n)
    return PEAK * np.where(t < warmup, (t + 1) / warmup, 0.5 * (1 + np.cos(np.pi * (t - warmup) / (n - warmup))))


def wsd(n: int = N, warmup: int = 30, decay: float = 0.2) -> np.ndarray:
    t = np.arange(n)
    return PEAK * np.minimum(np.minimum(1.0, (t + 1) / warmup), (n - t) / (decay * n))


def constant(n: int = N) -> np.ndarray:
    return np.full(n, PEAK)


TRUTH = Law(L0=1.5, A=0.9, alpha=0.6, C=2.0, momentum=0.98, error=0.0, annealed=True)


def made(rates: np.ndarray, noise: float = 0.0, seed: int = 0):
    losses = TRUTH.predict(rates, AT)
    return curve(rates, AT, losses * (1 + noise * np.random.default_rng(seed).standard_normal(len(AT))))


def test_areas_by_hand() -> None:
    S1, S2 = areas([1.0, 4.0, 4.0, 2.0, 1.0], 0.5)
    assert S1.tolist() == [4.0, 8.0, 12.0, 14.0, 15.0], "the warm-up counts as the peak"
    # falls 0, 0, 0, 2, 1; momentum 0, 0, 0, 2, 2
    assert S2.tolist() == [0.0, 0.0, 0.0, 2.0, 4.0]
    assert areas(constant(), 0.99)[1].max() == 0.0


def test_constants_come_back() -> None:
    found = fit([made(cosine()), made(constant())])
    assert (found.L0, found.A, found.alpha, found.C) == pytest.approx((1.5, 0.9, 0.6, 2.0), rel=1e-4)
    assert found.momentum == 0.98 and found.error < 1e-6 and found.annealed


def test_wsd_from_one_cosine() -> None:
    law = fit([made(cosine())])
    assert law.predict(wsd(), AT) == pytest.approx(TRUTH.predict(wsd(), AT), rel=1e-4)
    noisy = fit([made(cosine(), noise=2e-3), made(constant(), noise=2e-3, seed=1)])
    assert noisy.predict(wsd())[-1] == pytest.approx(TRUTH.predict(wsd())[-1], rel=5e-3)
    assert noisy.error == pytest.approx(2e-3, rel=0.4)


def test_wsd_from_runs_of_sgd() -> None:
    """No law made these curves: SGD with noise on a quadratic whose curvatures spread over three decades."""
    curvatures = np.geomspace(1e-1, 1e2, 200)

    def trained(rates: np.ndarray) -> np.ndarray:
        mean, variance = np.ones_like(curvatures), np.zeros_like(curvatures)
        losses = []
        for rate in rates:
            kept = 1.0 - rate * curvatures
            mean, variance = kept * mean, kept**2 * variance + (0.3 * rate) ** 2 * curvatures
            losses.append(0.05 + 0.5 * (curvatures * (mean**2 + variance)).mean())
        return np.array(losses)

    late = AT[AT >= 96]
    law = fit([curve(rates, late, trained(rates)[late - 1]) for rates in (cosine(), constant())])
    predicted, true = float(law.predict(wsd())[-1]), float(trained(wsd())[-1])
    unannealed = float(trained(constant())[-1])
    assert abs(predicted - true) < 0.25 * (unannealed - true), (predicted, true, unannealed)


def test_without_annealing_nothing_is_said_of_it() -> None:
    law = fit([made(constant())])
    assert law.C == 0.0 and not law.annealed
    assert law.predict(constant())[-1] == pytest.approx(TRUTH.predict(constant())[-1], rel=1e-6)
    with pytest.raises(HarnessError, match="never fell"):
        law.predict(cosine())


def test_what_is_hopeless() -> None:
    law = fit([made(cosine(), noise=2e-3)])
    last = float(TRUTH.predict(wsd())[-1])
    assert law.hopeless(wsd(), 0.97 * last) and not law.hopeless(wsd(), 1.01 * last)
    assert not law.hopeless(wsd(), 0.999 * last), "within the error of the fit"


@pytest.mark.parametrize(
    ("rates", "steps", "losses", "said"),
    [
        ([1.0] * 4, [1, 2], [1.0], "as many losses as steps"),
        ([1.0] * 4, [0, 2], [1.0, 1.0], "steps from 1 to 4"),
        ([1.0] * 4, [2, 5], [1.0, 1.0], "steps from 1 to 4"),
        ([1.0] * 4, [1, 2], [1.0, np.nan], "finite losses above 0"),
        ([0.0] * 4, [1, 2], [1.0, 1.0], "learning rates, none below 0"),
    ],
)
def test_what_is_no_curve(rates, steps, losses, said) -> None:
    with pytest.raises(HarnessError, match=said):
        curve(rates, steps, losses)
    with pytest.raises(HarnessError, match="8 measurements or more, got 2"):
        fit([curve([1.0] * 4, [1, 2], [1.0, 0.9])])
