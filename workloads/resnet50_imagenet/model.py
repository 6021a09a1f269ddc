"""The ResNet with bottlenecks.

Shapes: B images, H height, W width, C channels, N classes.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from harness.api import ParamKind
from harness.program.nnx_adapter import matrix, vector
from harness.program.workload import Data, Workload

from ..families.layers import ACTIVATIONS, normalised
from ..families.resnet import Conv, classifier, norm_of
from .spec import EXPANSION, Bottlenecks, flops


class Bottleneck(nnx.Module):
    """act(shortcut(x) + the branch): convolutions 1x1, 3x3 and 1x1, each normalised; the stride is that of the 3x3.

    The last gain starts at 0, so that a block starts as its shortcut (Goyal et al. 2017, arXiv:1706.02677, 5.1).
    """

    def __init__(self, spec: Bottlenecks, c_in: int, width: int, stride: int, rngs: nnx.Rngs):
        c_out = EXPANSION * width
        self.conv1, self.norm1 = Conv(spec, c_in, width, 1, 1, rngs), norm_of(spec, width, rngs)
        self.conv2, self.norm2 = Conv(spec, width, width, 3, stride, rngs), norm_of(spec, width, rngs)
        self.conv3, self.norm3 = Conv(spec, width, c_out, 1, 1, rngs), norm_of(spec, c_out, rngs, gain=0.0)
        changed = c_in != c_out or stride != 1
        self.shortcut = Conv(spec, c_in, c_out, 1, stride, rngs) if changed else None
        self.shortcut_norm = norm_of(spec, c_out, rngs) if changed else None
        self.activation, self.dtype = spec.activation, spec.dtype

    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        act = ACTIVATIONS[self.activation]
        y_BHWC = act(normalised(self.norm1, self.conv1(x_BHWC), self.dtype))
        y_BHWC = act(normalised(self.norm2, self.conv2(y_BHWC), self.dtype))
        y_BHWC = normalised(self.norm3, self.conv3(y_BHWC), self.dtype)
        if self.shortcut is not None and self.shortcut_norm is not None:
            x_BHWC = normalised(self.shortcut_norm, self.shortcut(x_BHWC), self.dtype)
        return act(x_BHWC + y_BHWC)


class ResNet(nnx.Module):
    """A 7x7 stem and a pooling, each with stride 2; the stages; the mean over positions and a linear output layer, both
    in float32.
    """

    def __init__(self, spec: Bottlenecks, rngs: nnx.Rngs):
        self.stem = Conv(spec, spec.channels, spec.widths[0], 7, 2, rngs, ParamKind.EMBEDDING)
        self.norm = norm_of(spec, spec.widths[0], rngs)
        blocks, c_in = [], spec.widths[0]
        for stage, (width, count) in enumerate(zip(spec.widths, spec.blocks, strict=True)):
            for block in range(count):
                blocks.append(Bottleneck(spec, c_in, width, 2 if stage and not block else 1, rngs))
                c_in = EXPANSION * width
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(
            c_in,
            spec.classes,
            kernel_metadata=matrix(ParamKind.HEAD),
            bias_metadata=vector(ParamKind.BIAS),
            rngs=rngs,
        )
        self.activation, self.dtype = spec.activation, spec.dtype

    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        """Return the logits, float32[B, N]."""
        x_BHWC = ACTIVATIONS[self.activation](normalised(self.norm, self.stem(x_BHWC), self.dtype))
        x_BHWC = nnx.max_pool(x_BHWC, (3, 3), (2, 2), "SAME")
        for block in self.blocks:
            x_BHWC = block(x_BHWC)
        return self.head(x_BHWC.astype(jnp.float32).mean(axis=(1, 2)))


def make(data: Data, spec: Bottlenecks, size: int, scaled: Callable[[jax.Array], jax.Array]) -> Workload:
    """Return the workload, whose model sees `size` x `size` pixels: see `families.resnet.classifier`."""
    return classifier(data, lambda rngs: ResNet(spec, rngs), spec.dtype, scaled, flops(spec, size))
