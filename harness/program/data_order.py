"""The order of the training examples as a pure function: no iterator state, exact resume, any batch size.

Each epoch is a permutation of the training set. It is never stored: the index at a position is computed from the key,
by a Feistel network over the grid rows x columns >= n whose values outside the set are walked on (Black and Rogaway
2002, "Ciphers with arbitrary finite domains", the cycle-walking and generalised-Feistel constructions).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

_ROUNDS = 6


def batch_indices(key: jax.Array, examples_seen: jax.Array, size: int, num_examples: int) -> jax.Array:
    """Return int32[size]: the examples at stream positions examples_seen, examples_seen + 1, ...

    Position p is in epoch p // num_examples; over an epoch each example comes exactly once.
    """
    position = jnp.asarray(examples_seen, jnp.uint32) + jnp.arange(size, dtype=jnp.uint32)
    epoch, offset = jnp.divmod(position, jnp.uint32(num_examples))
    return permute(key, epoch, offset, num_examples).astype(jnp.int32)


def permute(key: jax.Array, epoch: jax.Array, offset: jax.Array, num_examples: int) -> jax.Array:
    """Return where each offset in [0, num_examples) goes under the permutation of its epoch; uint32, shape of
    `offset`.
    """
    rows, columns = _grid(num_examples)
    round_keys = jax.random.bits(key, (2 * _ROUNDS,), jnp.uint32)

    def shuffle(x: jax.Array) -> jax.Array:
        row, column = x // columns, x % columns
        for r in range(_ROUNDS):
            row = (row + _mix(column, epoch, round_keys[2 * r]) % rows) % rows
            column = (column + _mix(row, epoch, round_keys[2 * r + 1]) % columns) % columns
        return row * columns + column

    x = shuffle(offset)
    if rows * columns == num_examples:
        return x
    outside = lambda x: x >= num_examples  # noqa: E731
    return jax.lax.while_loop(lambda x: outside(x).any(), lambda x: jnp.where(outside(x), shuffle(x), x), x)


def _grid(n: int) -> tuple[int, int]:
    """Return (rows, columns) with rows * columns >= n: n itself where it splits evenly enough, else nearly square."""
    root = math.isqrt(n)
    for rows in range(root, max(1, root // 8), -1):
        if n % rows == 0:
            return rows, n // rows
    rows = root if root * root >= n else root + 1
    return rows, -(-n // rows)


def _mix(x: jax.Array, epoch: jax.Array, round_key: jax.Array) -> jax.Array:
    """A 32-bit hash: the murmur3 finaliser (Appleby 2011) over the input, the epoch and the round's key."""
    x = (x * jnp.uint32(0x9E3779B1)) ^ (epoch * jnp.uint32(0x85EBCA77)) ^ round_key
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
