"""Language models for accelerators: a GPT in bf16 with rotary positions, QK-norm and a loss over a large vocabulary.

Shapes: B windows, T positions, D model width, V tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

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
from .vocabulary import logits, token_losses

EVALUATION_CHUNK = 32  # windows run at a time


class GPT(nnx.Module):
    """Pre-norm blocks; an output layer of its own, which starts near zero. Returns what that layer is given."""

    def __init__(self, spec: specs.GPT, rngs: nnx.Rngs, implementation: attention.Implementation):
        self.tokens = nnx.Embed(
            spec.vocabulary,
            spec.width,
            embedding_init=nnx.initializers.normal(0.5 * spec.init_scale),
            embedding_metadata=embedding(),
            rngs=rngs,
        )
        block = (spec.width, spec.heads, spec.layers, spec.norm, spec.activation, spec.init_scale, rngs)
        self.blocks = nnx.List(
            [Block(*block, causal=True, positions=True, implementation=implementation) for _ in range(spec.layers)]
        )
        self.norm = normalisation(spec.norm, spec.width, rngs)
        std = 0.1 * spec.init_scale * spec.width**-0.5
        self.head = linear(spec.width, spec.vocabulary, std, rngs, ParamKind.HEAD)

    def __call__(self, inputs_BT: jax.Array) -> jax.Array:
        """Return the last layer's normalised output, bf16[B, T, D]."""
        # Looked up in float32, so that the gradients of a token's many places are summed in float32.
        x_BTD = self.tokens.embedding[...][inputs_BT].astype(LOW)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return normalised(self.norm, x_BTD)


def make(data: Data, spec: specs.GPT) -> Workload:
    """Return the workload. A split is {"tokens": uint16[windows, T + 1]}, and for evaluation {"bytes": int32[windows]}
    beside it, of the text that the last T tokens stand for; a batch {"inputs", "targets": int32[B, T]}.

    Evaluation also gives `bits_per_byte`, which does not depend on the tokenizer.
    """
    choice = attention.choose(spec.length, spec.heads, spec.width // spec.heads, causal=True)
    model = Model(lambda rngs: GPT(spec, rngs, choice.implementation))

    def loss(
        params: Params, model_state: ModelState, batch: Batch, key: Key, train: bool, *, label_smoothing: float
    ) -> tuple[jax.Array, ModelState]:
        del key  # the model draws nothing
        module = model.bind(params, model_state, train=train)
        losses_BT = token_losses(module(batch["inputs"]), module.head.kernel[...], batch["targets"], label_smoothing)
        return losses_BT.mean(axis=1), model_state

    def evaluate(params: Params, model_state: ModelState, arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        module = model.bind(params, model_state, train=False)

        def nats_of(chunk: Mapping[str, jax.Array]) -> jax.Array:
            tokens = chunk["tokens"].astype(jnp.int32)
            return token_losses(module(tokens[:, :-1]), module.head.kernel[...], tokens[:, 1:]).sum(axis=1)

        nats = over_chunks(nats_of, {"tokens": arrays["tokens"]}, EVALUATION_CHUNK).sum()
        text_bytes = arrays["bytes"].astype(jnp.float32).sum()
        count = arrays["tokens"].shape[0] * (arrays["tokens"].shape[1] - 1)
        return {"loss": nats / count, "bits_per_byte": nats / math.log(2) / text_bytes}

    def sample_targets(params: Params, model_state: ModelState, batch: Batch, key: Key) -> dict[str, jax.Array]:
        module = model.bind(params, model_state, train=True)

        def draw(given: tuple[jax.Array, Key]) -> jax.Array:
            return jax.random.categorical(given[1], logits(given[0], module.head.kernel[...])).astype(jnp.int32)

        x_BTD = module(batch["inputs"])
        return dict(batch) | {"targets": jax.lax.map(draw, (x_BTD, jax.random.split(key, len(x_BTD))))}

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
        choices={"attention": str(choice)},
        flops=flops.gpt(spec),
    )
