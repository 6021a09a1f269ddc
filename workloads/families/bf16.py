"""Layers that compute in bf16 with float32 parameters and float32 reductions, for accelerators.

Shapes: B examples, T positions, D width, H heads, K width of a head, F hidden width of the MLP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from harness.api import ParamKind
from harness.program.nnx_adapter import matrix, vector

from .attention import Implementation, attend, rotary, unit
from .layers import _SECOND_MOMENT, ACTIVATIONS, normalisation
from .spec import Activation, Norm

LOW = jnp.bfloat16


def linear(
    n: int, m: int, std: float, rngs: nnx.Rngs, kind: ParamKind = ParamKind.MATRIX, *, bias: bool = False
) -> nnx.Linear:
    """Return a layer with a normal (n, m) kernel of this standard deviation, and a bias where asked for: bf16 comes
    out.
    """
    return nnx.Linear(
        n,
        m,
        use_bias=bias,
        dtype=LOW,
        kernel_init=nnx.initializers.normal(std),
        kernel_metadata=matrix(kind),
        bias_metadata=vector(ParamKind.BIAS),
        rngs=rngs,
    )


def normalised(norm: nnx.Module, x: jax.Array) -> jax.Array:
    """Return norm(x) in bf16, computed in float32."""
    return norm(x.astype(jnp.float32)).astype(LOW)


class Attention(nnx.Module):
    """Self-attention with one fused projection; with `positions`, rotary ones on normalised queries and keys."""

    def __init__(
        self, width: int, heads: int, out_std: float, scale: float, rngs: nnx.Rngs,
        *, causal: bool, positions: bool, implementation: Implementation,
    ):  # fmt: skip
        info = matrix(in_axes=(0,), out_axes=(2,), stack_axes=((1, "qkv"),))
        init = nnx.initializers.normal(scale * width**-0.5)
        self.qkv = nnx.LinearGeneral(
            width, (3, width), use_bias=False, dtype=LOW, kernel_init=init, kernel_metadata=info, rngs=rngs
        )
        self.out = linear(width, width, scale * out_std * width**-0.5, rngs)
        self.heads, self.causal, self.positions = heads, causal, positions
        self.implementation: Implementation = implementation

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        B, T, D = x_BTD.shape
        q_BTHK, k_BTHK, v_BTHK = (
            part.reshape(B, T, self.heads, D // self.heads) for part in jnp.unstack(self.qkv(x_BTD), axis=2)
        )
        if self.positions:
            q_BTHK, k_BTHK = (rotary(unit(part)).astype(LOW) for part in (q_BTHK, k_BTHK))
        y_BTHK = attend(q_BTHK, k_BTHK, v_BTHK, causal=self.causal, implementation=self.implementation)
        return self.out(y_BTHK.reshape(B, T, D))


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), as `layers.Block`, in bf16."""

    def __init__(
        self, width: int, heads: int, layers: int, norm: Norm, activation: Activation, scale: float, rngs: nnx.Rngs,
        *, implementation: Implementation, causal: bool = False, positions: bool = False,
    ):  # fmt: skip
        out_std = (2 * layers) ** -0.5
        self.norm1 = normalisation(norm, width, rngs)
        self.attention = Attention(
            width, heads, out_std, scale, rngs, causal=causal, positions=positions, implementation=implementation
        )
        self.norm2 = normalisation(norm, width, rngs)
        self.up = linear(width, 4 * width, scale * width**-0.5, rngs)
        self.down = linear(4 * width, width, scale * out_std * (_SECOND_MOMENT[activation] * 4 * width) ** -0.5, rngs)
        self.activation = activation

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        x_BTD = x_BTD + self.attention(normalised(self.norm1, x_BTD))
        h_BTF = ACTIVATIONS[self.activation](self.up(normalised(self.norm2, x_BTD)))
        return x_BTD + self.down(h_BTF)


def over_chunks(
    function: Callable[[Mapping[str, jax.Array]], jax.Array], arrays: Mapping[str, jax.Array], size: int
) -> jax.Array:
    """Return function(arrays), which gives a value for each example, run on `size` examples at a time."""
    n = len(next(iter(arrays.values())))
    whole = n - n % size
    parts = []
    if whole:
        cut = {name: a[:whole].reshape(whole // size, size, *a.shape[1:]) for name, a in arrays.items()}
        values = jax.lax.map(function, cut)
        parts.append(jax.tree.map(lambda v: v.reshape(whole, *v.shape[2:]), values))
    if n > whole:
        parts.append(function({name: a[whole:] for name, a in arrays.items()}))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
