"""Image classifiers: a ResNet (He et al. 2015, arXiv:1512.03385, section 4.2).

Shapes: B images, H height, W width, C channels, N classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from harness.api import Batch, Key, ModelState, ParamKind, Params
from harness.program.nnx_adapter import Model, conv, matrix, vector
from harness.program.workload import Data, Workload

from . import flops
from . import spec as specs
from .layers import ACTIVATIONS, cross_entropy, he_normal, normalisation, normalised

EVALUATION_CHUNK: dict[specs.Dtype, int] = {"float32": 250, "bfloat16": 1000}
"""Images run at a time: the activations stay in the cache of a CPU, or fill a GPU."""
TENSOR_CORE_CHANNELS = 8  # in bf16 the inputs of a convolution are a multiple of this


class Conv(nnx.Module):
    """A convolution without bias, "SAME" padding. In bf16, channels are filled up with zeros to a multiple of 8."""

    def __init__(
        self, spec: specs.ResNet, c_in: int, c_out: int, size: int, stride: int, rngs: nnx.Rngs,
        kind: ParamKind = ParamKind.CONV,
    ):  # fmt: skip
        kernel = he_normal(spec.init_scale)(rngs.params(), (size, size, c_in, c_out))
        self.kernel = nnx.Param(kernel, **conv(kind))
        self.stride, self.dtype = stride, spec.dtype

    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        x_BHWC, kernel = x_BHWC.astype(self.dtype), self.kernel[...].astype(self.dtype)
        if self.dtype == "bfloat16" and (missing := -x_BHWC.shape[-1] % TENSOR_CORE_CHANNELS):
            x_BHWC = jnp.pad(x_BHWC, ((0, 0), (0, 0), (0, 0), (0, missing)))
            kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, missing), (0, 0)))
        return jax.lax.conv_general_dilated(
            x_BHWC, kernel, (self.stride, self.stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )


class Block(nnx.Module):
    """act(shortcut(x) + norm(conv(act(norm(conv(x)))))); the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, spec: specs.ResNet, c_in: int, c_out: int, stride: int, rngs: nnx.Rngs):
        self.conv1 = Conv(spec, c_in, c_out, 3, stride, rngs)
        self.norm1 = norm_of(spec, c_out, rngs)
        self.conv2 = Conv(spec, c_out, c_out, 3, 1, rngs)
        # The second gain starts at 0, so a block starts as its shortcut (Goyal et al. 2017, arXiv:1706.02677, 5.1).
        self.norm2 = norm_of(spec, c_out, rngs, gain=0.0)
        self.shortcut = Conv(spec, c_in, c_out, 1, stride, rngs) if c_in != c_out or stride != 1 else None
        self.activation, self.dtype = spec.activation, spec.dtype

    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        act = ACTIVATIONS[self.activation]
        y_BHWC = act(normalised(self.norm1, self.conv1(x_BHWC), self.dtype))
        y_BHWC = normalised(self.norm2, self.conv2(y_BHWC), self.dtype)
        return act(y_BHWC + (x_BHWC if self.shortcut is None else self.shortcut(x_BHWC)))


class ResNet(nnx.Module):
    """A 3x3 stem, the stages, the mean over positions, a linear output layer; the last two in float32."""

    def __init__(self, spec: specs.ResNet, rngs: nnx.Rngs):
        self.stem = Conv(spec, spec.channels, spec.widths[0], 3, 1, rngs, ParamKind.EMBEDDING)
        self.norm = norm_of(spec, spec.widths[0], rngs)
        blocks, c_in = [], spec.widths[0]
        for stage, c_out in enumerate(spec.widths):
            for block in range(spec.blocks):
                blocks.append(Block(spec, c_in, c_out, 2 if stage and not block else 1, rngs))
                c_in = c_out
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
        for block in self.blocks:
            x_BHWC = block(x_BHWC)
        return self.head(x_BHWC.astype(jnp.float32).mean(axis=(1, 2)))


def make(data: Data, spec: specs.ResNet, scaled: Callable[[jax.Array], jax.Array]) -> Workload:
    """Return the workload: see `classifier`."""
    cost = flops.resnet(spec, data.shapes["train"]["image"][0][1])
    return classifier(data, lambda rngs: ResNet(spec, rngs), spec.dtype, scaled, cost)


def classifier(
    data: Data,
    network: Callable[[nnx.Rngs], nnx.Module],
    dtype: specs.Dtype,
    scaled: Callable[[jax.Array], jax.Array],
    cost: float,
) -> Workload:
    """Return the workload of a network that gives logits float32[B, N] of images, and computes in `dtype`.

    A split is {"image": [n, H, W, C], "label": unsigned[n]}, a batch {"image": float32[B, H, W, C], "label": int32[B]};
    `scaled(images)` makes what evaluation sees of the images as they are stored; `cost` is `Workload.flops`.
    """
    model = Model(network)

    def loss(
        params: Params, model_state: ModelState, batch: Batch, key: Key, train: bool, *, label_smoothing: float
    ) -> tuple[jax.Array, ModelState]:
        del key  # the model draws nothing
        module = model.bind(params, model_state, train=train)
        losses = cross_entropy(module(batch["image"]), batch["label"], label_smoothing)
        return losses, model.state_of(module) if train else model_state

    def evaluate(params: Params, model_state: ModelState, arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        def measures_of(example: dict[str, jax.Array]) -> dict[str, jax.Array]:
            logits_N = model.bind(params, model_state, train=False)(scaled(example["image"][None]))[0]
            label = example["label"].astype(jnp.int32)
            hit = logits_N.argmax() == label
            return {"loss": cross_entropy(logits_N, label), "accuracy": hit.astype(jnp.float32)}

        measures = jax.lax.map(measures_of, dict(arrays), batch_size=EVALUATION_CHUNK[dtype])
        return {name: values.mean() for name, values in measures.items()}

    def sample_targets(params: Params, model_state: ModelState, batch: Batch, key: Key) -> dict[str, jax.Array]:
        # Batch statistics, as in the training loss, whose curvature the draws are for.
        logits_BN = model.bind(params, model_state, train=True)(batch["image"])
        return dict(batch) | {"label": jax.random.categorical(key, logits_BN).astype(jnp.int32)}

    return Workload(
        info=data.info,
        init=model.init,
        param_info=model.param_info,
        splits=data.load,
        batch=data.batch,
        shapes=data.shapes,
        loss=loss,
        evaluate=evaluate,
        loss_options={"label_smoothing": 0.0},
        sample_targets=sample_targets,
        flops=cost,
    )


def norm_of(spec: specs.ResNet, channels: int, rngs: nnx.Rngs, gain: float = 1.0) -> nnx.Module:
    """Return the normalisation that a specification names; `gain` is where its gains start."""
    return normalisation(spec.norm, channels, rngs, groups=spec.groups, gain=gain, virtual_batch=spec.virtual_batch)
