"""Language models: a pre-norm GPT (Radford et al. 2019) on windows of tokens, in float32.

Shapes: B windows, T positions, D model width, V tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from harness.api import Batch, Key, ModelState, ParamKind, Params
from harness.program.nnx_adapter import Model, embedding
from harness.program.workload import Data, Workload

from . import spec as specs
from .batches import shifted
from .layers import Block, cross_entropy, linear, normalisation

EVALUATION_CHUNK = 64  # windows run at a time: the activations stay in the cache of a CPU


class GPT(nnx.Module):
    """Learned positions, pre-norm blocks, an output layer of its own that starts near zero."""

    def __init__(self, spec: specs.GPT, rngs: nnx.Rngs):
        init = nnx.initializers.normal(0.5 * spec.init_scale)
        self.tokens = nnx.Embed(
            spec.vocabulary, spec.width, embedding_init=init, embedding_metadata=embedding(), rngs=rngs
        )
        self.positions = nnx.Embed(
            spec.length, spec.width, embedding_init=init, embedding_metadata=embedding(), rngs=rngs
        )
        block = (spec.width, spec.heads, spec.layers, spec.norm, spec.activation, spec.init_scale)
        self.blocks = nnx.List([Block(*block, rngs, causal=True) for _ in range(spec.layers)])
        self.norm = normalisation(spec.norm, spec.width, rngs)
        std = 0.1 * spec.init_scale * spec.width**-0.5
        self.head = linear(spec.width, spec.vocabulary, std, rngs, ParamKind.HEAD, bias=True)

    def __call__(self, inputs_BT: jax.Array) -> jax.Array:
        """Return the logits, float32[B, T, V]."""
        positions_1TD = self.positions(jnp.arange(inputs_BT.shape[1]))[None]
        x_BTD = self.tokens(inputs_BT) + positions_1TD
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return self.head(self.norm(x_BTD))


def make(data: Data, spec: specs.GPT) -> Workload:
    """Return the workload. A split is {"tokens": uint8[windows, T + 1]}, a batch {"inputs", "targets": int32[B, T]}.

    Where the smallest possible loss is known (`WorkloadInfo.floor`), evaluation also gives the loss `above_floor`.
    """
    model = Model(lambda rngs: GPT(spec, rngs))

    def loss(
        params: Params, model_state: ModelState, batch: Batch, key: Key, train: bool, *, label_smoothing: float
    ) -> tuple[jax.Array, ModelState]:
        del key  # the model draws nothing
        logits_BTV = model.bind(params, model_state, train=train)(batch["inputs"])
        return cross_entropy(logits_BTV, batch["targets"], label_smoothing).mean(axis=1), model_state

    def evaluate(params: Params, model_state: ModelState, arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        def loss_of(tokens_T: jax.Array) -> jax.Array:
            inputs, targets = shifted(tokens_T[None])
            return cross_entropy(model.bind(params, model_state, train=False)(inputs), targets).mean()

        mean = jax.lax.map(loss_of, arrays["tokens"], batch_size=EVALUATION_CHUNK).mean()
        return {"loss": mean} | ({} if data.info.floor is None else {"above_floor": mean - data.info.floor})

    def sample_targets(params: Params, model_state: ModelState, batch: Batch, key: Key) -> dict[str, jax.Array]:
        logits_BTV = model.bind(params, model_state, train=True)(batch["inputs"])
        return dict(batch) | {"targets": jax.random.categorical(key, logits_BTV).astype(jnp.int32)}

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
    )
