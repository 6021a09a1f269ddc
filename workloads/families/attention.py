"""Attention by `jax.nn.dot_product_attention`: cuDNN's fused kernels where they work on this device, else XLA.

Shapes: B examples, T positions, H heads, K width of a head.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

Implementation = Literal["cudnn", "xla"]

MIN_LENGTH = 128  # positions; below, the T x T weights are small and XLA's plain products do
TOLERANCE = 0.05  # of the largest value: bf16 has 8 bits, and the two round in different places


@dataclass(frozen=True)
class Choice:
    """Which implementation attention takes, and why."""

    implementation: Implementation
    reason: str

    def __str__(self) -> str:
        return f"{self.implementation}: {self.reason}"


@functools.cache
def choose(length: int, heads: int, width: int, *, causal: bool) -> Choice:
    """Return the implementation for `heads` heads of `width` on `length` positions, after trying cuDNN out.

    The environment variable HARNESS_ATTENTION=xla forgoes cuDNN, whose kernels can be differentiated once and in
    reverse only: a submission that takes Hessian-vector products needs XLA's. HARNESS_ATTENTION=cudnn takes it untried:
    programs are exported with both, and the trial tries them out (`harness.trial.ways`).
    """
    if length < MIN_LENGTH:
        return Choice("xla", f"{length} positions are too few to gain")
    if (asked := os.environ.get("HARNESS_ATTENTION")) in ("xla", "cudnn"):
        return Choice(asked, f"HARNESS_ATTENTION={asked}")
    if jax.default_backend() != "gpu":
        return Choice("xla", "no GPU")
    problem = trouble("cudnn", length, heads, width, causal=causal)
    if problem is None:
        return Choice("cudnn", "forward and backward agree with xla")
    return Choice("xla", f"cudnn failed: {problem}")


def trouble(implementation: Implementation, length: int, heads: int, width: int, *, causal: bool) -> str | None:
    """Run it forward and backward on random bf16[2, length, heads, width] beside XLA's; return what is wrong with it,
    or None.
    """
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, weights = (jax.random.normal(key, (2, length, heads, width), jnp.bfloat16) for key in keys)

    def both(which: Implementation) -> tuple[jax.Array, ...]:
        def total(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
            y = attend(q, k, v, causal=causal, implementation=which)
            return (y.astype(jnp.float32) * weights.astype(jnp.float32)).sum(), y

        (_, y), grads = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))(q, k, v)
        return jax.block_until_ready((y, *grads))

    try:
        found = both(implementation)
    except (RuntimeError, ValueError, TypeError) as error:  # refused by jax, not built, or failed on the device
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    for name, own, other in zip(("forward", "dq", "dk", "dv"), found, both("xla"), strict=True):
        own, other = own.astype(jnp.float32), other.astype(jnp.float32)
        if not float(jnp.abs(own - other).max()) <= TOLERANCE * float(jnp.abs(other).max()):
            return f"its {name} differs from xla's"
    return None


def attend(
    q_BTHK: jax.Array, k_BTHK: jax.Array, v_BTHK: jax.Array, *, causal: bool, implementation: Implementation
) -> jax.Array:
    """Return bf16[B, T, H, K]: softmax(q k' / sqrt(K)) v, the softmax in float32."""
    return jax.nn.dot_product_attention(q_BTHK, k_BTHK, v_BTHK, is_causal=causal, implementation=implementation)


def rotary(x_BTHK: jax.Array) -> jax.Array:
    """Return x turned by its position (Su et al. 2021, arXiv:2104.09864), in float32: values i and i + K/2 are a pair,
    with frequencies that fall geometrically from 1 to 1/10000.
    """
    T, K = x_BTHK.shape[1], x_BTHK.shape[3]
    angles_TK = jnp.arange(T)[:, None] * (10_000.0 ** (-jnp.arange(K // 2) / (K // 2)))[None]
    cos, sin = jnp.cos(angles_TK)[None, :, None], jnp.sin(angles_TK)[None, :, None]
    one, two = jnp.split(x_BTHK.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([one * cos - two * sin, two * cos + one * sin], axis=-1)


def unit(x_BTHK: jax.Array, eps: float = 1e-6) -> jax.Array:
    """Return each head's vector over its root mean square, in float32: QK-norm (Henry et al. 2020, arXiv:2010.04245)
    without gains.
    """
    x_BTHK = x_BTHK.astype(jnp.float32)
    return x_BTHK * jax.lax.rsqrt(jnp.square(x_BTHK).mean(axis=-1, keepdims=True) + eps)
