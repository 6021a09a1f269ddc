"""Cross entropy over a large vocabulary: the output layer and the loss together, some tokens at a time.

Logits are float32, and never there for a whole batch. What stays for the backward pass is the gradient with respect to
the logits, in bf16 (Wijmans et al. 2024, arXiv:2411.09009, go further and keep nothing). Being a rule for tangents, it
works in both directions and as often as one likes.

Shapes: B windows, T positions, N tokens, D width, V vocabulary.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

CHUNK = 8192  # tokens at a time: 256 MB of float32 logits for 8,192 words


def token_losses(
    x_BTD: jax.Array, kernel_DV: jax.Array, targets_BT: jax.Array, label_smoothing: float | jax.Array = 0.0
) -> jax.Array:
    """Return the losses in nats, float32[B, T], of the logits x @ kernel.

    `x` is bf16, `kernel` float32 and multiplied in bf16. Smoothing mixes the target with the uniform distribution
    (Szegedy et al. 2016, arXiv:1512.00567, 7).
    """
    B, T, D = x_BTD.shape
    rows = math.gcd(B, max(1, CHUNK // T))
    smoothing = jnp.float32(label_smoothing)

    def chunk(_: None, given: tuple[jax.Array, jax.Array]) -> tuple[None, jax.Array]:
        return None, _losses(given[0], kernel_DV, given[1], smoothing)

    chunks = x_BTD.reshape(B // rows, rows * T, D), targets_BT.reshape(B // rows, rows * T)
    if B == rows:
        return _losses(chunks[0][0], kernel_DV, chunks[1][0], smoothing).reshape(B, T)
    return jax.lax.scan(chunk, None, chunks)[1].reshape(B, T)


@jax.custom_jvp
def _losses(x_ND: jax.Array, kernel_DV: jax.Array, targets_N: jax.Array, smoothing: jax.Array) -> jax.Array:
    logits_NV = logits(x_ND, kernel_DV)
    # Of logits less their maximum: those of 1e12 would all round to one number, and the loss to 0.
    shifted_NV = logits_NV - logits_NV.max(axis=1, keepdims=True)
    hit_N = jnp.take_along_axis(shifted_NV, targets_N[:, None], axis=1)[:, 0]
    sum_N = jnp.log(jnp.exp(shifted_NV).sum(axis=1))
    return sum_N - (1 - smoothing) * hit_N - smoothing * shifted_NV.mean(axis=1)


@_losses.defjvp
def _losses_jvp(primals, tangents):  # type: ignore[no-untyped-def]
    x_ND, kernel_DV, targets_N, smoothing = primals
    dx_ND, dkernel_DV, _, dsmoothing = tangents
    logits_NV = logits(x_ND, kernel_DV)
    V = logits_NV.shape[1]
    log_p_NV = jax.nn.log_softmax(logits_NV)
    here_NV = targets_N[:, None] == jnp.arange(V)[None]
    # Neither reads all of the logits again: those of the targets are looked up, and their mean over V is linear in x.
    hit_N, hit_logit_N = (jnp.take_along_axis(a, targets_N[:, None], axis=1)[:, 0] for a in (log_p_NV, logits_NV))
    mean_N = logits(x_ND, kernel_DV.mean(axis=1, keepdims=True))[:, 0] - (hit_logit_N - hit_N)
    losses_N = -(1 - smoothing) * hit_N - smoothing * mean_N
    slope_NV = jnp.exp(log_p_NV) - jnp.where(here_NV, 1 - smoothing, 0.0) - smoothing / V
    # Kept for the backward pass in bf16; and the tangent is bf16, so that what comes back through it is.
    slope_NV = slope_NV.astype(x_ND.dtype)
    dlogits_NV = dx_ND @ kernel_DV.astype(x_ND.dtype) + x_ND @ dkernel_DV.astype(x_ND.dtype)
    along_N = jnp.einsum("nv,nv->n", slope_NV, dlogits_NV, preferred_element_type=jnp.float32)
    return losses_N, along_N + dsmoothing * (hit_N - mean_N)


def logits(x_ND: jax.Array, kernel_DV: jax.Array) -> jax.Array:
    """Return float32[N, V]: multiplied in the dtype of x, summed and kept in float32."""
    return jnp.dot(x_ND, kernel_DV.astype(x_ND.dtype), preferred_element_type=jnp.float32)
