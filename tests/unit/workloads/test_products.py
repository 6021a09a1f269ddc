"""The float32 products of the families beside plain ones: values and every kind of derivative."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from workloads.families import attention, products

TOLERANCE = 1e-5  # of the largest value


def normal(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def plain_linear(x, kernel, gain):
    return jnp.tensordot(jnp.einsum("btd,d->btd", x, gain), kernel, axes=1)


def plain_attention(q, k, v, *, causal):
    logits = jnp.einsum("bhtk,bhsk->bhts", q, k) * q.shape[-1] ** -0.5
    if causal:
        logits = jnp.where(jnp.tril(jnp.ones(logits.shape[2:], bool))[None, None], logits, -jnp.inf)
    return jnp.einsum("bhts,bhsk->bhtk", jax.nn.softmax(logits), v)


def attend(causal):
    return lambda q, k, v: attention.attend(q, k, v, causal=causal, implementation="plain")


CASES = {
    "narrow to wide": (products.linear, plain_linear, (normal(0, 4, 6, 8), normal(1, 8, 16), 1 + normal(2, 8))),
    "wide to narrow": (products.linear, plain_linear, (normal(0, 4, 6, 16), normal(1, 16, 8), 1 + normal(2, 16))),
    "three at once": (products.linear, plain_linear, (normal(0, 4, 6, 8), normal(1, 8, 3, 8), 1 + normal(2, 8))),
    "attention": (
        attend(False),
        lambda *qkv: plain_attention(*qkv, causal=False),
        tuple(2 * normal(seed, 4, 2, 6, 8) for seed in range(3)),
    ),
    "causal attention": (
        attend(True),
        lambda *qkv: plain_attention(*qkv, causal=True),
        tuple(2 * normal(seed, 4, 2, 6, 8) for seed in range(3)),
    ),
}


def value(f, args, along):
    return f(*args)


def gradient(f, args, along):
    return jax.grad(total(f), range(len(args)))(*args)


def tangent(f, args, along):
    return jax.jvp(f, args, along)


def forward_over_reverse(f, args, along):
    return jax.jvp(jax.grad(total(f), range(len(args))), args, along)


def reverse_over_reverse(f, args, along):
    def slope(*args):
        return sum(jnp.vdot(g, a) for g, a in zip(gradient(f, args, along), along, strict=True))

    return jax.grad(slope, range(len(args)))(*args)


def per_example(f, args, along):
    """One gradient for each entry of the first argument's first axis; of attention, of all arguments'."""
    axes = tuple(0 if a.ndim == args[0].ndim and len(a) == len(args[0]) else None for a in args)

    def one(*args):
        return gradient(f, tuple(a if axis is None else a[None] for a, axis in zip(args, axes, strict=True)), along)

    return jax.vmap(one, in_axes=axes)(*args)


def total(f):
    """A sum in which every output has a slope and a curvature of its own."""

    def function(*args):
        y = f(*args)
        return jnp.sum(jnp.sin(y) * jnp.linspace(0.5, 1.5, y.size).reshape(y.shape))

    return function


@pytest.mark.parametrize(
    "of", [value, gradient, tangent, forward_over_reverse, reverse_over_reverse, per_example], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("case", CASES)
def test_values_and_derivatives_are_those_of_the_plain_form(case: str, of) -> None:
    own, plain, args = CASES[case]
    along = tuple(normal(10 + number, *a.shape) for number, a in enumerate(args))
    with jax.default_matmul_precision("float32"):
        found, expected = (jax.jit(lambda f=f: of(f, args, along))() for f in (own, plain))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE * float(jnp.abs(b).max()))
