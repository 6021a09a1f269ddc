"""Layers and losses of the families: NNX modules whose parameters carry their roles (`harness.program.nnx_adapter`).

Parameters, normalisations and losses are float32; products are in the `dtype` of the specification.

A specification with `mup` m is of a model that is m times as wide as its base, in the maximal update parametrisation
(Yang et al. 2022, arXiv:2203.03466, table 8), so that one learning rate of Adam is as good at each width. There the
output layer starts as in the base and what it gives is multiplied by 1/m; hidden matrices start as usual and learn at
1/m of the rate. A submission owns its rates, so that goes into the model, by what Adam does not feel (lemma J.1): a
hidden matrix is stored m times as large and multiplied by 1/m. Both multipliers come to the layers' inputs (`times`),
biases and embeddings have none. Heads keep their width, so the 1/sqrt(K) of attention is a constant.

Shapes: B examples, T positions, D width, H heads, K width of a head, F hidden width of the MLP, N classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from harness.api import Key, ParamKind
from harness.program.nnx_adapter import matrix, vector

from . import attention, products
from . import spec as specs
from .spec import Activation, Dtype, Norm

ACTIVATIONS: dict[Activation, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),  # So et al. (2021), arXiv:2109.08668
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}
_SECOND_MOMENT: dict[Activation, float] = {"relu": 0.5, "relu2": 1.5, "gelu": 0.425, "silu": 0.356}
"""E[activation(z)^2] of a standard normal z: what an MLP's hidden layer has for a variance at the start."""


class Linear(nnx.Linear):
    """`nnx.Linear` by `products.linear`; with `gain` [D], of the input times these gains."""

    def __call__(self, inputs: jax.Array, gain: jax.Array | None = None) -> jax.Array:
        y = products.linear(inputs, self.kernel[...], gain)
        return y if self.bias is None else y + jnp.expand_dims(self.bias[...], tuple(range(y.ndim - 1)))


class LinearGeneral(nnx.LinearGeneral):
    """`nnx.LinearGeneral` over the last axis, without a bias, by `products.linear`; with `gain` as in `Linear`."""

    def __call__(self, inputs: jax.Array, gain: jax.Array | None = None) -> jax.Array:
        return products.linear(inputs, self.kernel[...], gain)


def linear(
    n: int, m: int, std: float, rngs: nnx.Rngs, kind: ParamKind = ParamKind.MATRIX,
    *, bias: bool = False, dtype: Dtype = "float32",
) -> nnx.Linear:  # fmt: skip
    """Return a layer with a normal float32 (n, m) kernel of this standard deviation, and a bias where asked for.

    It multiplies in `dtype`, which is the dtype of its output.
    """
    return (Linear if dtype == "float32" else nnx.Linear)(
        n,
        m,
        use_bias=bias,
        dtype=dtype,
        kernel_init=nnx.initializers.normal(std),
        kernel_metadata=matrix(kind),
        bias_metadata=vector(ParamKind.BIAS),
        rngs=rngs,
    )


def normalisation(
    kind: Norm, features: int, rngs: nnx.Rngs,
    *, groups: int = 1, gain: float = 1.0, virtual_batch: int | None = None,
) -> nnx.Module:  # fmt: skip
    """Return a normalisation over the last axis of size `features`; `gain` is where its gains start."""
    scale: dict[str, Any] = {
        "scale_init": nnx.initializers.constant(gain),
        "scale_metadata": vector(ParamKind.NORM),
        "rngs": rngs,
    }
    bias = {"bias_metadata": vector(ParamKind.BIAS)}
    if kind == "rms":
        return nnx.RMSNorm(features, **scale)  # Zhang and Sennrich (2019), arXiv:1910.07467
    if kind == "layer":
        return nnx.LayerNorm(features, **scale, **bias)
    if kind == "group":
        return GroupNorm(features, groups, gain, rngs)
    if virtual_batch is not None:
        return GhostBatchNorm(features, virtual_batch, momentum=0.9, **scale, **bias)
    return nnx.BatchNorm(features, momentum=0.9, **scale, **bias)


class GhostBatchNorm(nnx.BatchNorm):
    """BatchNorm with the statistics of virtual batches of `images` or a little more (Hoffer et al. 2017,
    arXiv:1705.08741, algorithm 1), on [B, H, W, C].

    Virtual batches follow each other in the batch and are of one size: the least from `images` on that divides B.
    Running statistics move once a step, towards the mean over the virtual batches; in the paper once for each.
    """

    def __init__(self, features: int, images: int, **given: Any):
        super().__init__(features, **given)
        self.images = images

    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        if self.use_running_average:
            return super().__call__(x_BHWC)
        B, *HWC = x_BHWC.shape
        size = next(size for size in range(min(self.images, B), B + 1) if B % size == 0)
        x_VGHWC = x_BHWC.reshape(B // size, size, *HWC)
        mean_VC = x_VGHWC.mean((1, 2, 3))
        var_VC = jnp.maximum(jnp.square(x_VGHWC).mean((1, 2, 3)) - jnp.square(mean_VC), 0.0)
        for running, found_VC in ((self.mean, mean_VC), (self.var, var_VC)):
            running[...] = self.momentum * running[...] + (1 - self.momentum) * found_VC.mean(axis=0)
        gain_VC = self.scale[...][None] * jax.lax.rsqrt(var_VC + self.epsilon)
        shift_VC = self.bias[...][None] - mean_VC * gain_VC
        y_VGHWC = x_VGHWC * jnp.expand_dims(gain_VC, (1, 2, 3)) + jnp.expand_dims(shift_VC, (1, 2, 3))
        return y_VGHWC.reshape(x_BHWC.shape)


class GroupNorm(nnx.Module):
    """Wu and He (2018), arXiv:1803.08494, on [B, H, W, C].

    The moments are summed by channel first, so that the reductions run along contiguous channels: on a CPU two to five
    times as fast as `nnx.GroupNorm`, which reduces within groups of 2 to 8 channels.
    """

    def __init__(self, features: int, groups: int, gain: float, rngs: nnx.Rngs, eps: float = 1e-6):
        del rngs  # nothing is drawn
        self.scale = nnx.Param(jnp.full(features, gain, jnp.float32), **vector(ParamKind.NORM))
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32), **vector(ParamKind.BIAS))
        self.groups, self.eps = groups, eps

    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        B, C = x_BHWC.shape[0], x_BHWC.shape[-1]

        def by_group(moment_BC: jax.Array) -> jax.Array:
            means = moment_BC.reshape(B, self.groups, C // self.groups).mean(axis=-1)
            return jnp.repeat(means, C // self.groups, axis=1)

        mean_BC, square_BC = by_group(x_BHWC.mean((1, 2))), by_group(jnp.square(x_BHWC).mean((1, 2)))
        variance_BC = jnp.maximum(square_BC - jnp.square(mean_BC), 0.0)
        gain_BC = self.scale[...][None] * jax.lax.rsqrt(variance_BC + self.eps)
        shift_BC = self.bias[...][None] - mean_BC * gain_BC
        return x_BHWC * gain_BC[:, None, None] + shift_BC[:, None, None]


def normalised(norm: nnx.Module, x: jax.Array, dtype: Dtype) -> jax.Array:
    """Return norm(x) in `dtype`, computed in float32."""
    return norm(x.astype(jnp.float32)).astype(dtype)


def times(x: jax.Array, factor: float) -> jax.Array:
    """Return factor * x; for 1 x itself, so that no product is traced."""
    return x if factor == 1 else factor * x


def after(
    norm: nnx.Module, layer: Callable[..., jax.Array], x: jax.Array, dtype: Dtype, factor: float = 1.0
) -> jax.Array:
    """Return layer(factor * norm(x)), multiplied in `dtype`, normalised in float32.

    In float32 the gains of RMSNorm go into the layer's weights, so that no array as large as x is made of them, and
    their gradient comes from that of the weights.
    """
    if dtype == "float32" and isinstance(norm, nnx.RMSNorm):
        return layer(attention.unit(x), times(norm.scale[...], factor))
    return layer(times(normalised(norm, x, dtype), factor))


class Attention(nnx.Module):
    """Self-attention with one fused projection; with `rotary` positions on normalised queries and keys."""

    def __init__(
        self, width: int, heads: int, out_std: float, scale: float, rngs: nnx.Rngs,
        *, dtype: Dtype, causal: bool, rotary: bool, implementation: attention.Implementation, factor: float,
    ):  # fmt: skip
        info = matrix(in_axes=(0,), out_axes=(2,), stack_axes=((1, "qkv"),))
        init = nnx.initializers.normal(scale * width**-0.5)
        self.qkv = (LinearGeneral if dtype == "float32" else nnx.LinearGeneral)(
            width, (3, width), use_bias=False, dtype=dtype, kernel_init=init, kernel_metadata=info, rngs=rngs
        )
        self.out = linear(width, width, scale * out_std * width**-0.5, rngs, dtype=dtype)
        self.heads, self.causal, self.rotary, self.dtype = heads, causal, rotary, dtype
        self.implementation: attention.Implementation = implementation
        self.factor = factor

    def __call__(self, x_BTD: jax.Array, norm: nnx.Module) -> jax.Array:
        """Return the attention of norm(x)."""
        B, T, D = x_BTD.shape
        qkv_BT3D, heads = after(norm, self.qkv, x_BTD, self.dtype, self.factor), (self.heads, D // self.heads)
        if self.implementation == "plain":  # positions are the third axis, else the second
            # Split before axes are moved: the gradient is one concatenation, and not a sum of three padded arrays.
            q, k, v = (part.reshape(B, T, *heads).swapaxes(1, 2) for part in jnp.split(qkv_BT3D, 3, axis=2))
        else:
            q, k, v = (part.reshape(B, T, *heads) for part in jnp.unstack(qkv_BT3D, axis=2))
        if self.rotary:
            axis = 2 if self.implementation == "plain" else 1
            q, k = (attention.rotary(attention.unit(part), axis).astype(self.dtype) for part in (q, k))
        y = attention.attend(q, k, v, causal=self.causal, implementation=self.implementation)
        y_BTHK = y.transpose(0, 2, 1, 3) if self.implementation == "plain" else y
        return self.out(times(y_BTHK.reshape(B, T, D), self.factor))


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), with a hidden layer four times as wide in the MLP.

    What a block adds to the residual stream starts scaled by (2 layers)^-1/2, as in GPT-2 (Radford et al. 2019).
    """

    def __init__(
        self, spec: specs.GPT | specs.MAE, width: int, heads: int, layers: int, rngs: nnx.Rngs,
        *, implementation: attention.Implementation, causal: bool = False, rotary: bool = False,
    ):  # fmt: skip
        scale, out_std, dtype = spec.init_scale * spec.mup, (2 * layers) ** -0.5, spec.dtype
        down_std = scale * out_std * (_SECOND_MOMENT[spec.activation] * 4 * width) ** -0.5
        self.norm1 = normalisation(spec.norm, width, rngs)
        self.factor = 1 / spec.mup
        self.attention = Attention(
            width, heads, out_std, scale, rngs,
            dtype=dtype, causal=causal, rotary=rotary, implementation=implementation, factor=self.factor,
        )  # fmt: skip
        self.norm2 = normalisation(spec.norm, width, rngs)
        self.up = linear(width, 4 * width, scale * width**-0.5, rngs, dtype=dtype)
        self.down = linear(4 * width, width, down_std, rngs, dtype=dtype)
        self.activation, self.dtype = spec.activation, spec.dtype

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        x_BTD = x_BTD + self.attention(x_BTD, self.norm1)
        h_BTF = ACTIVATIONS[self.activation](after(self.norm2, self.up, x_BTD, self.dtype, self.factor))
        return x_BTD + self.down(times(h_BTF, self.factor))


def cross_entropy(logits: jax.Array, targets: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Return the losses in nats, the shape of `targets`; logits have one more axis, over classes.

    Smoothing mixes the target with the uniform distribution (Szegedy et al. 2016, arXiv:1512.00567, 7).
    """
    log_p = jax.nn.log_softmax(logits)
    hit = jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    return -(1 - label_smoothing) * hit - label_smoothing * log_p.mean(axis=-1)


def he_normal(scale: float) -> Callable[..., jax.Array]:
    """Return the initialiser of He et al. (2015), arXiv:1502.01852, eq. 10, times `scale`.

    Drawn as a matrix: four axes take XLA twice as long to compile.
    """

    def init(key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
        del out_sharding
        fan_in = math.prod(shape[:-1])
        return scale * (2 / fan_in) ** 0.5 * jax.random.normal(key, (fan_in, shape[-1]), dtype).reshape(shape)

    return init
