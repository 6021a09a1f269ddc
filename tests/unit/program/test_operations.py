"""Products by hand: loops count as often as they run, branches by the dearest arm, calls each time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import export

from harness.program import operations

X, W = jnp.zeros((6, 4, 4)), jnp.zeros((4, 4))
ONE = 2 * 4 * 4 * 4  # of a product of two 4 x 4 matrices


def counted(function) -> operations.Operations:
    return operations.count(text(function))


def text(function) -> str:
    shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (X, W)]
    return export.export(jax.jit(function))(*shapes).mlir_module()


def scanned(x, w):
    return jax.lax.scan(lambda c, xi: (c + jnp.sin(xi @ w).sum(), None), 0.0, x)[0]


@pytest.mark.parametrize(
    ("function", "products", "exact"),
    [
        (lambda x, w: x[0] @ w, ONE, True),
        (lambda x, w: jnp.einsum("bij,jk->bik", x, w), 6 * ONE, True),
        (lambda x, w: jnp.einsum("bij,bij->b", x, x), 6 * 2 * 16, True),
        (scanned, 6 * ONE, True),
        (lambda x, w: jax.grad(lambda w: scanned(x, w))(w), 12 * ONE, True),
        (lambda x, w: jax.lax.fori_loop(0, 7, lambda i, a: a @ w, x[0]), 7 * ONE, True),
        (lambda x, w: jax.lax.map(lambda a: a @ w, x, batch_size=4), 6 * ONE, True),
        (lambda x, w: jax.lax.scan(lambda c, _: (scanned(x, w) + c, None), 0.0, None, length=5)[0], 30 * ONE, True),
        (lambda x, w: jax.lax.cond(x.sum() > 0, lambda: x[0] @ w @ w, lambda: x[0] @ w), 2 * ONE, True),
        (lambda x, w: jax.lax.while_loop(lambda a: a.sum() < 3, lambda a: a @ w, x[0]), ONE, False),
        (lambda x, w: jax.lax.while_loop(lambda a: a.sum() < 3, lambda a: a + 1, x[0]) @ w, ONE, True),
        (lambda x, w: jax.jit(lambda a: a @ w)(x[0]) + jax.jit(lambda a: a @ w)(x[1]), 2 * ONE, True),
        (lambda x, w: x + 1, 0, True),
    ],
)
def test_products(function, products, exact):
    found = counted(function)
    assert (found.products, found.exact) == (products, exact)


def test_a_counter_that_takes_longer_steps_runs_less_often():
    """A loop that pretends to be long must not pass for more work than it does."""

    def pretends(x, w):
        start = (jnp.int32(0), x[0])
        return jax.lax.while_loop(lambda s: s[0] < 6, lambda s: (s[0] + 3, s[1] @ w), start)[1]

    assert counted(pretends).products == 2 * ONE

    def stops(x, w):
        start = (jnp.int32(0), x[0])
        going = lambda s: (s[0] < 6) & (s[1].sum() < 1)  # noqa: E731
        return jax.lax.while_loop(going, lambda s: (s[0] + 1, s[1] @ w), start)[1]

    assert not counted(stops).exact


def test_a_convolution():
    def convolved(x, w):
        kernel = jnp.broadcast_to(w[:3, :3, None, None], (3, 3, 1, 8))
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x[..., None], kernel, (1, 1), "SAME", dimension_numbers=layout)

    assert counted(convolved).products == 2 * (6 * 4 * 4 * 8) * 9


def test_constants_and_calls():
    numbers = jnp.arange(100.0) ** 2  # computed here, so that the program holds them
    found = counted(lambda x, w: x.sum() + numbers.sum() + jnp.full((50, 50), 3.0).sum() + jnp.linalg.qr(w)[0].sum())
    assert 400 <= found.constant_bytes < 500
    assert found.custom_calls == {"lapack_sgeqrf_ffi", "lapack_sorgqr_ffi"}


def test_names_and_places_are_normalised_away():
    def first(x, w):
        return jax.jit(lambda a: a @ w)(x[0])

    def second(things, others):
        def other_name(a):
            return a @ others

        return jax.jit(other_name)(things[0])

    assert text(first) != text(second)
    one, other = operations.normalised(text(first)), operations.normalised(text(second))
    assert one == other
    assert "loc(" not in one
    assert "@lapack_sgeqrf_ffi" in operations.normalised(text(lambda x, w: jnp.linalg.qr(w)[0]))
