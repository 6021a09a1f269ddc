"""The model, loss and data of `resnet_digits`: a ResNet-8 in float32 (He et al. 2015, arXiv:1512.03385, 4.2, n = 1).

Shapes: B images, H height, W width, C channels, N classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from harness.api import Batch, Key, ModelState, ParamKind, Params
from harness.data import digits
from harness.nnx_adapter import Model, conv, matrix, vector
from harness.workload import Splits, Workload, WorkloadInfo

WIDTHS = (16, 32, 64)  # channels of the three stages
N = 10
SHIFT = 1  # pixels
NOISE = 0.3  # standard deviation of the noise on each pixel, where ink is 0 to 1
VIEWS = 2  # noisy copies of each validation and test image, so that their loss depends less on chance
NOISE_SEED = 8  # of the validation and test images' noise, which is drawn once and for all


class Block(nnx.Module):
    """relu(shortcut(x) + bn(conv(relu(bn(conv(x)))))); the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, c_in: int, c_out: int, stride: int, rngs: nnx.Rngs):
        self.conv1 = _conv(c_in, c_out, 3, stride, rngs)
        self.norm1 = _norm(c_out, rngs)
        self.conv2 = _conv(c_out, c_out, 3, 1, rngs)
        # The second gain starts at 0, so a block starts as its shortcut (Goyal et al. 2017, arXiv:1706.02677, 5.1).
        self.norm2 = _norm(c_out, rngs, gain=0.0)
        self.shortcut = _conv(c_in, c_out, 1, stride, rngs) if c_in != c_out else None

    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        y_BHWC = jax.nn.relu(self.norm1(self.conv1(x_BHWC)))
        y_BHWC = self.norm2(self.conv2(y_BHWC))
        return jax.nn.relu(y_BHWC + (x_BHWC if self.shortcut is None else self.shortcut(x_BHWC)))


class ResNet(nnx.Module):
    """A 3x3 stem, three stages of one block with strides 1, 2, 2, the mean over positions, a linear output layer."""

    def __init__(self, rngs: nnx.Rngs):
        self.stem = _conv(1, WIDTHS[0], 3, 1, rngs, ParamKind.EMBEDDING)
        self.norm = _norm(WIDTHS[0], rngs)
        widths = zip((WIDTHS[0], *WIDTHS), WIDTHS, (1, 2, 2), strict=False)
        self.blocks = nnx.List([Block(c_in, c_out, stride, rngs) for c_in, c_out, stride in widths])
        self.head = nnx.Linear(
            WIDTHS[-1],
            N,
            kernel_metadata=matrix(ParamKind.HEAD),
            bias_metadata=vector(ParamKind.BIAS),
            rngs=rngs,
        )

    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        """Return the logits, float32[B, N]."""
        x_BHWC = jax.nn.relu(self.norm(self.stem(x_BHWC)))
        for block in self.blocks:
            x_BHWC = block(x_BHWC)
        return self.head(x_BHWC.mean(axis=(1, 2)))


def make(info: WorkloadInfo) -> Workload:
    """Return the workload. A batch is {"image": float32[B, 8, 8, 1] from 0 to 1, "label": int32[B]}."""
    model = Model(ResNet)

    def loss(
        params: Params, model_state: ModelState, batch: Batch, key: Key, train: bool, *, label_smoothing: float
    ) -> tuple[jax.Array, ModelState]:
        del key  # the model draws nothing
        module = model.bind(params, model_state, train=train)
        losses = _cross_entropy(module(batch["image"]), batch["label"], label_smoothing)
        return losses, model.state_of(module) if train else model_state

    def evaluate(params: Params, model_state: ModelState, arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        logits_BN = model.bind(params, model_state, train=False)(_scaled(arrays["image"]))
        labels_B = arrays["label"].astype(jnp.int32)
        hits_B = logits_BN.argmax(axis=-1) == labels_B
        return {"loss": _cross_entropy(logits_BN, labels_B).mean(), "accuracy": hits_B.astype(jnp.float32).mean()}

    def sample_targets(params: Params, model_state: ModelState, batch: Batch, key: Key) -> dict[str, jax.Array]:
        # Batch statistics, as in the training loss, whose curvature the draws are for.
        logits_BN = model.bind(params, model_state, train=True)(batch["image"])
        return dict(batch) | {"label": jax.random.categorical(key, logits_BN).astype(jnp.int32)}

    return Workload(
        info=info,
        init=model.init,
        param_info=model.param_info,
        splits=splits,
        batch=batch,
        loss=loss,
        evaluate=evaluate,
        loss_options={"label_smoothing": 0.0},
        sample_targets=sample_targets,
    )


def splits() -> Splits:
    """Return the fixed splits, {"image": [n, 8, 8, 1], ink 0 to 16, "label": uint8[n]}; the slice is all of validation.

    Training images are as in the file; validation and test images come VIEWS times each, with noise that never changes.
    """
    parts = digits.splits()
    rng = np.random.Generator(np.random.Philox(key=NOISE_SEED))
    for name in ("validation", "test"):
        images, labels = (np.concatenate([parts[name][field]] * VIEWS) for field in ("image", "label"))
        noise = rng.standard_normal(images.shape, np.float32)
        parts[name] = {"image": images + np.float32(16 * NOISE) * noise, "label": labels}
    return Splits(parts["train"], parts["validation"], parts["validation"], parts["test"])


def batch(train: Mapping[str, jax.Array], index: jax.Array, key: Key) -> dict[str, jax.Array]:
    """Return the examples `index`, int32[B], each moved by up to SHIFT pixels each way, under fresh noise."""
    images = train["image"][index]
    height, width = images.shape[1:3]
    shift_key, noise_key = jax.random.split(key)
    offsets_B2 = jax.random.randint(shift_key, (len(index), 2), 0, 2 * SHIFT + 1)
    padded = jnp.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)))
    rows_BH = offsets_B2[:, :1] + jnp.arange(height)[None]
    columns_BW = offsets_B2[:, 1:] + jnp.arange(width)[None]
    moved = padded[jnp.arange(len(index))[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]]
    noise = NOISE * jax.random.normal(noise_key, moved.shape)
    return {"image": _scaled(moved) + noise, "label": train["label"][index].astype(jnp.int32)}


def _scaled(images: jax.Array) -> jax.Array:
    return images.astype(jnp.float32) / 16


def _cross_entropy(logits_BN: jax.Array, labels_B: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Return the losses in nats, float32[B]; smoothing mixes the label with the uniform distribution."""
    log_p_BN = jax.nn.log_softmax(logits_BN)
    hit_B = jnp.take_along_axis(log_p_BN, labels_B[:, None], axis=-1)[:, 0]
    return -(1 - label_smoothing) * hit_B - label_smoothing * log_p_BN.mean(axis=-1)


def _conv(c_in: int, c_out: int, size: int, stride: int, rngs: nnx.Rngs, kind: ParamKind = ParamKind.CONV) -> nnx.Conv:
    return nnx.Conv(
        c_in,
        c_out,
        (size, size),
        stride,
        use_bias=False,
        kernel_init=_he_normal,
        kernel_metadata=conv(kind),
        rngs=rngs,
    )


def _he_normal(key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
    """He et al. (2015), arXiv:1502.01852, eq. 10. Drawn as a matrix: four axes take XLA twice as long to compile."""
    del out_sharding
    fan_in = math.prod(shape[:-1])
    return (jax.random.normal(key, (fan_in, shape[-1]), dtype) * (2 / fan_in) ** 0.5).reshape(shape)


def _norm(channels: int, rngs: nnx.Rngs, gain: float = 1.0) -> nnx.BatchNorm:
    return nnx.BatchNorm(
        channels,
        momentum=0.9,
        scale_init=nnx.initializers.constant(gain),
        scale_metadata=vector(ParamKind.NORM),
        bias_metadata=vector(ParamKind.BIAS),
        rngs=rngs,
    )
