"""Learning-rate schedules as pure functions of the step, counted from 0, and the total. Warm-up never yields 0.

`linear_warmup`, `constant`, `cosine`, `linear`, `wsd`, `rex` and `infinite` return the share of the peak rate at a
step; `scheduled` makes an optax schedule of one. They share these symbols, with w warm-up steps of `total` T:

    t < w:       (t + 1) / w
    otherwise:   the formula of each, in p = (t - w) / (T - w), which stays at 1 after T

so the last step before T takes the rate just above the final one, which holds from T on. Lengths may be whole numbers
or int32 arrays: a traced length gives the same bits as a constant one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import optax

from harness.optim.checks import expect, expect_choice

Steps: TypeAlias = int | jax.Array
"""A number of steps."""


def linear_warmup(step: jax.Array, total: Steps) -> jax.Array:
    """Return (t + 1) / T, and 1 from step T - 1 on. torch's convention; optax's t / T wastes the first step."""
    return jnp.minimum(1.0, share(step + 1, larger(1, total)))


def constant(step: jax.Array, total: Steps, *, warmup: Steps = 0) -> jax.Array:
    """Return 1 after the warm-up."""
    return _warmed(step, warmup, jnp.ones(jnp.shape(step)))


def cosine(step: jax.Array, total: Steps, *, warmup: Steps = 0, final: float = 0.0) -> jax.Array:
    """Return final + (1 - final) (1 + cos(pi p)) / 2.

    Loshchilov and Hutter (2017), arXiv:1608.03983, eq. 5, with one cycle.
    """
    p = _progress(step, warmup, total)
    return _warmed(step, warmup, final + (1.0 - final) * (0.5 * (1.0 + jnp.cos(jnp.pi * p))))


def linear(step: jax.Array, total: Steps, *, warmup: Steps = 0, final: float = 0.0) -> jax.Array:
    """Return final + (1 - final) (1 - p).

    Defazio et al. (2023), arXiv:2310.07831, find it the best default; Bergsma et al. (2025), arXiv:2502.15938, call it
    D2Z.
    """
    return _warmed(step, warmup, final + (1.0 - final) * (1.0 - _progress(step, warmup, total)))


def wsd(
    step: jax.Array,
    total: Steps,
    *,
    warmup: Steps = 0,
    decay_fraction: float = 0.2,
    decay: Literal["linear", "1-sqrt"] = "linear",
    final: float = 0.0,
) -> jax.Array:
    """Return warm-up, stable, decay: 1, then over the last D = round(decay_fraction T) steps, in q = (t - T + D) / D:

        "linear"   final + (1 - final) (1 - q)
        "1-sqrt"   final + (1 - final) (1 - sqrt(q))

    Hu et al. (2024), arXiv:2404.06395; Hägele et al. (2024), arXiv:2405.18392, for "1-sqrt".
    """
    expect("wsd: decay_fraction", decay_fraction, 0.0, above=True)
    expect_choice("wsd: decay", decay, ("linear", "1-sqrt"))
    q = _progress(step, larger(warmup, total - larger(1, rounded(decay_fraction * total))), total)
    return _warmed(step, warmup, final + (1.0 - final) * (1.0 - (jnp.sqrt(q) if decay == "1-sqrt" else q)))


def rex(step: jax.Array, total: Steps, *, warmup: Steps = 0, final: float = 0.0) -> jax.Array:
    """Return final + (1 - final) (1 - p) / (1/2 + (1 - p) / 2).

    Chen, Wolfe and Kyrillidis (2022), arXiv:2107.04197, eq. 1: above the linear decay all along.
    """
    z = 1.0 - _progress(step, warmup, total)
    return _warmed(step, warmup, final + (1.0 - final) * (z / (0.5 + 0.5 * z)))


def infinite(
    step: jax.Array,
    total: Steps,
    *,
    warmup: Steps = 0,
    cooldown_end: float = 0.15,
    anneal_start: float = 0.8,
    stable: float = 0.1,
    final: float = 0.01,
) -> jax.Array:
    """Return warm-up, cooldown to a constant rate, anneal: what can be trained on from before it is annealed.

    With q going from 0 to 1 between w and cooldown_end T, u from 0 to 1 between anneal_start T and T:

        cooldown    stable + (1 - stable) (1 + cos(pi q)) / 2
        constant    stable
        anneal      stable (final / stable)^u

    Singh et al. (2025), arXiv:2503.02844, with a cosine cooldown; their peak, stable and final rates are 1e-3, 1e-4
    and 1e-5, their warm-up is 5% of T.
    """
    expect("infinite: stable", stable, 0.0, above=True)
    expect("infinite: final", final, 0.0, above=True)
    start = rounded(anneal_start * total)
    q = _progress(step, warmup, larger(warmup + 1, rounded(cooldown_end * total)))
    u = _progress(step, start, total)
    cooled = stable + (1.0 - stable) * (0.5 * (1.0 + jnp.cos(jnp.pi * q)))
    return _warmed(step, warmup, jnp.where(step < start, cooled, stable * (final / stable) ** u))


def scheduled(
    shape: Callable[..., jax.Array],
    peak: float | jax.Array,
    total_steps: Steps,
    warmup_fraction: float | jax.Array = 0.0,
    **options: Any,
) -> optax.Schedule:
    """Return the optax schedule peak * shape(step, total_steps), warmed up over that fraction of the steps.

    At least one step is warm-up, which is none: its rate is the peak.
    """
    expect("scheduled: total_steps", total_steps, 1, whole=True)
    expect("scheduled: warmup_fraction", warmup_fraction, 0.0)
    warmup = larger(1, rounded(warmup_fraction * total_steps))
    return lambda step: peak * shape(step, total_steps, warmup=warmup, **options)


def warmup_cosine(peak: float | jax.Array, total_steps: Steps, warmup_fraction: float | jax.Array) -> optax.Schedule:
    """Return the schedule that warms up linearly, then decays along a half cosine to 0 at `total_steps` and stays
    there: `cosine`, with max(1, round(warmup_fraction * total_steps)) steps of warm-up.
    """
    return scheduled(cosine, peak, total_steps, warmup_fraction)


def warmup_linear(peak: float | jax.Array, total_steps: Steps, warmup_fraction: float | jax.Array) -> optax.Schedule:
    """Return the schedule that warms up linearly, then decays linearly to 0 at `total_steps` and stays there:
    `linear`, with max(1, round(warmup_fraction * total_steps)) steps of warm-up.
    """
    return scheduled(linear, peak, total_steps, warmup_fraction)


def _progress(step: jax.Array, start: Steps, end: Steps) -> jax.Array:
    return jnp.clip(share(step - start, larger(1, end - start)), 0.0, 1.0)


def _warmed(step: jax.Array, warmup: Steps, after: jax.Array) -> jax.Array:
    return jnp.where(step < warmup, share(step + 1, larger(1, warmup)), after)


def rounded(steps: float | jax.Array) -> Steps:
    """Return the nearest whole number of steps, which may be traced."""
    return round(steps)  # type: ignore[return-value]


def larger(one: Steps, other: Steps) -> Steps:
    """Return the larger of two lengths, either of which may be traced."""
    if isinstance(one, int) and isinstance(other, int):
        return max(one, other)
    return jnp.maximum(one, other)


def share(steps: jax.Array, length: Steps) -> jax.Array:
    """Return steps / length. By a traced length as XLA divides by a constant, so that both give the same bits."""
    return steps / length if isinstance(length, int) else steps * (1.0 / length)
