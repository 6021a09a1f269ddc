"""Masked autoencoders (He et al. 2021, arXiv:2111.06377): predict the masked patches of an image from the others.

The tokens stay in the order of the mask, visible ones first: attention does not care, positions are added by gathering
them, and so nothing need be scattered back. No gradient goes through a gather, which XLA would scatter.

Shapes: B images, P patches, V visible ones, X values of a patch, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from harness.api import Batch, Key, ModelState, ParamKind, Params
from harness.program.nnx_adapter import Model, embedding
from harness.program.workload import Data, Workload

from . import attention, flops
from . import spec as specs
from .layers import Block, after, linear, normalisation

EVALUATION_CHUNK: dict[specs.Dtype, int] = {"float32": 100, "bfloat16": 1000}
"""Images run at a time: the activations stay in the cache of a CPU, or fill a GPU."""
VARIANCE_EPS = 1e-6  # added to a patch's variance, as in the paper's code


class MAE(nnx.Module):
    """Encoder on the visible patches, decoder on all: sine-cosine positions, pre-norm blocks, linear prediction.

    `ways`: the implementations of attention in encoder and decoder.
    """

    def __init__(self, spec: specs.MAE, rngs: nnx.Rngs, ways: tuple[attention.Implementation, ...]):
        values, scale, dtype = spec.patch**2 * spec.channels, spec.init_scale, spec.dtype

        def blocks(layers: int, width: int, heads: int, way: attention.Implementation) -> nnx.List:
            return nnx.List([Block(spec, width, heads, layers, rngs, implementation=way) for _ in range(layers)])

        std = scale * values**-0.5
        self.embed = linear(values, spec.width, std, rngs, ParamKind.EMBEDDING, bias=True, dtype=dtype)
        self.encoder = blocks(spec.layers, spec.width, spec.heads, ways[0])
        self.encoder_norm = normalisation(spec.norm, spec.width, rngs)
        std = scale * spec.mup * spec.width**-0.5
        self.bridge = linear(spec.width, spec.decoder_width, std, rngs, bias=True, dtype=dtype)
        self.mask_token = nnx.Embed(
            1,
            spec.decoder_width,
            embedding_init=nnx.initializers.normal(0.02 * scale),
            embedding_metadata=embedding(),
            rngs=rngs,
        )
        self.decoder = blocks(spec.decoder_layers, spec.decoder_width, spec.decoder_heads, ways[1])
        self.decoder_norm = normalisation(spec.norm, spec.decoder_width, rngs)
        std = 0.1 * scale * spec.decoder_width**-0.5 * spec.mup**0.5  # that of the base
        self.head = linear(spec.decoder_width, values, std, rngs, ParamKind.HEAD, bias=True, dtype=dtype)
        self.dtype, self.factor = dtype, 1 / spec.mup

    def __call__(self, visible_BVX: jax.Array, positions: tuple[jax.Array, ...]) -> jax.Array:
        """Return the predictions of the masked patches, float32[B, P - V, X].

        `positions`: those of the encoder [B, V, D] and of the decoder [B, P, D], in the order of the mask.
        """
        B, V, _ = visible_BVX.shape
        encoder_BVD, decoder_BPD = (table.astype(self.dtype) for table in positions)
        x_BVD = self.embed(visible_BVX) + encoder_BVD
        for block in self.encoder:
            x_BVD = block(x_BVD)
        x_BVD = after(self.encoder_norm, self.bridge, x_BVD, self.dtype, self.factor)
        masked = decoder_BPD.shape[1] - V
        # Broadcast in float32, so that the gradient is summed over all places in float32.
        mask_BMD = jnp.broadcast_to(self.mask_token.embedding[...], (B, masked, x_BVD.shape[-1])).astype(self.dtype)
        x_BPD = jnp.concatenate([x_BVD, mask_BMD], axis=1) + decoder_BPD
        for block in self.decoder:
            x_BPD = block(x_BPD)
        predicted_BMX = after(self.decoder_norm, self.head, x_BPD[:, V:], self.dtype, self.factor)
        return predicted_BMX.astype(jnp.float32)


def make(data: Data, spec: specs.MAE, scaled: Callable[[jax.Array], jax.Array]) -> Workload:
    """Return the workload. A split is {"image": [n, H, W, C]}, and for evaluation {"order": uint8[n, P]} beside it.

    A batch is {"image": float32[B, H, W, C]}; the mask is drawn from the key of the loss, and in evaluation from
    `order`, the patches of each image with the visible ones first (`batches.fixed_orders`).
    `scaled(images)` makes the model's input from images as they are stored.
    """
    encoder, decoder = (
        attention.choose(length, heads, width // heads, causal=False, dtype=spec.dtype)
        for length, heads, width in (
            (spec.visible, spec.heads, spec.width),
            (spec.patches, spec.decoder_heads, spec.decoder_width),
        )
    )
    model = Model(lambda rngs: MAE(spec, rngs, (encoder.implementation, decoder.implementation)))
    tables = [sine_cosine(spec.size // spec.patch, width) for width in (spec.width, spec.decoder_width)]

    def losses(
        params: Params, model_state: ModelState, image: jax.Array, order_BP: jax.Array, train: bool
    ) -> jax.Array:
        patches_BPX = taken(patchify(image, spec.patch), order_BP)
        visible_BVX, masked_BMX = jnp.split(patches_BPX, [spec.visible], axis=1)
        orders = (order_BP[:, : spec.visible], order_BP)  # of the encoder's and the decoder's tokens
        positions = tuple(jnp.asarray(t).at[order].get(mode="clip") for t, order in zip(tables, orders, strict=True))
        predicted_BMX = model.bind(params, model_state, train=train)(visible_BVX, positions)
        return jnp.square(predicted_BMX - standardised(masked_BMX)).mean(axis=(1, 2))

    def loss(
        params: Params, model_state: ModelState, batch: Batch, key: Key, train: bool
    ) -> tuple[jax.Array, ModelState]:
        return losses(
            params, model_state, batch["image"], drawn_orders(key, len(batch["image"]), spec), train
        ), model_state

    def evaluate(params: Params, model_state: ModelState, arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        def loss_of(example: dict[str, jax.Array]) -> jax.Array:
            image, order = scaled(example["image"][None]), example["order"][None].astype(jnp.int32)
            return losses(params, model_state, image, order, False)[0]

        examples = {name: arrays[name] for name in ("image", "order")}
        return {"loss": jax.lax.map(loss_of, examples, batch_size=EVALUATION_CHUNK[spec.dtype]).mean()}

    return Workload(
        info=data.info,
        init=model.init,
        param_info=model.param_info,
        splits=data.load,
        batch=data.batch,
        shapes=data.shapes,
        loss=loss,
        evaluate=evaluate,
        choices={"encoder attention": str(encoder), "decoder attention": str(decoder)},
        flops=flops.mae(spec),
    )


def drawn_orders(key: Key, images: int, spec: specs.MAE) -> jax.Array:
    """Return int32[B, P]: a random order of the patches for each image.

    Random numbers are sorted with the number of the patch in their last bits: a CPU sorts one array several times as
    fast as two side by side.
    """
    places = 2 ** (spec.patches - 1).bit_length()
    noise_BP = jax.random.bits(key, (images, spec.patches), jnp.uint32)
    numbered_BP = noise_BP // places * places + jnp.arange(spec.patches, dtype=jnp.uint32)[None]
    return (jnp.sort(numbered_BP, axis=1, stable=False) % places).astype(jnp.int32)


def taken(patches_BPX: jax.Array, places_BN: jax.Array) -> jax.Array:
    """Return float32[B, N, X]: of each image the patches at these places, which all exist."""
    return jnp.take_along_axis(patches_BPX, places_BN[:, :, None], axis=1, mode="clip")


def patchify(images_BHWC: jax.Array, size: int) -> jax.Array:
    """Return float32[B, P, X]: the patches of each image, row by row."""
    B, H, W, C = images_BHWC.shape
    rows, columns = H // size, W // size
    cut = images_BHWC.reshape(B, rows, size, columns, size, C).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(B, rows * columns, size * size * C)


def standardised(patches_BPX: jax.Array) -> jax.Array:
    """Return each patch less its mean, over its standard deviation."""
    mean = patches_BPX.mean(axis=-1, keepdims=True)
    variance = patches_BPX.var(axis=-1, keepdims=True)
    return (patches_BPX - mean) / jnp.sqrt(variance + VARIANCE_EPS)


def sine_cosine(side: int, width: int) -> np.ndarray:
    """Return float32[side^2, width]: the positions of a square grid; a quarter each sine and cosine of row and column.

    Frequencies fall geometrically from 1 to 1/10000 (Vaswani et al. 2017, arXiv:1706.03762, 3.5).
    """
    frequencies = 10_000.0 ** (-np.arange(width // 4) / (width // 4))
    angles = np.arange(side)[:, None] * frequencies[None]
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)  # [side, width / 2]
    rows, columns = np.repeat(waves, side, axis=0), np.tile(waves, (side, 1))
    return np.concatenate([rows, columns], axis=1).astype(np.float32)
