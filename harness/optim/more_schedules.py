"""More learning-rate schedules, with the symbols and conventions of `harness.optim.schedules`: t, w, T and p.

`cosine_power`, `exponential`, `multistep`, `one_cycle` and `wsd_s` return the share of the peak rate at a step;
`harness.optim.schedules.scheduled` makes an optax schedule of one. Lengths may be whole numbers or int32 arrays. They
stand in a module of their own so that the sources of the first ones stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from harness.optim.checks import expect
from harness.optim.schedules import Steps, _progress, _warmed, larger, rounded, share


def cosine_power(
    step: jax.Array, total: Steps, *, warmup: Steps = 0, power: float = 10.0, final: float = 0.0
) -> jax.Array:
    """Return final + (1 - final) (b^c - 1) / (b - 1), with b = power and c = (1 + cos(pi p)) / 2.

    It falls faster than `cosine` at first and slower at the end; towards b = 1 it becomes `cosine`.

    Raises SubmissionError unless power is above 1.

    Source: Hundt, Jain and Hager (2019), arXiv:1903.09900, cosine power annealing: (b^(c + 1) - b) / (b^2 - b) there,
    which is the same; b = 10 is theirs.
    """
    expect("cosine_power: power", power, 1.0, above=True)
    c = 0.5 * (1.0 + jnp.cos(jnp.pi * _progress(step, warmup, total)))
    return _warmed(step, warmup, final + (1.0 - final) * ((power**c - 1.0) / (power - 1.0)))


def exponential(step: jax.Array, total: Steps, *, warmup: Steps = 0, final: float = 0.01) -> jax.Array:
    """Return final^p: the same factor at each step, as torch's ExponentialLR.

    After the warm-up it is optax's exponential_decay(1, T - w, final, w, end_value=final), whose lengths are numbers.

    Raises SubmissionError unless final is above 0.
    """
    expect("exponential: final", final, 0.0, above=True)
    return _warmed(step, warmup, final ** _progress(step, warmup, total))


def multistep(
    step: jax.Array,
    total: Steps,
    *,
    warmup: Steps = 0,
    milestones: Sequence[float] = (0.5, 0.75),
    gamma: float = 0.1,
) -> jax.Array:
    """Return gamma^k after k milestones: a milestone m is passed from step round(m T) on.

    torch's MultiStepLR, and optax's piecewise_constant_schedule, whose lengths are numbers; the milestones here are
    fractions of T. Those of He et al. (2016), arXiv:1512.03385, on CIFAR-10 are the defaults.

    Raises SubmissionError for a negative milestone or gamma.
    """
    expect("multistep: gamma", gamma, 0.0)
    rate = jnp.ones(jnp.shape(step))
    for milestone in milestones:
        expect("multistep: milestones", milestone, 0.0)
        rate = rate * jnp.where(step < rounded(milestone * total), 1.0, gamma)
    return _warmed(step, warmup, rate)


def one_cycle(
    step: jax.Array,
    total: Steps,
    *,
    warmup: Steps = 0,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> jax.Array:
    """Return a rise and a fall, each half a cosine, with low = 1 / (div_factor final_div_factor):

        t < w        1 / div_factor + (1 - 1 / div_factor) (1 - cos(pi t / w)) / 2
        otherwise    low + (1 - low) (1 + cos(pi p)) / 2

    optax's cosine_onecycle_schedule, whose lengths are numbers, and torch's OneCycleLR, which ends a step earlier. The
    warm-up is the rise: their pct_start is the fraction w / T, 0.3 by default. The momentum is not cycled.

    Raises SubmissionError for factors below 1.

    Source: Smith and Topin (2018), arXiv:1708.07120.
    """
    expect("one_cycle: div_factor", div_factor, 1.0)
    expect("one_cycle: final_div_factor", final_div_factor, 1.0)
    first, low = 1.0 / div_factor, 1.0 / (div_factor * final_div_factor)
    q = jnp.clip(share(step, larger(1, warmup)), 0.0, 1.0)
    rise = first + (1.0 - first) * (0.5 * (1.0 - jnp.cos(jnp.pi * q)))
    fall = low + (1.0 - low) * (0.5 * (1.0 + jnp.cos(jnp.pi * _progress(step, warmup, total))))
    return jnp.where(step < warmup, rise, fall)


def wsd_s(
    step: jax.Array,
    total: Steps,
    *,
    warmup: Steps = 0,
    cycles: int = 3,
    decay_fraction: float = 0.2,
    final: float = 0.1,
) -> jax.Array:
    """Return warm-up, then equal cycles of stable and decay: each goes on from the decayed weights, at the peak again.

    `wsd` would go back to the weights before the decay. A cycle is 1, then over its last `decay_fraction`, with q from
    0 to 1:

        1 / ((1 - q) + q / final)        the inverse of the rate is linear

    and from T on it is `final`.

    Raises SubmissionError for cycles below 1, a decay_fraction or a final that is not above 0.

    Source: Wen et al. (2024), arXiv:2410.05192, WSD-S; the decay is the `inv` of levanter. The number of cycles, the
    fraction and `final` are choices of this project.
    """
    expect("wsd_s: cycles", cycles, 1, whole=True)
    expect("wsd_s: decay_fraction", decay_fraction, 0.0, above=True)
    expect("wsd_s: final", final, 0.0, above=True)
    length = larger(1, total - warmup)
    within = (cycles * (step - warmup)) % length  # in steps over `cycles`: whole numbers, so that no cycle begins late
    q = _progress(within, length - rounded(decay_fraction * length), length)
    return _warmed(step, warmup, jnp.where(step < total, 1.0 / ((1.0 - q) + q / final), final))
