"""Masked autoencoders for accelerators: that of `mae.py` in bf16 (He et al. 2021, arXiv:2111.06377).

Shapes: B images, P patches, V visible ones, X values of a patch, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from harness.api import Batch, Key, ModelState, ParamKind, Params
from harness.program.nnx_adapter import Model, embedding
from harness.program.workload import Data, Workload

from . import attention, flops
from . import spec as specs
from .bf16 import LOW, Block, linear, normalised, over_chunks
from .layers import normalisation
from .mae import drawn_orders, patchify, sine_cosine
from .mae import normalised as normalised_patches

EVALUATION_CHUNK = 1000  # images run at a time


class MAE(nnx.Module):
    """Encoder on the visible patches, decoder on all, as `mae.MAE`; attention by `encoder` and `decoder`'s choice."""

    def __init__(
        self, spec: specs.MAE, rngs: nnx.Rngs, encoder: attention.Implementation, decoder: attention.Implementation
    ):
        values, scale = spec.patch**2 * spec.channels, spec.init_scale

        def blocks(layers: int, width: int, heads: int, which: attention.Implementation) -> nnx.List:
            block = (width, heads, layers, spec.norm, spec.activation, scale, rngs)
            return nnx.List([Block(*block, implementation=which) for _ in range(layers)])

        self.embed = linear(values, spec.width, scale * values**-0.5, rngs, ParamKind.EMBEDDING, bias=True)
        self.encoder = blocks(spec.layers, spec.width, spec.heads, encoder)
        self.encoder_norm = normalisation(spec.norm, spec.width, rngs)
        self.bridge = linear(spec.width, spec.decoder_width, scale * spec.width**-0.5, rngs, bias=True)
        self.mask_token = nnx.Embed(
            1,
            spec.decoder_width,
            embedding_init=nnx.initializers.normal(0.02 * scale),
            embedding_metadata=embedding(),
            rngs=rngs,
        )
        self.decoder = blocks(spec.decoder_layers, spec.decoder_width, spec.decoder_heads, decoder)
        self.decoder_norm = normalisation(spec.norm, spec.decoder_width, rngs)
        std = 0.1 * scale * spec.decoder_width**-0.5
        self.head = linear(spec.decoder_width, values, std, rngs, ParamKind.HEAD, bias=True)

    def __call__(self, visible_BVX: jax.Array, positions: tuple[jax.Array, ...]) -> jax.Array:
        """Return the predictions of the masked patches, float32[B, P - V, X].

        `positions`: those of encoder [B, P, D] and decoder, in the order of the mask.
        """
        B, V, _ = visible_BVX.shape
        encoder_BPD, decoder_BPD = (table.astype(LOW) for table in positions)
        x_BVD = self.embed(visible_BVX) + encoder_BPD[:, :V]
        for block in self.encoder:
            x_BVD = block(x_BVD)
        x_BVD = self.bridge(normalised(self.encoder_norm, x_BVD))
        masked = decoder_BPD.shape[1] - V
        # Broadcast in float32, so that the gradient is summed over all places in float32.
        mask_BMD = jnp.broadcast_to(self.mask_token.embedding[...], (B, masked, x_BVD.shape[-1])).astype(LOW)
        x_BPD = jnp.concatenate([x_BVD, mask_BMD], axis=1) + decoder_BPD
        for block in self.decoder:
            x_BPD = block(x_BPD)
        return self.head(normalised(self.decoder_norm, x_BPD[:, V:])).astype(jnp.float32)


def make(data: Data, spec: specs.MAE, scaled: Callable[[jax.Array], jax.Array]) -> Workload:
    """Return the workload; all is as in `mae.make`."""
    choices = [
        attention.choose(length, heads, width // heads, causal=False)
        for length, heads, width in (
            (spec.visible, spec.heads, spec.width),
            (spec.patches, spec.decoder_heads, spec.decoder_width),
        )
    ]
    model = Model(lambda rngs: MAE(spec, rngs, *(choice.implementation for choice in choices)))
    tables = [sine_cosine(spec.size // spec.patch, width) for width in (spec.width, spec.decoder_width)]

    def losses(
        params: Params, model_state: ModelState, image: jax.Array, order_BP: jax.Array, train: bool
    ) -> jax.Array:
        patches_BPX = jnp.take_along_axis(patchify(image, spec.patch), order_BP[:, :, None], axis=1)
        visible_BVX, masked_BMX = jnp.split(patches_BPX, [spec.visible], axis=1)
        positions = tuple(jnp.asarray(table)[order_BP] for table in tables)
        predicted_BMX = model.bind(params, model_state, train=train)(visible_BVX, positions)
        return jnp.square(predicted_BMX - normalised_patches(masked_BMX)).mean(axis=(1, 2))

    def loss(
        params: Params, model_state: ModelState, batch: Batch, key: Key, train: bool
    ) -> tuple[jax.Array, ModelState]:
        orders = drawn_orders(key, len(batch["image"]), spec)
        return losses(params, model_state, batch["image"], orders, train), model_state

    def evaluate(params: Params, model_state: ModelState, arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        def losses_of(chunk: Mapping[str, jax.Array]) -> jax.Array:
            return losses(params, model_state, scaled(chunk["image"]), chunk["order"].astype(jnp.int32), False)

        return {"loss": over_chunks(losses_of, {k: arrays[k] for k in ("image", "order")}, EVALUATION_CHUNK).mean()}

    return Workload(
        info=data.info,
        init=model.init,
        param_info=model.param_info,
        splits=data.load,
        batch=data.batch,
        shapes=data.shapes,
        loss=loss,
        evaluate=evaluate,
        choices={"encoder attention": str(choices[0]), "decoder attention": str(choices[1])},
        flops=flops.mae(spec),
    )
