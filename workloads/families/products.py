"""Products of float32 matrices in the form that XLA:CPU has a fast kernel for, forward and backward.

The gradient of x @ w with respect to w is x' times what comes back. Left alone, XLA folds the transpose into the
product, which then has both sides transposed and takes twice as long.

Shapes: N rows, D values of a row, M columns.
"""

from __future__ import annotations

import jax


def linear(x: jax.Array, kernel: jax.Array, gain: jax.Array | None = None) -> jax.Array:
    """Return x [..., D], times gain [D] if there is one, times kernel [D, ...], summed over D: [..., ...].

    As one product of matrices: for a gradient that sums over several axes, XLA:CPU copies the wider operand.
    """
    D = x.shape[-1]
    kernel_DM = kernel.reshape(D, -1)
    y_NM = product(x.reshape(-1, D), kernel_DM if gain is None else gain[:, None] * kernel_DM)
    return y_NM.reshape(*x.shape[:-1], *kernel.shape[1:])


@jax.custom_jvp
def product(x: jax.Array, w: jax.Array) -> jax.Array:
    """Return x @ w, [..., N, D] times [..., D, M] with the same leading axes."""
    return x @ w


@product.defjvp
def _product_jvp(primals, tangents):  # type: ignore[no-untyped-def]
    x, w = primals
    dx, dw = tangents
    apart = jax.lax.optimization_barrier  # what XLA folds into no product
    along_x = dx @ apart(w.mT).mT  # backward, of c: c @ apart(w')
    if x.shape[-1] <= w.shape[-1]:  # the narrower of x and c is copied
        along_w = apart(x.mT).mT @ dw  # backward: apart(x') @ c
    else:
        along_w = apart(apart(dw.mT) @ x.mT).mT  # backward: apart(apart(c') @ x)'
    return product(x, w), along_x + along_w
