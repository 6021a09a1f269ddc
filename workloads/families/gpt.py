"""Language models: a pre-norm GPT (Radford et al. 2019) on windows of tokens.

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

from . import attention, flops, vocabulary
from . import spec as specs
from .batches import shifted
from .layers import Block, cross_entropy, linear, normalisation, normalised, times

EVALUATION_CHUNK: dict[specs.Dtype, int] = {"float32": 64, "bfloat16": 16}
"""Windows run at a time: the activations stay in the cache of a CPU, or the logits of a GPU take 256 MB."""


class GPT(nnx.Module):
    """Learned or rotary positions, pre-norm blocks, an output layer of its own that starts near zero."""

    def __init__(self, spec: specs.GPT, rngs: nnx.Rngs, implementation: attention.Implementation):
        def table(entries: int) -> nnx.Embed:
            init = nnx.initializers.normal(0.5 * spec.init_scale)
            return nnx.Embed(entries, spec.width, embedding_init=init, embedding_metadata=embedding(), rngs=rngs)

        self.tokens = table(spec.vocabulary)
        self.positions = None if spec.rotary else table(spec.length)
        block = (spec, spec.width, spec.heads, spec.layers, rngs)
        self.blocks = nnx.List(
            [Block(*block, implementation=implementation, causal=True, rotary=spec.rotary) for _ in range(spec.layers)]
        )
        self.norm = normalisation(spec.norm, spec.width, rngs)
        std = 0.1 * spec.init_scale * spec.width**-0.5 * spec.mup**0.5  # that of the base
        bias = not spec.chunked
        self.head = linear(spec.width, spec.vocabulary, std, rngs, ParamKind.HEAD, bias=bias, dtype=spec.dtype)
        self.dtype, self.chunked, self.factor = spec.dtype, spec.chunked, 1 / spec.mup

    def __call__(self, inputs_BT: jax.Array) -> jax.Array:
        """Return what the output layer is given, [B, T, D] in the compute dtype."""
        # Looked up in float32, so that the gradients of a token's many places are summed in float32.
        x_BTD = self.embedded(inputs_BT).astype(self.dtype)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return times(normalised(self.norm, x_BTD, self.dtype), self.factor)

    def embedded(self, inputs_BT: jax.Array) -> jax.Array:
        """Return the tokens' vectors, with learned positions if there are any, float32[B, T, D]."""
        x_BTD = self.tokens.embedding[...][inputs_BT]  # without the mask for tokens out of range of `nnx.Embed`
        if self.positions is None:
            return x_BTD
        return x_BTD + self.positions.embedding[: inputs_BT.shape[1]][None]

    def losses(self, inputs_BT: jax.Array, targets_BT: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
        """Return the losses in nats, float32[B, T]."""
        x_BTD = self(inputs_BT)
        if self.chunked:
            return vocabulary.token_losses(x_BTD, self.head.kernel[...], targets_BT, label_smoothing)
        return cross_entropy(self.head(x_BTD).astype(jnp.float32), targets_BT, label_smoothing)

    def sample(self, inputs_BT: jax.Array, key: Key) -> jax.Array:
        """Return tokens drawn by the model's own probabilities, int32[B, T]."""
        x_BTD = self(inputs_BT)
        if not self.chunked:
            return jax.random.categorical(key, self.head(x_BTD).astype(jnp.float32)).astype(jnp.int32)

        def draw(given: tuple[jax.Array, Key]) -> jax.Array:
            logits_TV = vocabulary.logits(given[0], self.head.kernel[...])
            return jax.random.categorical(given[1], logits_TV).astype(jnp.int32)

        return jax.lax.map(draw, (x_BTD, jax.random.split(key, len(x_BTD))))


def make(data: Data, spec: specs.GPT) -> Workload:
    """Return the workload. A split is {"tokens": unsigned[windows, T + 1]}, and for evaluation it may have {"bytes":
    int32[windows]} beside it, of the text that the last T tokens stand for; a batch {"inputs", "targets": int32[B, T]}.

    Evaluation also gives the loss `above_floor` where the smallest possible one is known (`WorkloadInfo.floor`), and
    `bits_per_byte`, which does not depend on the tokenizer, where there are bytes.
    """
    choice = attention.choose(spec.length, spec.heads, spec.width // spec.heads, causal=True, dtype=spec.dtype)
    model = Model(lambda rngs: GPT(spec, rngs, choice.implementation))

    def loss(
        params: Params, model_state: ModelState, batch: Batch, key: Key, train: bool, *, label_smoothing: float
    ) -> tuple[jax.Array, ModelState]:
        del key  # the model draws nothing
        module = model.bind(params, model_state, train=train)
        return module.losses(batch["inputs"], batch["targets"], label_smoothing).mean(axis=1), model_state

    def evaluate(params: Params, model_state: ModelState, arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        module = model.bind(params, model_state, train=False)

        def loss_of(tokens_T: jax.Array) -> jax.Array:
            return module.losses(*shifted(tokens_T[None])).mean()

        tokens = arrays["tokens"]
        mean = jax.lax.map(loss_of, tokens, batch_size=EVALUATION_CHUNK[spec.dtype]).mean()
        found = {"loss": mean}
        if data.info.floor is not None:
            found["above_floor"] = mean - data.info.floor
        if "bytes" in arrays:
            bits = mean * (len(tokens) * (tokens.shape[1] - 1) / math.log(2))
            found["bits_per_byte"] = bits / arrays["bytes"].astype(jnp.float32).sum()
        return found

    def sample_targets(params: Params, model_state: ModelState, batch: Batch, key: Key) -> dict[str, jax.Array]:
        module = model.bind(params, model_state, train=True)
        return dict(batch) | {"targets": module.sample(batch["inputs"], key)}

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
