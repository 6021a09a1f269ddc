"""Learning-rate schedules as pure functions of the step, counted from 0. Warm-up never yields 0."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def warmup_cosine(peak: float, total_steps: int, warmup_fraction: float) -> optax.Schedule:
    """Return the schedule that warms up linearly, then decays along a half cosine to 0 at `total_steps` and stays
    there.

    With w = max(1, round(warmup_fraction * total_steps)) and p = (t - w) / (total_steps - w):

        t < w:  peak * (t + 1) / w
        else:   peak * (1 + cos(pi * min(p, 1))) / 2

    Loshchilov and Hutter (2017), arXiv:1608.03983, eq. 5, with one cycle and a warm-up in front.
    """
    warmup = max(1, round(warmup_fraction * total_steps))

    def schedule(step: jax.Array) -> jax.Array:
        p = jnp.clip((step - warmup) / max(1, total_steps - warmup), 0.0, 1.0)
        return peak * jnp.where(step < warmup, (step + 1) / warmup, 0.5 * (1.0 + jnp.cos(jnp.pi * p)))

    return schedule


def warmup_linear(peak: float, total_steps: int, warmup_fraction: float) -> optax.Schedule:
    """Return the schedule that warms up linearly, then decays linearly to 0 at `total_steps` and stays there.

    With w and p as in `warmup_cosine`:

        t < w:  peak * (t + 1) / w
        else:   peak * (1 - min(p, 1))

    Defazio et al. (2023), arXiv:2310.07831, find it the best default; Bergsma et al. (2025) call it D2Z.
    """
    warmup = max(1, round(warmup_fraction * total_steps))

    def schedule(step: jax.Array) -> jax.Array:
        p = jnp.clip((step - warmup) / max(1, total_steps - warmup), 0.0, 1.0)
        return peak * jnp.where(step < warmup, (step + 1) / warmup, 1.0 - p)

    return schedule
