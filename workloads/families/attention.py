"""Attention: in float32 by plain products, in bf16 by `jax.nn.dot_product_attention`, which takes cuDNN's fused kernels
where they work on this device, else XLA's products.

Shapes: B examples, T positions, H heads, K width of a head.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from .products import product
from .spec import Dtype

Implementation = Literal["plain", "cudnn", "xla"]

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
def choose(length: int, heads: int, width: int, *, causal: bool, dtype: Dtype = "bfloat16") -> Choice:
    """Return the implementation for `heads` heads of `width` on `length` positions, in bf16 after trying cuDNN out.

    The environment variable HARNESS_ATTENTION=xla forgoes cuDNN, whose kernels can be differentiated once and in
    reverse only: a submission that takes Hessian-vector products needs XLA's. HARNESS_ATTENTION=cudnn takes it untried:
    programs are exported with both, and the trial tries them out (`harness.trial.ways`).
    """
    if dtype == "float32":
        return Choice("plain", "float32")
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


def attend(q: jax.Array, k: jax.Array, v: jax.Array, *, causal: bool, implementation: Implementation) -> jax.Array:
    """Return softmax(q k' / sqrt(K)) v, the softmax in float32, as the arguments are: [B, T, H, K], for "plain" float32
    [B, H, T, K].
    """
    if implementation != "plain":
        return jax.nn.dot_product_attention(q, k, v, is_causal=causal, implementation=implementation)
    T, K = q.shape[2:]
    if causal:
        logits_BHTT = product(q * K**-0.5, k.swapaxes(2, 3))
        causal_11TT = jnp.tril(jnp.ones((T, T), bool))[None, None]
        logits_BHTT = jnp.where(causal_11TT, logits_BHTT, -jnp.inf)
    else:  # XLA:CPU takes the gradients of few keys and values with both sides transposed, but for the barrier
        k_BHKT, v = jax.lax.optimization_barrier((k.swapaxes(2, 3), v))
        logits_BHTT = product(q * K**-0.5, k_BHKT)
    # A softmax whose sums divide T x K values and not T x T weights; its maximum, which cancels, has no gradient.
    weights_BHTT = jnp.exp(logits_BHTT - jax.lax.stop_gradient(logits_BHTT.max(axis=3, keepdims=True)))
    return product(weights_BHTT, v) / weights_BHTT.sum(axis=3, keepdims=True)


def rotary(x: jax.Array, axis: int = 1) -> jax.Array:
    """Return x, [B, T, H, K] or with `axis` 2 [B, H, T, K], turned by its position (Su et al. 2021, arXiv:2104.09864),
    in float32: values i and i + K/2 are a pair, with frequencies that fall geometrically from 1 to 1/10000.
    """
    T, K = x.shape[axis], x.shape[3]
    angles_TK = jnp.arange(T)[:, None] * (10_000.0 ** (-jnp.arange(K // 2) / (K // 2)))[None]
    cos, sin = (jnp.expand_dims(wave(angles_TK), (0, 3 - axis)) for wave in (jnp.cos, jnp.sin))
    one, two = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([one * cos - two * sin, two * cos + one * sin], axis=-1)


def unit(x: jax.Array, eps: float = 1e-6) -> jax.Array:
    """Return each vector, along the last axis, over its root mean square, in float32: RMSNorm without its gains (Zhang
    and Sennrich 2019, arXiv:1910.07467), of a head's queries and keys QK-norm (Henry et al. 2020, arXiv:2010.04245).
    """
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.square(x).mean(axis=-1, keepdims=True) + eps)
